//! What can be wrong with a configuration, one variant per mistake, each saying what would be right.

use crate::auth::hba::HbaError;
use crate::auth::ident::IdentError;
use crate::auth::records::Place;
use crate::net::address::AddressError;
use crate::pool::settings::RoleLimits;
use crate::tls::TlsMode;
use crate::tls::file::FileError;
use crate::tls::identity::IdentityError;
use std::fmt;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("cannot be read: {0}")]
    Unreadable(#[source] std::io::Error),
    #[error("is larger than {0} bytes, which no configuration is")]
    TooLarge(u64),
    #[error("is not UTF-8 from here on")]
    NotUtf8,
    #[error("{message}")]
    Syntax { message: String },
    #[error("{message}, at {at}")]
    SyntaxAt { message: String, at: Quoted },

    #[error("unknown key; {0}")]
    UnknownKey(Suggestion),
    #[error("is missing; it must be {0}")]
    Missing(String),
    #[error("is {found}; it must be {expected}")]
    WrongType { found: &'static str, expected: String },
    #[error("is empty; it must be {0}")]
    Empty(String),
    #[error("is {found}; it must be {}", AnyOf(allowed))]
    NotOneOf { found: Quoted, allowed: Vec<String> },
    #[error("is {found}; it must be a whole number from {min} to {max}")]
    IntegerRange { found: String, min: i64, max: i64 },
    #[error("is no number that PostgreSQL takes; write it as a string")]
    NotANumber,

    #[error("{found} is not a duration ({source}); write for example \"30s\", \"5m\" or \"1h30m\"")]
    Duration { found: Quoted, source: humantime::DurationError },
    #[error(
        "is {found}; it must be from {} to {}",
        humantime::format_duration(*min),
        humantime::format_duration(*max)
    )]
    DurationRange { found: Quoted, min: Duration, max: Duration },
    #[error("{found} is not a number of bytes; write for example \"64KiB\" or \"1MiB\"")]
    ByteSize { found: Quoted },
    #[error("is {found}; it must be from {min} to {max}")]
    ByteSizeRange { found: Quoted, min: &'static str, max: &'static str },
    #[error("{found} {source}; write {expected}")]
    Address { found: Quoted, source: AddressError, expected: &'static str },
    /// The value is not shown: it may hold a password.
    #[error("{0}; write for example \"http://localhost:4317\"")]
    Endpoint(EndpointError),
    #[error("holds a NUL byte, which PostgreSQL's protocol cannot carry")]
    Nul,
    #[error("is {bytes} bytes long; PostgreSQL keeps {max}")]
    TooLong { bytes: usize, max: usize },
    #[error("does not use $1, the name of the user to look up; write for example {example:?}")]
    NoParameter { example: &'static str },
    /// The value is not shown: an MD5 hash is as good as the password.
    #[error("is no verifier; write what PostgreSQL stores, SCRAM-SHA-256$... or md5...")]
    Verifier,
    #[error("{0}")]
    Hba(#[source] HbaError),
    #[error("{0}")]
    Ident(#[source] IdentError),
    #[error("{place}: client certificates can only be checked where server.tls.ca names their authorities")]
    CertificateWithoutTrust { place: Place },
    #[error("{place}: there is no map {map} in the file that server.ident names")]
    NoMap { place: Place, map: Quoted },
    #[error("holds a control character")]
    ControlCharacter,
    #[error("is {0}; it must be permissions in octal such as \"0770\"")]
    FileMode(Quoted),
    #[error("is {0}; it must be a network such as \"10.0.0.0/8\", or an address")]
    Network(Quoted),
    #[error("is {found}, which has bits behind its prefix; write \"{network}\"")]
    NetworkHostBits { found: Quoted, network: ipnet::IpNet },
    #[error("holds the same addresses as {other}")]
    OverlappingNetwork { other: String },
    #[error("has no effect without a Unix socket in listen; remove it or add a directory there")]
    WithoutUnixSocket,
    #[error("is {0}; it must be an absolute path")]
    RelativePath(Quoted),
    #[error(
        "is not a parameter's name; use letters, digits, \"_\" and \"$\", and \".\" before an extension's own"
    )]
    ParameterName,
    #[error("comes to {bytes} bytes as the options of a startup packet; at most {max} fit")]
    OptionsTooLong { bytes: usize, max: usize },

    #[error("listens where {other} does: {address}")]
    DuplicateListen { address: String, other: String },
    #[error("is the name that {other} has")]
    DuplicateName { other: String },
    #[error(
        "is the console's name, and the console has users (admin.users); rename the pool and set its database"
    )]
    ConsolePool,
    #[error("names the same node as {other}")]
    DuplicateNode { other: String },
    #[error(
        "cluster {other} has a pool of this name already, so that clients could not be routed; rename one and \
             set its database"
    )]
    DuplicatePool { other: Quoted },
    #[error("there is no {what}; at least one [{header}] is required")]
    NothingIn { what: &'static str, header: String },
    #[error("this pool has no user {found}; name {}", AnyOf(allowed))]
    AliasNowhere { found: Quoted, allowed: Vec<String> },
    #[error("is the user's own name; remove it or name another user of this pool")]
    AliasOfItself,
    #[error("user {0} is an alias itself; name the user that it stands for")]
    AliasOfAlias(Quoted),
    #[error("allows no connection at all; give primary or replica, or both, a value above 0")]
    NoCapacity,
    #[error("{role} = {min} is above the {above} ({role} = {max}); lower it or raise that")]
    AboveLimit { role: &'static str, min: u32, above: &'static str, max: u32 },
    #[error(
        "the min_connections of its users come to {role} = {sum}, above its max_connections ({role} = {max})"
    )]
    MinSumAboveMax { role: &'static str, sum: u64, max: u32 },
    #[error("is missing; mode = \"{}\" needs it", .0.as_str())]
    NeededBy(TlsMode),
    #[error("is missing; {0} needs it")]
    NeededWith(&'static str),
    #[error("has no effect without TLS; remove it or set mode")]
    WithoutTls,
    #[error("cannot be kept where connections may be in the clear; set mode = \"require\" or above")]
    BindingInTheClear,
    #[error("is {0}; it must be a host name such as \"db.example.com\"")]
    HostName(Quoted),
    #[error("{0}")]
    File(#[source] FileError),
    #[error("{0}")]
    Identity(#[source] IdentityError),
    #[error("cannot be used: {0}")]
    Tls(#[source] rustls::Error),
    #[error("does not apply to a pool in session mode; remove it or set mode = \"transaction\"")]
    ListenModeInSession,
    #[error("does not apply to a pool in session mode; remove it or set mode = \"transaction\"")]
    PinInSession,
    #[error("only pools in transaction mode have a choice here; remove it, or set mode = \"transaction\"")]
    DeferBeginWithoutTransactions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    #[error("is not a URL")]
    NotUrl,
    #[error("is not an http:// or https:// URL")]
    Scheme,
    #[error("has no host")]
    NoHost,
    #[error("has a port that is not a number up to 65535")]
    Port,
    #[error("holds a user name or password, which would not be sent")]
    Credentials,
    #[error("has a path, which OTLP over gRPC does not use")]
    Path,
}

/// `(role, limit)` for the primary and the replica, as the configuration names them.
pub(super) fn by_role(limits: RoleLimits) -> [(&'static str, u32); 2] {
    [("primary", limits.primary), ("replica", limits.replica)]
}

/// A value of the file as an error shows it: escaped, and cut where it would not fit a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quoted(pub String);

impl Quoted {
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_CHARS_MAX: usize = 60;
        match self.0.char_indices().nth(SHOWN_CHARS_MAX) {
            None => write!(f, "{:?}", self.0),
            Some((cut, _)) => write!(f, "{:?}...", &self.0[..cut]),
        }
    }
}

/// `one of "a", "b", "c"`, or just the one there is.
struct AnyOf<'a>(&'a [String]);

impl fmt::Display for AnyOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_MAX: usize = 20;
        if self.0.len() > 1 {
            f.write_str("one of ")?;
        }
        for (index, text) in self.0.iter().take(SHOWN_MAX).enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}", Quoted::new(text))?;
        }
        if self.0.len() > SHOWN_MAX { f.write_str(", ...") } else { Ok(()) }
    }
}

/// What an unknown key may have been meant to be.
#[derive(Debug)]
pub enum Suggestion {
    Nearest(&'static str),
    /// Nothing is near: every key of the section.
    All(Vec<&'static str>),
}

impl Suggestion {
    pub(super) fn new(key: &str, known: &[&'static str]) -> Self {
        const SIMILARITY_MIN: f64 = 0.8;
        let similarity = |name: &str| strsim::jaro_winkler(&key.to_ascii_lowercase(), name);
        let nearest =
            known.iter().copied().max_by(|one, other| similarity(one).total_cmp(&similarity(other)));
        match nearest {
            Some(name) if similarity(name) >= SIMILARITY_MIN => Self::Nearest(name),
            _ => Self::All(known.to_vec()),
        }
    }
}

impl fmt::Display for Suggestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nearest(name) => write!(f, "did you mean {name}?"),
            Self::All(names) => write!(f, "known here: {}", names.join(", ")),
        }
    }
}
