//! What is stored of passwords, as the auth query tells it: cached, fetched once for all who wait, the absent ones
//! remembered briefly.

use crate::secret::Secret;
use halephant_protocol::md5;
use halephant_protocol::scram::Verifier;
use std::collections::{BTreeMap, HashMap};
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

/// What a server keeps of a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    Scram(Verifier),
    /// `md5` and 32 hexadecimal digits.
    Md5(Secret<String>),
}

impl Stored {
    /// As `pg_authid.rolpassword` holds it. `None`: neither of the two forms.
    pub fn parse(text: &str) -> Option<Self> {
        if md5::is_stored(text) {
            return Some(Self::Md5(Secret::new(text.to_owned())));
        }
        Verifier::parse(text).ok().map(Self::Scram)
    }
}

/// What the auth query says of a role.
#[derive(Clone, Debug)]
pub enum Lookup {
    Found {
        stored: Stored,
        valid_until: Option<SystemTime>,
    },
    /// There is no such role, or nothing that a password can be checked against; the reason is for the log.
    Absent {
        reason: String,
        /// There is no such role.
        nobody: bool,
    },
}

impl Lookup {
    /// What is stored, unless its time is over.
    pub fn usable(&self, now: SystemTime) -> Result<&Stored, &str> {
        match self {
            Self::Found { valid_until: Some(until), .. } if *until < now => {
                Err("the password has expired (VALID UNTIL)")
            }
            Self::Found { stored, .. } => Ok(stored),
            Self::Absent { reason, .. } => Err(reason),
        }
    }

    pub fn is_of_nobody(&self) -> bool {
        matches!(self, Self::Absent { nobody: true, .. })
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
    /// Those that nobody has to be asked for, by role.
    configured: BTreeMap<String, Stored>,
    entries: Mutex<HashMap<String, Arc<Entry>>>,
}

#[derive(Debug, Default)]
struct Entry(OnceCell<(Result<Lookup, FetchError>, Instant)>);

impl Entry {
    /// A failure is told to those who waited for it, and to nobody later.
    fn is_over(&self, ttl: Duration) -> bool {
        self.0.get().is_some_and(|(result, since)| match result {
            Ok(Lookup::Found { .. }) => since.elapsed() >= ttl,
            Ok(Lookup::Absent { .. }) => since.elapsed() >= ttl.min(ABSENT_FOR),
            Err(_) => true,
        })
    }
}

impl std::fmt::Debug for Verifiers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifiers").finish_non_exhaustive()
    }
}

impl Verifiers {
    pub fn new(source: Arc<dyn VerifierSource>, ttl: Duration, configured: BTreeMap<String, Stored>) -> Self {
        Self { source, ttl, configured, entries: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The verifier of a role; whoever asks while it is being fetched waits for the same answer. Cancel safe.
    pub async fn lookup(&self, role: &str) -> Result<Lookup, FetchError> {
        if let Some(stored) = self.configured.get(role) {
            return Ok(Lookup::Found { stored: stored.clone(), valid_until: None });
        }
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
        let fetch = async || (self.source.fetch(role).await, Instant::now());
        entry.0.get_or_init(fetch).await.0.clone()
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

    /// Counts its calls; answers the first with an error, when this many have asked.
    #[derive(Default)]
    struct Source {
        calls: AtomicUsize,
        asking: AtomicUsize,
        expected: usize,
    }

    impl VerifierSource for Source {
        fn fetch<'a>(&'a self, role: &'a str) -> FetchFuture<'a> {
            Box::pin(async move {
                while self.asking.load(Ordering::SeqCst) < self.expected {
                    tokio::task::yield_now().await;
                }
                match self.calls.fetch_add(1, Ordering::SeqCst) {
                    0 => Err(FetchError("down".into())),
                    _ => Ok(Lookup::Absent { reason: format!("no role {role}"), nobody: true }),
                }
            })
        }
    }

    fn verifiers(expected: usize, ttl: Duration) -> (Arc<Source>, Arc<Verifiers>) {
        let source = Arc::new(Source { expected, ..Source::default() });
        (Arc::clone(&source), Arc::new(Verifiers::new(source, ttl, BTreeMap::new())))
    }

    /// Lookups on as many threads, each with a runtime of its own.
    fn lookups(
        count: usize,
        source: &Arc<Source>,
        verifiers: &Arc<Verifiers>,
    ) -> Vec<Result<Lookup, FetchError>> {
        let threads: Vec<_> = (0..count)
            .map(|_| {
                let (source, verifiers) = (Arc::clone(source), Arc::clone(verifiers));
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
                    runtime.block_on(async {
                        let mut lookup = std::pin::pin!(verifiers.lookup("a"));
                        let first =
                            std::future::poll_fn(|cx| std::task::Poll::Ready(lookup.as_mut().poll(cx)));
                        let first = first.await;
                        source.asking.fetch_add(1, Ordering::SeqCst);
                        match first {
                            std::task::Poll::Ready(result) => result,
                            std::task::Poll::Pending => lookup.await,
                        }
                    })
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    }

    #[test]
    fn one_fetch_serves_all_who_wait_on_any_runtime_a_failure_included() {
        let (source, verifiers) = verifiers(8, Duration::from_secs(60));
        assert!(lookups(8, &source, &verifiers).iter().all(Result::is_err));
        assert_eq!(source.calls.load(Ordering::SeqCst), 1);
        for lookup in lookups(8, &source, &verifiers) {
            let lookup = lookup.expect("the failure is not remembered");
            assert_eq!(lookup.usable(SystemTime::now()), Err("no role a"));
        }
        assert_eq!(source.calls.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn an_answer_is_fetched_again_when_its_time_is_over() {
        let (source, verifiers) = verifiers(0, Duration::ZERO);
        for calls in 1..4 {
            let _ = verifiers.lookup("a").await;
            assert_eq!(source.calls.load(Ordering::SeqCst), calls);
        }
    }

    #[tokio::test]
    async fn a_failed_login_leads_to_one_new_fetch_at_most_a_second() {
        let (source, verifiers) = verifiers(0, Duration::from_secs(60));
        let _ = verifiers.lookup("a").await;
        let _ = verifiers.lookup("a").await;
        for _ in 0..10 {
            verifiers.suspect("a");
            let _ = verifiers.lookup("a").await;
        }
        assert_eq!(source.calls.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_lookup_that_is_dropped_leaves_the_fetch_to_the_next() {
        let (source, verifiers) = verifiers(1, Duration::from_secs(60));
        let dropped = tokio::time::timeout(Duration::ZERO, verifiers.lookup("a")).await;
        assert!(dropped.is_err());
        source.asking.fetch_add(1, Ordering::SeqCst);
        assert!(verifiers.lookup("a").await.is_err(), "the first answer is an error");
        assert!(verifiers.lookup("a").await.is_ok());
    }

    #[test]
    fn an_expired_password_is_not_usable() {
        let verifier = Verifier::mock(&[1; 32], "u", std::num::NonZeroU32::MIN);
        let now = SystemTime::now();
        let lookup = |valid_until| Lookup::Found { stored: Stored::Scram(verifier.clone()), valid_until };
        assert!(lookup(None).usable(now).is_ok());
        assert!(lookup(Some(now + Duration::from_secs(1))).usable(now).is_ok());
        assert!(lookup(Some(now - Duration::from_secs(1))).usable(now).is_err());
    }
}
