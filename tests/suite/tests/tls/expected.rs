//! How an attempt has to end, by what the manuals of PostgreSQL and of the clients say, and by nothing that halephant does:
//! "SSL Support" of libpq for whoever connects, "Secure TCP/IP Connections with SSL" and "pg_hba.conf" for whoever accepts.

use super::attempt::{Attempt, Binding, End, Habits, Mode, Negotiation};

/// What a certificate is worth to somebody with the CA and its list of revoked certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Certificate {
    Good,
    Expired,
    /// Of a client: another user's.
    WrongName,
    Revoked,
    SelfSigned,
}

impl Certificate {
    pub const ALL: [Self; 5] = [Self::Good, Self::Expired, Self::WrongName, Self::Revoked, Self::SelfSigned];

    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Expired => "expired",
            Self::WrongName => "wrong name",
            Self::Revoked => "revoked",
            Self::SelfSigned => "self-signed",
        }
    }

    /// verify-ca: "the server certificate is issued by a trusted certificate authority".
    fn has_chain(self, knows_revoked: bool) -> bool {
        match self {
            Self::Good | Self::WrongName => true,
            Self::Revoked => !knows_revoked,
            Self::Expired | Self::SelfSigned => false,
        }
    }

    /// verify-full: and "the requested server host name matches that in the certificate".
    fn has_name(self) -> bool {
        self != Self::WrongName
    }
}

/// Whoever accepts: its mode is libpq's, seen from the other end.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    pub mode: Mode,
    pub certificate: Certificate,
    /// It has a CA and a list for the certificates of clients.
    pub has_ca: bool,
}

impl Server {
    /// PostgreSQL with `ssl = on` and rules for `host`, or with `ssl = off`.
    pub fn postgres(certificate: Option<Certificate>) -> Self {
        let mode = if certificate.is_some() { Mode::Prefer } else { Mode::Disable };
        Self { mode, certificate: certificate.unwrap_or(Certificate::Good), has_ca: false }
    }

    fn takes_tls(self) -> bool {
        self.mode != Mode::Disable
    }

    fn takes_clear(self) -> bool {
        self.mode < Mode::Require
    }

    /// What the client shows: from `verify-ca` on there has to be a certificate; one that is shown has to be good.
    fn takes(self, shown: Option<Certificate>) -> bool {
        match (self.mode, shown) {
            (Mode::VerifyFull, Some(certificate)) => certificate.has_chain(true) && certificate.has_name(),
            (Mode::VerifyFull | Mode::VerifyCa, None) => false,
            (_, Some(certificate)) => !self.has_ca || certificate.has_chain(true),
            (_, None) => true,
        }
    }
}

/// `shown`: what the certificate in the attempt is.
pub fn expected(server: Server, attempt: &Attempt, shown: Option<Certificate>, habits: &Habits) -> End {
    // "require means that the connection must employ channel binding", which only TLS has.
    let clear = match server.takes_clear() && attempt.binding != Binding::Require {
        true => End::Clear,
        false => End::Refused,
    };
    let tls = match server.takes_tls()
        && trusts(server.certificate, attempt, habits)
        && server.takes(presented(shown, habits))
    {
        true => End::Tls,
        false => End::Refused,
    };
    if attempt.negotiation == Negotiation::Direct {
        // "sslnegotiation=direct is only allowed with sslmode=require or higher"
        return if attempt.mode < Mode::Require { End::Refused } else { tls };
    }
    match attempt.mode {
        Mode::Disable => clear,
        // "first try a non-SSL connection; if that fails, try an SSL connection": one that the server refuses. A client
        // that gives up by itself, for want of a binding, does not come back.
        Mode::Allow if server.takes_clear() => clear,
        Mode::Allow => tls,
        // "first try an SSL connection; if that fails, try a non-SSL connection"
        Mode::Prefer if !server.takes_tls() => clear,
        Mode::Prefer if tls == End::Refused && habits.falls_back => clear,
        Mode::Prefer | Mode::Require | Mode::VerifyCa | Mode::VerifyFull => tls,
    }
}

/// Whether the client is content with the server's certificate.
fn trusts(certificate: Certificate, attempt: &Attempt, habits: &Habits) -> bool {
    let knows_revoked = habits.knows_revoked && attempt.crl.is_some();
    let has_chain = attempt.ca.is_some() && certificate.has_chain(knows_revoked);
    match attempt.mode {
        Mode::VerifyFull => has_chain && certificate.has_name(),
        Mode::VerifyCa => has_chain,
        _ if habits.checks_below_verify && attempt.ca.is_some() => has_chain,
        _ => true,
    }
}

/// What the server gets to see of it.
fn presented(shown: Option<Certificate>, habits: &Habits) -> Option<Certificate> {
    shown.filter(|certificate| !(habits.shows_by_issuer && *certificate == Certificate::SelfSigned))
}
