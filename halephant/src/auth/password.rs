//! Methods that check a cleartext password with somebody else: what they are asked, and what they may answer.

mod jwt;
mod ldap;
#[cfg(feature = "pam")]
mod pam;

pub use jwt::JwksError;

use super::method::Method;
use super::origin::Origin;
use crate::secret::Secret;
use crate::tls::ClientConfigError;
use jwt::JwtCheck;
use ldap::LdapCheck;
#[cfg(feature = "pam")]
use pam::PamCheck;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// One try to log in.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    pub user: &'a str,
    pub database: &'a str,
    /// As the client sent it; never empty, no NUL byte in it.
    pub password: &'a Secret<Vec<u8>>,
    pub origin: Origin,
}

/// The password is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Who the client is to whoever was asked: one of these names must be the user, or be mapped to it by the rule's
    /// `map`. LDAP and PAM were asked for the user itself and answer with it; a token names somebody.
    pub identities: Vec<String>,
}

/// The client gets the same answer for all of these; the words are for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Counts as a failed login.
    #[error("{0}")]
    Refused(String),
    /// Nobody could be asked: says nothing about the password and is not counted against the client.
    #[error("{0}")]
    Unavailable(String),
}

pub type VerifyFuture<'a> = Pin<Box<dyn Future<Output = Result<Granted, Denied>> + Send + 'a>>;

/// Checks cleartext passwords. Made when the HBA file is read and shared by all logins under its rule.
///
/// `verify` may take its time but must not block the thread, and it must not make known users take another class of time than
/// unknown ones. Its caller gives up at the deadline for logins: it has to be cancel safe.
pub trait PasswordCheck: fmt::Debug + Send + Sync {
    fn verify<'a>(&'a self, attempt: Attempt<'a>) -> VerifyFuture<'a>;
}

/// Why a rule's check cannot be made; shown with the file and line of the rule.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error("authentication method \"{0}\" is not in this build")]
    NotBuilt(&'static str),
    #[error(transparent)]
    Tls(#[from] ClientConfigError),
    #[error("\"{0}\" is not an LDAP filter")]
    Filter(String),
    #[error("\"{0}\" is not the name of a PAM service")]
    PamService(String),
    #[error(transparent)]
    Jwks(#[from] JwksError),
}

/// What a rule's method checks passwords with; `None` where it needs nobody else. Called when the HBA file is read:
/// may read files, must not wait for the network.
pub fn check_of(method: &Method) -> Result<Option<Arc<dyn PasswordCheck>>, CheckError> {
    Ok(Some(match method {
        Method::Ldap(options) => Arc::new(LdapCheck::new(options)?),
        #[cfg(feature = "pam")]
        Method::Pam(options) => Arc::new(PamCheck::new(options)?),
        #[cfg(not(feature = "pam"))]
        Method::Pam(_) => return Err(CheckError::NotBuilt(method.name())),
        Method::Jwt(options) => Arc::new(JwtCheck::new(options)?),
        _ => return Ok(None),
    }))
}
