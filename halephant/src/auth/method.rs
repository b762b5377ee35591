//! The authentication methods that a rule can name, with their options.

pub mod jwt;
pub mod ldap;
mod options;
#[cfg(test)]
mod tests;

pub use jwt::{JwksSource, JwtOptions};
pub use ldap::{LdapOptions, LdapScheme, LdapScope, LdapSearch, LdapUser};

use options::Options;

/// How a client proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    Trust,
    Reject,
    ScramSha256,
    /// Or SCRAM, where that is what is stored.
    Md5,
    /// The password in cleartext, checked against what is stored.
    Password,
    /// The certificate of the TLS connection.
    Cert {
        map: Option<String>,
    },
    /// The user that the process at the other end of a Unix socket runs as.
    Peer {
        map: Option<String>,
    },
    Ldap(Box<LdapOptions>),
    Pam(PamOptions),
    Jwt(Box<JwtOptions>),
}

/// `pam`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PamOptions {
    /// `pamservice`
    pub service: String,
    /// `pam_use_hostname`: PAM is told the client's host name instead of its address.
    pub use_hostname: bool,
}

/// Which connections a rule is for, as far as its options depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// `local`
    Unix,
    /// `hostssl`
    Tls,
    /// The other `host` words.
    Any,
}

/// `clientcert`: what else a client on TLS has to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCert {
    /// A certificate that a trusted authority has signed.
    VerifyCa,
    /// And its name is the user's.
    VerifyFull,
}

/// `clientname`: which name of a certificate counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientName {
    #[default]
    CommonName,
    /// The whole subject, as RFC 2253 writes it.
    DistinguishedName,
}

/// A method with what its rule says besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    pub method: Method,
    pub client_cert: Option<ClientCert>,
    pub client_name: ClientName,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MethodError {
    #[error("invalid authentication method \"{0}\"")]
    Unknown(String),
    #[error("authentication method \"{0}\" is not supported by halephant")]
    Unsupported(String),
    #[error("authentication method \"{method}\" is only supported on {on} connections")]
    Leg { method: &'static str, on: &'static str },
    #[error("authentication option number {0} is not in name=value format")]
    NoValue(usize),
    #[error("authentication option \"{0}\" is given twice")]
    Twice(String),
    #[error("unrecognized authentication option name: \"{0}\"")]
    UnknownOption(String),
    #[error("authentication option \"{option}\" is not one of method \"{method}\"")]
    NotOfMethod { option: String, method: &'static str },
    #[error("authentication option \"{0}\" is only valid in hostssl rules")]
    NotTls(&'static str),
    #[error("authentication option \"{option}\" has the invalid value \"{value}\"; {expected}")]
    Value { option: &'static str, value: String, expected: &'static str },
    #[error("authentication method \"{method}\" needs the option \"{option}\"")]
    Missing { method: &'static str, option: &'static str },
    #[error("authentication options \"{0}\" and \"{1}\" exclude one another")]
    Exclusive(&'static str, &'static str),
    #[error("clientcert only accepts \"verify-full\" with method \"cert\"")]
    CertNeedsFull,
}

/// PostgreSQL's methods that there is nothing for here.
const UNSUPPORTED: [&str; 7] = ["gss", "sspi", "ident", "radius", "bsd", "oauth", "krb5"];

impl Method {
    /// As a rule names it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Reject => "reject",
            Self::ScramSha256 => "scram-sha-256",
            Self::Md5 => "md5",
            Self::Password => "password",
            Self::Cert { .. } => "cert",
            Self::Peer { .. } => "peer",
            Self::Ldap(_) => "ldap",
            Self::Pam(_) => "pam",
            Self::Jwt(_) => "jwt",
        }
    }

    /// The ident map that leads from who the client has proved to be to who it may log in as.
    pub fn map(&self) -> Option<&str> {
        match self {
            Self::Cert { map } | Self::Peer { map } => map.as_deref(),
            Self::Jwt(options) => options.map.as_deref(),
            _ => None,
        }
    }

    /// The client is asked for its password in cleartext.
    pub const fn asks_cleartext(&self) -> bool {
        matches!(self, Self::Password | Self::Ldap(_) | Self::Pam(_) | Self::Jwt(_))
    }
}

impl Demand {
    /// `words`: the options as the rule has them, each `name=value`.
    pub fn parse<'a>(
        leg: Leg,
        method: &str,
        words: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, MethodError> {
        let mut options = Options::new(words)?;
        let (client_cert, client_name) = certificate(leg, method, &mut options)?;
        let method = match method {
            "trust" => Method::Trust,
            "reject" => Method::Reject,
            "scram-sha-256" => Method::ScramSha256,
            "md5" => Method::Md5,
            "password" => Method::Password,
            "cert" if leg == Leg::Tls => Method::Cert { map: options.take("map") },
            "cert" => return Err(MethodError::Leg { method: "cert", on: "hostssl" }),
            "peer" if leg == Leg::Unix => Method::Peer { map: options.take("map") },
            "peer" => return Err(MethodError::Leg { method: "peer", on: "local" }),
            "ldap" => Method::Ldap(Box::new(LdapOptions::take(&mut options)?)),
            "pam" => Method::Pam(PamOptions::take(&mut options)?),
            "jwt" => Method::Jwt(Box::new(JwtOptions::take(&mut options)?)),
            other if UNSUPPORTED.contains(&other) => return Err(MethodError::Unsupported(other.to_owned())),
            other => return Err(MethodError::Unknown(other.to_owned())),
        };
        options.finish(method.name())?;
        Ok(Self { method, client_cert, client_name })
    }
}

impl PamOptions {
    fn take(options: &mut Options) -> Result<Self, MethodError> {
        let service = options.take("pamservice").unwrap_or_else(|| "postgresql".to_owned());
        let use_hostname = options.take_flag("pam_use_hostname")?;
        Ok(Self { service, use_hostname })
    }
}

fn certificate(
    leg: Leg,
    method: &str,
    options: &mut Options,
) -> Result<(Option<ClientCert>, ClientName), MethodError> {
    let cert = match options.take("clientcert").as_deref() {
        None => None,
        Some(_) if leg != Leg::Tls => return Err(MethodError::NotTls("clientcert")),
        Some("verify-ca") if method == "cert" => return Err(MethodError::CertNeedsFull),
        Some("verify-ca") => Some(ClientCert::VerifyCa),
        Some("verify-full") => Some(ClientCert::VerifyFull),
        Some(value) => {
            let expected = "it must be verify-ca or verify-full";
            return Err(MethodError::Value { option: "clientcert", value: value.to_owned(), expected });
        }
    };
    let name = match options.take("clientname").as_deref() {
        None => ClientName::default(),
        Some(_) if leg != Leg::Tls => return Err(MethodError::NotTls("clientname")),
        Some("CN") => ClientName::CommonName,
        Some("DN") => ClientName::DistinguishedName,
        Some(value) => {
            let expected = "it must be CN or DN";
            return Err(MethodError::Value { option: "clientname", value: value.to_owned(), expected });
        }
    };
    let cert = if method == "cert" { Some(ClientCert::VerifyFull) } else { cert };
    Ok((cert, name))
}
