//! `pam`: the modules of a service under `/etc/pam.d` decide (the PostgreSQL manual, "PAM Authentication").

use super::{Attempt, CheckError, Denied, Granted, PasswordCheck, VerifyFuture};
use crate::auth::hba::Facts;
use crate::auth::method::PamOptions;
use crate::auth::origin::Origin;
use crate::secret::Secret;
use nonstick::items::ItemsMut;
use nonstick::{
    AuthnFlags, ConversationAdapter, ErrorCode, PamShared, Result as PamResult, Transaction,
    TransactionBuilder,
};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use tokio::sync::{Semaphore, oneshot};

/// Services that are asked at a time, over all clients: each one keeps a thread, for two seconds where a module makes
/// those wait who were wrong. Who comes later waits, within the time for its login.
static TURNS: Semaphore = Semaphore::const_new(64);

#[derive(Debug)]
pub(super) struct PamCheck {
    options: PamOptions,
}

/// One login, on its way to the thread that PAM is asked on.
struct Question {
    service: String,
    user: String,
    password: Secret<Vec<u8>>,
    /// Address or name; a client on a Unix socket has none.
    host: Option<String>,
}

impl PamCheck {
    pub(super) fn new(options: &PamOptions) -> Result<Self, CheckError> {
        // libpam takes the end of a path for the service's name, and ends at a NUL byte.
        if options.service.is_empty() || options.service.contains(['/', '\0']) {
            return Err(CheckError::PamService(options.service.clone()));
        }
        Ok(Self { options: options.clone() })
    }

    async fn ask(&self, attempt: Attempt<'_>) -> Result<Granted, Denied> {
        let host = match attempt.origin {
            Origin::Local => None,
            Origin::Address(address) => {
                let mut facts = Facts::default();
                let name = match self.options.use_hostname {
                    true => facts.name_of(address).await.map(str::to_owned),
                    false => None,
                };
                Some(name.unwrap_or_else(|| address.to_string()))
            }
        };
        let question = Question {
            service: self.options.service.clone(),
            user: attempt.user.to_owned(),
            password: attempt.password.clone(),
            host,
        };
        question.ask().await.map_err(|(what, error)| denied(what, error))?;
        Ok(Granted { identities: vec![attempt.user.to_owned()] })
    }
}

impl PasswordCheck for PamCheck {
    fn verify<'a>(&'a self, attempt: Attempt<'a>) -> VerifyFuture<'a> {
        Box::pin(self.ask(attempt))
    }
}

/// What PAM was asked for, and its answer.
type Failure = (&'static str, Option<ErrorCode>);

impl Question {
    /// A thread of its own, and not one of the runtime's: a module that never comes back must not hold the end of the
    /// process. It keeps its turn, even when nobody waits for it any more.
    async fn ask(self) -> Result<(), Failure> {
        let turn = TURNS.acquire().await;
        let (answer, answered) = oneshot::channel();
        let thread = std::thread::Builder::new().name("pam".to_owned()).spawn(move || {
            let _turn = turn;
            let _ = answer.send(self.ask_here());
        });
        thread.map_err(|_| ("thread", None))?;
        answered.await.map_err(|_| ("thread", None))?
    }

    /// Blocks.
    fn ask_here(self) -> Result<(), Failure> {
        let answers = Answers(self.password);
        let mut transaction = TransactionBuilder::new_with_service(&self.service)
            .username(&self.user)
            .build(answers.into_conversation())
            .map_err(|error| ("start", Some(error)))?;
        if let Some(host) = &self.host {
            let host = Some(OsStr::new(host));
            transaction.items_mut().set_remote_host(host).map_err(|error| ("host", Some(error)))?;
        }
        transaction.authenticate(AuthnFlags::empty()).map_err(|error| ("authentication", Some(error)))?;
        transaction.account_management(AuthnFlags::empty()).map_err(|error| ("account", Some(error)))
    }
}

/// Answers the question for the password, and no other.
struct Answers(Secret<Vec<u8>>);

impl ConversationAdapter for Answers {
    fn prompt(&self, _: impl AsRef<OsStr>) -> PamResult<OsString> {
        Err(ErrorCode::ConversationError)
    }

    fn masked_prompt(&self, _: impl AsRef<OsStr>) -> PamResult<OsString> {
        Ok(OsString::from_vec(self.0.expose().clone()))
    }

    fn error_msg(&self, message: impl AsRef<OsStr>) {
        tracing::info!(message = %message.as_ref().display(), "PAM says");
    }

    fn info_msg(&self, message: impl AsRef<OsStr>) {
        tracing::debug!(message = %message.as_ref().display(), "PAM says");
    }
}

/// Whether it was the client that was wrong, or nobody could tell.
fn denied(what: &str, error: Option<ErrorCode>) -> Denied {
    let Some(error) = error else { return Denied::Unavailable(format!("PAM ({what}): no thread")) };
    let text = format!("PAM ({what}): {error}");
    match error {
        ErrorCode::OpenError
        | ErrorCode::SymbolError
        | ErrorCode::ServiceError
        | ErrorCode::SystemError
        | ErrorCode::BufferError
        | ErrorCode::AuthInfoUnavailable
        | ErrorCode::CredentialsUnavailable
        | ErrorCode::NoModuleData
        | ErrorCode::ConversationError
        | ErrorCode::TryAgain
        | ErrorCode::Abort => Denied::Unavailable(text),
        _ => Denied::Refused(text),
    }
}
