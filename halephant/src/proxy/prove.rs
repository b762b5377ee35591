//! A client proves who it is: the rule that is for it, what the rule demands, and what comes of it.

mod error;

pub use error::ProofError;

use super::state::{Served, State};
use crate::auth::hba::{Facts, Rule, Subject};
use crate::auth::method::{ClientCert, ClientName};
use crate::auth::password::{Attempt, Denied, PasswordCheck};
use crate::auth::throttle::{Admission, Candidate, Realm};
use crate::auth::{self, AuthError, Method, Origin, Stored};
use crate::pool::UserIndex;
use crate::secret::Secret;
use crate::server::{Credentials, LearnedKeys};
use crate::startup::StartupRequest;
use crate::tls::ClientCertificate;
use crate::wire::{MessageBuffer, Stream};
use bytes::BytesMut;
use halephant_protocol::scram::{ClientKeys, Verifier};
use std::num::NonZeroU32;
use std::time::{Duration, Instant, SystemTime};

/// The answer to a failed login leaves at a multiple of this time after the password was asked for: what was looked up on the
/// way, and in what, does not show.
const FAILURE_STEP: Duration = Duration::from_millis(20);

/// As messages to clients name the method `cert`.
const CERTIFICATE: &str = "certificate";

/// Whom the client wants to be, as far as the configuration knows.
#[derive(Clone, Copy)]
pub(super) enum Account<'s> {
    Pool(&'s Served, UserIndex),
    Console,
    Unknown,
}

/// One client that has yet to prove who it is.
pub(super) struct Login<'a> {
    state: &'a State,
    stream: &'a mut Stream,
    buffer: &'a mut MessageBuffer,
    /// What the client is told along with its welcome.
    out: &'a mut BytesMut,
    request: &'a StartupRequest,
    account: Account<'a>,
    /// What the password would have been compared with could not be had: a failure says nothing about the password.
    unavailable: bool,
    /// Of whoever stands in for a user of whom nothing is stored.
    mock_iterations: Option<NonZeroU32>,
}

/// What rules are looked for with.
fn origin(request: &StartupRequest) -> Origin {
    request.origin.ip().map_or(Origin::Local, Origin::of_address)
}

impl<'a> Login<'a> {
    pub(super) fn new(
        state: &'a State,
        stream: &'a mut Stream,
        buffer: &'a mut MessageBuffer,
        out: &'a mut BytesMut,
        request: &'a StartupRequest,
        account: Account<'a>,
    ) -> Self {
        Self { state, stream, buffer, out, request, account, unavailable: false, mock_iterations: None }
    }

    /// Returns what servers may be logged in to with. Every way it comes out is counted.
    pub(super) async fn prove(mut self) -> Result<Credentials, ProofError> {
        let metrics = &self.state.shared.metrics;
        let outcome = self.by_rule().await;
        match &outcome {
            Ok(_) => metrics.logins.add(1),
            Err(error) => error.kind().into_iter().for_each(|kind| metrics.login_failures.add(kind, 1)),
        }
        outcome
    }

    async fn by_rule(&mut self) -> Result<Credentials, ProofError> {
        let StartupRequest { user, database, tls, .. } = self.request;
        let subject = Subject {
            database,
            user,
            origin: origin(self.request),
            tls: tls.is_some(),
            replicates: super::login::is_physical(self.request),
        };
        let rules = &self.state.config.server.auth.rules;
        let Some(rule) = rules.find(&subject, &mut Facts::default()).await else {
            return Err(ProofError::no_entry(&subject));
        };
        let (place, method) = (&rule.place, rule.demand.method.name());
        tracing::debug!(user, database, rule = %place, method, "the rule for a client");
        if rule.demand.client_cert.is_some() && self.certificate().is_none() {
            return Err(AuthError::NoCertificate.into());
        }
        let proof = match &rule.demand.method {
            Method::Reject => return Err(ProofError::rejected(&subject)),
            Method::Trust => Credentials::default(),
            Method::Cert { map } => self.by_certificate(rule, map.as_deref())?,
            Method::Peer { map } => self.by_peer(map.as_deref()).await?,
            _ => self.by_password(rule).await?,
        };
        if rule.demand.client_cert == Some(ClientCert::VerifyFull) && !matches!(method, "cert") {
            // PostgreSQL, too, says that it was the method that failed.
            self.by_certificate(rule, None).map_err(|_| failure(&rule.demand.method, user))?;
        }
        match self.account {
            // Trusted or known to somebody else, but not a user of ours.
            Account::Unknown => Err(ProofError::NoRole(user.clone())),
            Account::Pool(..) | Account::Console => Ok(proof),
        }
    }

