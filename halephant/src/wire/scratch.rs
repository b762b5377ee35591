//! One read buffer per worker thread, lent for the time between a read and the writes that follow it.

use std::cell::RefCell;

/// Large enough that bulk costs few system calls and goes out in segments as large as they can be, small enough to stay
/// in the second-level cache.
pub const SCRATCH_BYTES: usize = 256 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

/// Lends this thread's buffer to `f`. The borrow cannot outlive a poll, because `f` is not async; nesting is a bug.
pub fn with_scratch<R>(f: impl FnOnce(&mut [u8]) -> R) -> R {
    SCRATCH.with(|buffer| f(&mut buffer.borrow_mut()))
}
