//! Where a direction stands between message headers (PostgreSQL manual, "Message Formats"): a type byte, then a length
//! that counts itself and not the type byte.

/// Type byte and length.
pub const HEADER_BYTES: u32 = 5;
/// Longest message a walk believes; PostgreSQL's own limit is just under it.
pub const MESSAGE_BYTES_MAX: u32 = 1 << 30;

pub const TERMINATE: u8 = b'X';
pub const READY_FOR_QUERY: u8 = b'Z';
pub const QUERY: u8 = b'Q';
pub const SYNC: u8 = b'S';
pub const FUNCTION_CALL: u8 = b'F';

/// Position in a stream of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Framing {
    /// Bytes of the message in flight that are still to come; 0 between messages.
    pub left: u32,
    /// Bytes of the next header that have been seen, the latest lowest.
    pub header: u64,
    /// How many, at most 4.
    pub header_len: u8,
    /// Type byte of the message in flight or of the last one.
    pub tag: u8,
    /// Transaction status of the last ReadyForQuery; 0 when there was none.
    pub status: u8,
}

impl Framing {
    pub const fn at_boundary(&self) -> bool {
        self.left == 0 && self.header_len == 0
    }

    /// The partial header in stream order; the first `header_len` bytes count.
    pub const fn header_bytes(&self) -> [u8; 4] {
        if self.header_len == 0 {
            return [0; 4];
        }
        let shift = 32 - 8 * (self.header_len as u32 & 7);
        ((self.header << shift) as u32).to_be_bytes()
    }

    #[inline(always)]
    pub const fn pack(&self) -> [u64; 2] {
        let first = (self.header & 0xff_ffff_ffff)
            | ((self.header_len as u64) << 40)
            | ((self.tag as u64) << 48)
            | ((self.status as u64) << 56);
        [first, self.left as u64]
    }

    #[inline(always)]
    pub const fn unpack(words: [u64; 2]) -> Self {
        Self {
            left: words[1] as u32,
            header: words[0] & 0xff_ffff_ffff,
            header_len: (words[0] >> 40) as u8,
            tag: (words[0] >> 48) as u8,
            status: (words[0] >> 56) as u8,
        }
    }
}

/// Type byte of a whole header held as five bytes, the latest lowest.
#[inline(always)]
pub const fn tag_of(header: u64) -> u8 {
    (header >> 32) as u8
}