    fn certificate(&self) -> Option<&ClientCertificate> {
        self.request.tls.as_ref()?.certificate.as_ref()
    }

    fn by_certificate(&self, rule: &Rule, map: Option<&str>) -> Result<Credentials, AuthError> {
        let name = self.certificate().and_then(|certificate| match rule.demand.client_name {
            ClientName::CommonName => certificate.common_name.as_deref(),
            ClientName::DistinguishedName => certificate.subject.as_deref(),
        });
        let user = &self.request.user;
        match name.filter(|name| !name.is_empty()) {
            Some(name) if self.may_be(map, name) => return Ok(Credentials::default()),
            Some(name) => tracing::info!(user, name, "the certificate is not for the user"),
            None => tracing::info!(user, "the certificate has no name"),
        }
        Err(AuthError::Method { method: CERTIFICATE, user: user.clone() })
    }

    async fn by_peer(&self, map: Option<&str>) -> Result<Credentials, AuthError> {
        let user = &self.request.user;
        let failed = || failure(&Method::Peer { map: None }, user);
        let peer = self.request.origin.peer().ok_or_else(failed)?;
        match peer.user_name().await {
            Ok(name) if self.may_be(map, &name) => Ok(Credentials::default()),
            Ok(name) => {
                tracing::info!(user, name, "the user at the other end is not this user");
                Err(failed())
            }
            Err(error) => {
                tracing::info!(user, %error, "the user at the other end is not known");
                Err(failed())
            }
        }
    }

    fn may_be(&self, map: Option<&str>, identity: &str) -> bool {
        self.state.config.server.auth.maps.permits(map, identity, &self.request.user)
    }

