//! A protocol version.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtocolVersion {
    pub major: u16,
    pub minor: u16,
}

impl ProtocolVersion {
    pub const V3_0: Self = Self { major: 3, minor: 0 };
    /// Cancel keys of up to 256 bytes; PostgreSQL 18. There is no 3.1.
    pub const V3_2: Self = Self { major: 3, minor: 2 };

    pub const fn from_code(code: u32) -> Self {
        Self { major: (code >> 16) as u16, minor: code as u16 }
    }

    pub const fn code(self) -> u32 {
        (self.major as u32) << 16 | self.minor as u32
    }

    /// May a BackendKeyData of this version be longer than 4 bytes?
    pub const fn has_long_secret_keys(self) -> bool {
        self.major == 3 && self.minor >= 2
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}
