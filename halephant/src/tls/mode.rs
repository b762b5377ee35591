//! `sslmode` in libpq's words, and the oldest version that is spoken.

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};

/// How much one side insists on TLS and on knowing the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsMode {
    #[default]
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl TlsMode {
    pub const ALL: [Self; 6] =
        [Self::Disable, Self::Allow, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    /// A connection in the clear is out of the question.
    pub fn is_mandatory(self) -> bool {
        self >= Self::Require
    }

    /// The other side's certificate must be there and be signed by somebody trusted.
    pub fn needs_trust(self) -> bool {
        self >= Self::VerifyCa
    }

    /// The certificate must also be for the right name.
    pub fn checks_name(self) -> bool {
        self == Self::VerifyFull
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinimumVersion {
    #[default]
    Tls12,
    Tls13,
}

impl MinimumVersion {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        }
    }

    pub(super) fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static FROM_12: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
        static FROM_13: [&SupportedProtocolVersion; 1] = [&TLS13];
        match self {
            Self::Tls12 => &FROM_12,
            Self::Tls13 => &FROM_13,
        }
    }
}