    /// Throttled, and with every failure at the same pace.
    async fn by_password(&mut self, rule: &Rule) -> Result<Credentials, ProofError> {
        let (state, request) = (self.state, self.request);
        let settings = &state.config.server.auth.throttle;
        let realm = match (&rule.check, state.served(&request.database)) {
            (Some(_), _) => Realm::External,
            (None, Some(served)) => Realm::Cluster(&served.cluster.cluster.name),
            (None, None) => Realm::Elsewhere,
        };
        let candidate = Candidate { realm, user: &request.user, origin: origin(request) };
        let mut admission = state.shared.throttle.admit(settings, &candidate, Instant::now())?;
        if !admission.delay.is_zero() {
            tokio::time::sleep(admission.delay).await;
        }
        let began = Instant::now();
        let outcome = match &rule.check {
            Some(check) => self.ask(check.as_ref(), &rule.demand.method, &mut admission).await,
            None => self.compare(&rule.demand.method, &mut admission).await,
        };
        match &outcome {
            Ok(_) => admission.succeeded(Instant::now()),
            Err(error) if error.is_failure() => {
                match error.is_guess() && !self.unavailable {
                    true => admission.failed(Instant::now()),
                    false => drop(admission),
                }
                let steps = began.elapsed().as_millis() / FAILURE_STEP.as_millis() + 1;
                let told = FAILURE_STEP.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX));
                tokio::time::sleep_until((began + told).into()).await;
            }
            Err(_) => {}
        }
        outcome
    }

    /// The password is checked by somebody else.
    async fn ask(
        &mut self,
        check: &dyn PasswordCheck,
        method: &Method,
        admission: &mut Admission<'_>,
    ) -> Result<Credentials, ProofError> {
        let StartupRequest { user, database, .. } = self.request;
        let password = auth::ask_cleartext(self.stream, self.buffer).await?;
        admission.judge().await?;
        let attempt = Attempt { user, database, password: &password, origin: origin(self.request) };
        let failed = |reason: String, guess| ProofError::External {
            method: shown(method),
            user: user.clone(),
            reason,
            guess,
        };
        match check.verify(attempt).await {
            Ok(granted) if granted.identities.iter().any(|name| self.may_be(method.map(), name)) => {
                Ok(self.passed_on(password))
            }
            Ok(granted) => Err(failed(format!("nobody of {:?} is this user", granted.identities), true)),
            Err(Denied::Refused(reason)) => Err(failed(reason, true)),
            Err(Denied::Unavailable(reason)) => Err(failed(reason, false)),
        }
    }

    /// Whether a password in cleartext may be used at servers.
    fn passed_on(&self, password: Secret<Vec<u8>>) -> Credentials {
        let password = match self.account {
            Account::Pool(served, _) if served.password_passthrough => Some(password),
            _ => None,
        };
        Credentials { password, ..Credentials::default() }
    }

    /// The password is compared with what is stored of it.
    async fn compare(
        &mut self,
        method: &Method,
        admission: &mut Admission<'_>,
    ) -> Result<Credentials, ProofError> {
        let outcome = match method {
            Method::Password => self.compare_cleartext(admission).await,
            method => self.exchange(method, admission).await,
        };
        if outcome.is_err()
            && !self.unavailable
            && let Some((served, index)) = self.looked_up()
        {
            served.cluster.verifiers.suspect(served.pool.user_settings(index).role());
        }
        Ok(outcome?)
    }

    async fn exchange(
        &mut self,
        method: &Method,
        admission: &mut Admission<'_>,
    ) -> Result<Credentials, AuthError> {
        let request = self.request;
        let user = &request.user;
        let verifier = match self.stored().await {
            Some(Stored::Scram(verifier)) => verifier,
            Some(Stored::Md5(stored)) if *method == Method::Md5 => {
                auth::authenticate_md5(self.stream, self.buffer, user, &stored, admission).await?;
                return Ok(Credentials { md5: Some(stored), ..Credentials::default() });
            }
            Some(Stored::Md5(_)) => {
                tracing::warn!(
                    user,
                    "the password is stored as an MD5 hash, and the rule says scram-sha-256"
                );
                self.mock()
            }
            None => self.mock(),
        };
        let end_point = self.request.end_point();
        let (stream, buffer, out) = (&mut *self.stream, &mut *self.buffer, &mut *self.out);
        let keys =
            auth::authenticate(stream, buffer, out, user, verifier.clone(), end_point, admission).await?;
        Ok(Credentials { keys: Some(learned(&verifier, keys)), ..Credentials::default() })
    }

    async fn compare_cleartext(&mut self, admission: &mut Admission<'_>) -> Result<Credentials, AuthError> {
        let request = self.request;
        let user = &request.user;
        let password = auth::ask_cleartext(self.stream, self.buffer).await?;
        let stored = self.stored().await;
        admission.judge().await?;
        let role = match self.account {
            Account::Pool(served, index) => served.pool.user_settings(index).role(),
            _ => user,
        };
        let checked = auth::check_cleartext(&password, role, stored.as_ref(), self.mock()).await;
        let keys = checked.ok_or_else(|| AuthError::Failed { user: user.clone() })?;
        let proof = self.passed_on(password);
        Ok(match (stored, keys) {
            (Some(Stored::Scram(verifier)), Some(keys)) => {
                Credentials { keys: Some(learned(&verifier, keys)), ..proof }
            }
            (Some(Stored::Md5(stored)), _) => Credentials { md5: Some(stored), ..proof },
            _ => proof,
        })
    }

    /// Fits no password, and looks like one that does.
    fn mock(&self) -> Verifier {
        self.state.shared.mock_verifier(&self.request.user, self.mock_iterations)
    }

    /// What can be compared with; remembers where nobody could be asked.
    fn of(&mut self, known: Known) -> Option<Stored> {
        self.unavailable |= matches!(known, Known::Unavailable);
        match known {
            Known::Stored(stored) => Some(stored),
            Known::Useless | Known::Nobody | Known::Unavailable => None,
        }
    }

    /// Whose verifier a login of a pool's user leads to. An unknown user is treated like a known one, which costs the same.
    fn looked_up(&self) -> Option<(&'a Served, UserIndex)> {
        match self.account {
            Account::Pool(served, index) => Some((served, index)),
            Account::Unknown => {
                let stand_in = self.state.stand_in(&self.request.database, &self.request.user);
                stand_in.map(|(served, index)| (&**served, index))
            }
            Account::Console => None,
        }
    }

    /// What the password can be compared with.
    async fn stored(&mut self) -> Option<Stored> {
        let request = self.request;
        let user = &request.user;
        let stored = match self.account {
            Account::Unknown => {
                tracing::info!(user, database = request.database, "the user is not configured");
                None
            }
            Account::Console => {
                // The first cluster that knows the role decides. One that cannot be asked may be it: another one's role of
                // the same name is somebody else's.
                let mut known = Known::Nobody;
                for cluster in &self.state.clusters {
                    known = lookup(&cluster.verifiers, user, user).await;
                    if !matches!(known, Known::Nobody) {
                        break;
                    }
                }
                self.of(known)
            }
            Account::Pool(served, index) => {
                let role = served.pool.user_settings(index).role();
                let known = lookup(&served.cluster.verifiers, user, role).await;
                self.of(known)
            }
        };
        match &stored {
            Some(Stored::Scram(verifier)) => self.state.shared.saw_verifier(verifier),
            Some(Stored::Md5(_)) => {}
            None => self.stand_in().await,
        }
        stored
    }

    /// Does for a user of whom nothing is stored what is done for others, and remembers what it is to look like.
    async fn stand_in(&mut self) {
        let request = self.request;
        let Some((served, index)) = self.state.stand_in(&request.database, &request.user) else { return };
        match served.cluster.verifiers.lookup(served.pool.user_settings(index).role()).await {
            Ok(lookup) => {
                if let Ok(Stored::Scram(verifier)) = lookup.usable(SystemTime::now()) {
                    self.mock_iterations = Some(verifier.iterations());
                }
            }
            // As for those that are known: nobody can say that the password is wrong.
            Err(error) => {
                tracing::debug!(%error, "what others have stored is not known");
                self.unavailable = true;
            }
        }
    }
}

