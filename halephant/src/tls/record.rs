//! One buffer per worker thread for records on their way between a socket and their plaintext.

use std::cell::RefCell;

/// Plaintext that is encrypted at once; its records, and a read's worth of them, fit in [`RECORDS_BYTES`].
pub(super) const PLAINTEXT_BYTES_MAX: usize = 64 * 1024;
/// Also the most that a peer can make us keep of a message that is not complete: the largest handshake message has
/// 64 KiB and comes in records of at least some bytes.
pub(super) const RECORDS_BYTES: usize = 96 * 1024;

thread_local! {
    static RECORDS: RefCell<Box<[u8]>> = RefCell::new(vec![0; RECORDS_BYTES].into_boxed_slice());
}

/// Lends this thread's buffer to `f`. Nesting is a bug.
pub(super) fn with_records<R>(f: impl FnOnce(&mut [u8]) -> R) -> R {
    RECORDS.with(|buffer| f(&mut buffer.borrow_mut()))
}
