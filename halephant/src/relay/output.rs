//! What a read of the client's bytes becomes on its way to the server: mostly the same bytes, and only where something
//! is put in, left out or renamed, a copy.

use bytes::BytesMut;
use std::cell::RefCell;

/// Memory that a worker keeps for it.
const KEPT_BYTES_MAX: usize = 256 * 1024;
/// What is put in at most before the server has taken what was written.
pub(super) const PENDING_BYTES_MAX: usize = 1 << 20;

thread_local! {
    static BUFFER: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

#[derive(Debug)]
pub(super) struct Output<'a> {
    input: &'a [u8],
    /// Up to here the input has been looked at.
    pub(super) at: usize,
    /// Up to here it has been copied or left out.
    copied: usize,
    bytes: &'a mut BytesMut,
}

impl<'a> Output<'a> {
    /// Lends this thread's buffer for one walk over `input`.
    pub(super) fn with<R>(input: &[u8], walk: impl FnOnce(Output<'_>) -> R) -> R {
        BUFFER.with(|buffer| {
            let bytes = &mut *buffer.borrow_mut();
            bytes.clear();
            if bytes.capacity() > KEPT_BYTES_MAX {
                *bytes = BytesMut::new();
            }
            walk(Output { input, at: 0, copied: 0, bytes })
        })
    }

    /// The input from where it is looked at on.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.input.get(self.at..).unwrap_or_default()
    }

    /// Where to put in something before the message that is looked at.
    #[inline]
    pub(super) fn put_in(&mut self) -> &mut BytesMut {
        self.bytes.extend_from_slice(self.input.get(self.copied..self.at).unwrap_or_default());
        self.copied = self.at;
        self.bytes
    }

    /// The next `count` bytes of the input do not go to the server.
    #[inline]
    pub(super) fn leave_out(&mut self, count: usize) {
        if self.copied < self.at {
            self.put_in();
        }
        self.at += count;
        self.copied = self.at;
    }

    /// Whether `more` bytes may be put in.
    pub(super) fn has_room(&self, more: usize) -> bool {
        self.bytes.is_empty() || self.bytes.len() + more <= PENDING_BYTES_MAX
    }

    /// What goes to the server.
    #[inline]
    pub(super) fn finish(&mut self) -> &[u8] {
        if self.bytes.is_empty() {
            return self.input.get(self.copied..self.at).unwrap_or_default();
        }
        self.put_in()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn untouched_input_is_not_copied() {
        let input = b"untouched".to_vec();
        Output::with(&input, |mut output| {
            output.at = 9;
            assert_eq!(output.finish().as_ptr(), input.as_ptr());
        });
        Output::with(&input, |mut output| {
            output.leave_out(2);
            output.at = 9;
            assert_eq!(output.finish().as_ptr(), input[2..].as_ptr());
        });
    }

    proptest! {
        #[test]
        fn what_comes_out_is_what_was_passed_and_put_in(steps in prop::collection::vec((0_usize..5, 0_u8..3), 0..20)) {
            let input: Vec<u8> = (0..100).collect();
            let mut expected: Vec<u8> = Vec::new();
            let found = Output::with(&input, |mut output| {
                for (count, kind) in steps {
                    match kind {
                        0 => {
                            expected.extend(&input[output.at..output.at + count]);
                            output.at += count;
                        }
                        1 => output.leave_out(count),
                        _ => {
                            output.put_in().extend_from_slice(&[255; 4][..count.min(4)]);
                            expected.extend(&[255; 4][..count.min(4)]);
                        }
                    }
                }
                output.finish().to_vec()
            });
            prop_assert_eq!(found, expected);
        }
    }
}