/// What a cluster says of a role.
enum Known {
    Stored(Stored),
    /// There is such a role, and nothing that its password could be compared with.
    Useless,
    Nobody,
    /// It could not be asked.
    Unavailable,
}

/// The log has why there is nothing.
async fn lookup(verifiers: &auth::Verifiers, user: &str, role: &str) -> Known {
    let (known, reason) = match verifiers.lookup(role).await {
        Ok(lookup) => match lookup.usable(SystemTime::now()) {
            Ok(stored) => return Known::Stored(stored.clone()),
            Err(reason) => {
                (if lookup.is_of_nobody() { Known::Nobody } else { Known::Useless }, reason.to_owned())
            }
        },
        Err(error) => (Known::Unavailable, error.to_string()),
    };
    tracing::warn!(user, role, reason, "the user has no password that could be compared");
    known
}

fn learned(verifier: &Verifier, keys: ClientKeys) -> LearnedKeys {
    LearnedKeys { keys, salt: verifier.salt().to_vec(), iterations: verifier.iterations().get() }
}

/// As messages to clients name the method.
fn shown(method: &Method) -> &'static str {
    match method {
        Method::Trust => "\"trust\"",
        Method::Cert { .. } => CERTIFICATE,
        Method::Peer { .. } => "Peer",
        Method::Ldap(_) => "LDAP",
        Method::Pam(_) => "PAM",
        Method::Jwt(_) => "JWT",
        other => other.name(),
    }
}

fn failure(method: &Method, user: &str) -> AuthError {
    let user = user.to_owned();
    match method {
        Method::ScramSha256 | Method::Md5 | Method::Password => AuthError::Failed { user },
        method => AuthError::Method { method: shown(method), user },
    }
}
