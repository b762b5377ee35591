//! One attempt to log in over TLS, how it ended, and the clients that can make it.

mod program;
mod psql;
mod rustls;

/// libpq's modes, in its manual's order. The list is ours; what each means here is `expected`'s own.
pub use halephant::tls::TlsMode as Mode;
pub use psql::Libpq;

use anyhow::Result;
use halephant_harness::certificates::IdentityFiles;
use std::path::PathBuf;

/// `sslnegotiation`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Negotiation {
    Postgres,
    Direct,
}

impl Negotiation {
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Direct => "direct",
        }
    }
}

/// `channel_binding`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    Disable,
    Prefer,
    Require,
}

impl Binding {
    pub fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
        }
    }
}

/// To the database, as the role and with the password of the stage, at `localhost`.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub port: u16,
    pub mode: Mode,
    pub ca: Option<PathBuf>,
    pub crl: Option<PathBuf>,
    pub identity: Option<IdentityFiles>,
    pub negotiation: Negotiation,
    pub binding: Binding,
}

impl Attempt {
    pub fn at(port: u16, mode: Mode) -> Self {
        let (negotiation, binding) = (Negotiation::Postgres, Binding::Prefer);
        Self { port, mode, ca: None, crl: None, identity: None, negotiation, binding }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Tls,
    Clear,
    Refused,
}

impl End {
    pub fn name(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Clear => "clear",
            Self::Refused => "refused",
        }
    }
}

/// As the client itself sees it, and what it said.
#[derive(Clone, Debug)]
pub struct Ended {
    pub end: End,
    pub said: String,
}

/// What the client's own manual says that it does otherwise than others do.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// libpq: "If a root CA file exists, the behavior of sslmode=require will be the same as that of verify-ca". The weaker
    /// modes, too, check what they can.
    pub checks_below_verify: bool,
    /// libpq: `prefer` goes on in the clear where a handshake fails.
    pub falls_back: bool,
    /// It can be given lists of revoked certificates.
    pub knows_revoked: bool,
    /// It shows a certificate only where the server names the issuer.
    pub shows_by_issuer: bool,
}

/// A client, with what it can be asked for.
pub struct Maker {
    pub name: String,
    pub habits: Habits,
    pub modes: &'static [Mode],
    pub negotiations: &'static [Negotiation],
    pub bindings: &'static [Binding],
    /// In their order.
    pub make: Make,
}

type Make = Box<dyn Fn(&[Attempt]) -> Result<Vec<Ended>> + Sync>;

/// Every client there is here; where CI runs, that is all of them.
pub fn makers() -> Vec<Maker> {
    let mut makers = vec![psql::maker(Libpq::system()), rustls::maker()];
    makers.extend(Libpq::newest().map(psql::maker));
    makers.extend([program::pgjdbc(), program::node_postgres()].into_iter().flatten());
    makers
}
