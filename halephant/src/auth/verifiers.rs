//! SCRAM verifiers as the auth query tells them: cached, fetched once for all who wait, the absent ones remembered
//! briefly.

use halephant_protocol::scram::Verifier;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::OnceCell;

/// How long it is remembered that a role has no usable verifier.
const ABSENT_FOR: Duration = Duration::from_secs(5);
/// Roles remembered; only configured users are ever asked for, so this bounds a configuration, not an attacker.
const REMEMBERED_MAX: usize = 100_000;
/// After a failed login, a verifier younger than this is not fetched again: guessing does not become a load.
const SUSPECT_AFTER: Duration = Duration::from_secs(1);

/// What the auth query says of a role.
#[derive(Clone, Debug)]
pub enum Lookup {
    Found {
        verifier: Verifier,
        valid_until: Option<SystemTime>,
    },
    /// There is no such role, or nothing that SCRAM can be done with; the reason is for the log.
    Absent {
        reason: String,
    },
}

impl Lookup {
    /// The verifier, unless its time is over.
    pub fn usable(&self, now: SystemTime) -> Result<&Verifier, &str> {
        match self {
            Self::Found { valid_until: Some(until), .. } if *until < now => {
                Err("the password has expired (VALID UNTIL)")
            }
            Self::Found { verifier, .. } => Ok(verifier),
            Self::Absent { reason } => Err(reason),
        }
    }
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("the auth query failed: {0}")]
pub struct FetchError(pub String);

pub type FetchFuture<'a> = Pin<Box<dyn Future<Output = Result<Lookup, FetchError>> + Send + 'a>>;

/// Runs the auth query.
pub trait VerifierSource: Send + Sync {
    fn fetch<'a>(&'a self, role: &'a str) -> FetchFuture<'a>;
}

/// The verifiers of one cluster.
pub struct Verifiers {
    source: Arc<dyn VerifierSource>,
    ttl: Duration,
    entries: Mutex<HashMap<String, Arc<Entry>>>,
}

#[derive(Debug, Default)]
struct Entry(OnceCell<(Lookup, Instant)>);

impl Entry {
    fn is_over(&self, ttl: Duration) -> bool {
        self.0.get().is_some_and(|(lookup, since)| {
            since.elapsed() >= if matches!(lookup, Lookup::Found { .. }) { ttl } else { ttl.min(ABSENT_FOR) }
        })
    }
}

impl std::fmt::Debug for Verifiers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifiers").finish_non_exhaustive()
    }
}

impl Verifiers {
    pub fn new(source: Arc<dyn VerifierSource>, ttl: Duration) -> Self {
        Self { source, ttl, entries: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The verifier of a role; whoever asks while it is being fetched waits for the same answer. Cancel safe.
    pub async fn lookup(&self, role: &str) -> Result<Lookup, FetchError> {
        let entry = {
            let mut entries = self.lock();
            if entries.len() >= REMEMBERED_MAX && !entries.contains_key(role) {
                entries.clear();
            }
            let entry = entries.entry(role.to_owned()).or_default();
            if entry.is_over(self.ttl) {
                *entry = Arc::default();
            }
            Arc::clone(entry)
        };
        let fetch = async || Ok((self.source.fetch(role).await?, Instant::now()));
        entry.0.get_or_try_init(fetch).await.map(|(lookup, _)| lookup.clone())
    }

    /// A login with this role's verifier failed: the password may have been changed meanwhile.
    pub fn suspect(&self, role: &str) {
        let mut entries = self.lock();
        let old = entries
            .get(role)
            .and_then(|entry| entry.0.get())
            .is_some_and(|(_, since)| since.elapsed() > SUSPECT_AFTER);
        if old {
            entries.remove(role);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Counts its calls; answers the first with an error.
    struct Source(AtomicUsize);

    impl VerifierSource for Source {
        fn fetch<'a>(&'a self, role: &'a str) -> FetchFuture<'a> {
            Box::pin(async move {
                tokio::task::yield_now().await;
                match self.0.fetch_add(1, Ordering::SeqCst) {
                    0 => Err(FetchError("down".into())),
                    _ => Ok(Lookup::Absent { reason: format!("no role {role}") }),
                }
            })
        }
    }

    #[tokio::test]
    async fn one_fetch_serves_all_who_wait_and_an_error_is_not_remembered() {
        let source = Arc::new(Source(AtomicUsize::new(0)));
        let verifiers = Arc::new(Verifiers::new(source.clone(), Duration::from_secs(60)));
        assert!(verifiers.lookup("a").await.is_err());
        let tasks: Vec<_> = (0..10)
            .map(|_| {
                let verifiers = verifiers.clone();
                tokio::spawn(async move { verifiers.lookup("a").await })
            })
            .collect();
        for task in tasks {
            let lookup = task.await.expect("the task ends").expect("the source is up again");
            assert_eq!(lookup.usable(SystemTime::now()), Err("no role a"));
        }
        assert_eq!(source.0.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn an_expired_password_is_not_usable() {
        let verifier = Verifier::mock(&[1; 32], "u", std::num::NonZeroU32::MIN);
        let now = SystemTime::now();
        let lookup = |valid_until| Lookup::Found { verifier: verifier.clone(), valid_until };
        assert!(lookup(None).usable(now).is_ok());
        assert!(lookup(Some(now + Duration::from_secs(1))).usable(now).is_ok());
        assert!(lookup(Some(now - Duration::from_secs(1))).usable(now).is_err());
    }
}
