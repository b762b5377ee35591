//! `ldap`: a directory server is asked whether the password is right (the PostgreSQL manual, "LDAP Authentication").

mod connection;
mod message;

use super::{Attempt, CheckError, Denied, Granted, PasswordCheck, VerifyFuture};
use crate::auth::method::{LdapOptions, LdapScheme, LdapSearch, LdapUser};
use crate::tls::{Authorities, client_config};
use connection::{Connection, Found, LdapError};
use ldap_parser::ldap::ResultCode;
use ldap3::{dn_escape, ldap_escape};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// To connect to one of the servers, its handshake included.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// For everything; the time for a login may be longer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);
/// Connections at a time for one rule; who comes later waits, within the time for its login.
const CONNECTIONS_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct LdapCheck {
    options: LdapOptions,
    tls: Option<Tls>,
    turns: Semaphore,
}

/// What a connection is encrypted with.
struct Tls(TlsConnector);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl LdapCheck {
    pub(super) fn new(options: &LdapOptions) -> Result<Self, CheckError> {
        let encrypts = options.start_tls || options.scheme == LdapScheme::Ldaps;
        let tls = match encrypts {
            true => Some(Tls(TlsConnector::from(Arc::new(client_config(Authorities::of(
                options.ca.as_deref(),
            ))?)))),
            false => None,
        };
        if let LdapUser::Search(search) = &options.user
            && message::filter(&filter_for(search, "a")).is_none()
        {
            return Err(CheckError::Filter(search.filter.clone()));
        }
        Ok(Self { options: options.clone(), tls, turns: Semaphore::new(CONNECTIONS_MAX) })
    }

    async fn ask(&self, attempt: Attempt<'_>) -> Result<Granted, Denied> {
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await;
        let password = attempt.password.expose();
        if password.is_empty() {
            // A server takes that for an anonymous login, and says yes.
            return Err(Denied::Refused("the password is empty".to_owned()));
        }
        let mut connection = self.connect().await?;
        let found = match &self.options.user {
            LdapUser::Bind { prefix, suffix } => Ok(format!("{prefix}{}{suffix}", dn_escape(attempt.user))),
            LdapUser::Search(search) => find(&mut connection, search, attempt.user).await?,
        };
        let dn = match (&found, &self.options.user) {
            (Err(_), LdapUser::Search(search)) => nobody(search),
            (Err(_), LdapUser::Bind { .. }) => String::new(),
            (Ok(dn), _) => dn.clone(),
        };
        let outcome = connection.bind(&dn, password).await;
        connection.unbind().await;
        found?;
        let (code, text) = outcome?;
        match code {
            // Without a name, too, a login is an anonymous one.
            ResultCode::Success if !dn.is_empty() => {
                Ok(Granted { identities: vec![attempt.user.to_owned()] })
            }
            code if is_about_server(code) => {
                Err(LdapError::Result { what: "login", code: code.0, text }.into())
            }
            code => Err(Denied::Refused(format!("the server refused \"{dn}\" ({}): {text}", code.0))),
        }
    }

    /// To the first server that can be reached.
    async fn connect(&self) -> Result<Connection, Denied> {
        let mut failures = Vec::new();
        for server in &self.options.servers {
            let opening = Connection::open(&self.options, self.tls.as_ref().map(|tls| &tls.0), server);
            let error = match timeout(CONNECT_TIME_MAX, opening).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => error,
                Err(_) => LdapError::Slow,
            };
            failures.push(format!("{server} port {}: {error}", self.options.port));
        }
        Err(Denied::Unavailable(format!("no LDAP server can be asked: {}", failures.join("; "))))
    }
}

impl PasswordCheck for LdapCheck {
    fn verify<'a>(&'a self, attempt: Attempt<'a>) -> VerifyFuture<'a> {
        Box::pin(async move {
            match timeout(ANSWER_TIME_MAX, self.ask(attempt)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(LdapError::Slow.into()),
            }
        })
    }
}

/// Logs in as who may search, and looks for the user's name. The inner error is for a user who is not there: told when
/// the password has been tried all the same, so that it takes as many questions.
async fn find(
    connection: &mut Connection,
    search: &LdapSearch,
    user: &str,
) -> Result<Result<String, Denied>, Denied> {
    if let Some(dn) = &search.bind_dn {
        let password = search.bind_password.as_ref().map_or(&[][..], |password| password.expose().as_bytes());
        match connection.bind(dn, password).await? {
            (ResultCode::Success, _) => {}
            (code, text) => {
                return Err(LdapError::Result { what: "login for the search", code: code.0, text }.into());
            }
        }
    }
    let filter = filter_for(search, user);
    let encoded = message::filter(&filter).ok_or(LdapError::Filter)?;
    let refused = |what: &str| Err(Denied::Refused(format!("{what} with {filter}")));
    Ok(match connection.search(&search.base_dn, search.scope, &encoded).await? {
        Found::One(dn) => Ok(dn),
        Found::Nobody => refused("the directory has no entry"),
        Found::Several => refused("the directory has several entries"),
    })
}

fn filter_for(search: &LdapSearch, user: &str) -> String {
    search.filter.replace("$username", &ldap_escape(user))
}

/// A name that no entry has.
fn nobody(search: &LdapSearch) -> String {
    format!("cn=halephant knows no such user,{}", search.base_dn)
}

/// Codes that say nothing about the user or the password (RFC 4511, appendix A).
fn is_about_server(code: ResultCode) -> bool {
    matches!(
        code,
        ResultCode::OperationsError
            | ResultCode::ProtocolError
            | ResultCode::TimeLimitExceeded
            | ResultCode::AuthMethodNotSupported
            | ResultCode::StrongerAuthRequired
            | ResultCode::Referral
            | ResultCode::AdminLimitExceeded
            | ResultCode::ConfidentialityRequired
            | ResultCode::SaslBindInProgress
            | ResultCode::Busy
            | ResultCode::Unavailable
            | ResultCode::Other
    )
}

impl From<LdapError> for Denied {
    fn from(error: LdapError) -> Self {
        Self::Unavailable(error.to_string())
    }
}
