//! What a new client is told about its session before it has a server connection: the parameters as a server
//! connection with the client's settings reports them.

use crate::net::Role;
use crate::pool::{CheckoutError, Lease, Pool, UserIndex};
use crate::server::parameters::{ReportedParameters, SessionParameters};
use crate::server::query::QueryError;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;

/// Combinations of settings that are remembered per pool.
const REMEMBERED_MAX: usize = 1024;
/// How long a memory counts; what changes earlier is told with the client's first transaction.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

/// The parameters that connections of one pool report, by user and by what the client asked for.
#[derive(Debug, Default)]
pub struct Welcomes(Mutex<HashMap<Key, Arc<Entry>>>);

type Key = (UserIndex, SessionParameters);

/// Whoever asks while another asks a server waits for the same answer: a storm of logins is one question.
#[derive(Debug, Default)]
struct Entry(OnceCell<(Result<ReportedParameters, WelcomeError>, Instant)>);

#[derive(Clone, Debug, thiserror::Error)]
pub enum WelcomeError {
    #[error(transparent)]
    Checkout(#[from] CheckoutError),
    #[error("the server refused the session's parameters: {0}")]
    Apply(Arc<QueryError>),
}

impl Entry {
    /// A failure is told to those who waited for it, or each of them would wait out the limits anew, one after the other; who
    /// comes later asks again.
    fn is_over(&self) -> bool {
        self.0.get().is_some_and(|(told, since)| told.is_err() || since.elapsed() >= REMEMBERED_FOR)
    }

    /// The answer; `ask` is what it is asked by where nobody has.
    async fn answer(
        &self,
        ask: impl AsyncFnOnce() -> Result<ReportedParameters, WelcomeError>,
    ) -> Result<ReportedParameters, WelcomeError> {
        self.0.get_or_init(async || (ask().await, Instant::now())).await.0.clone()
    }
}

impl Welcomes {
    /// The parameters to report to a client that wants `wanted`. When a server connection had to be asked, it comes
    /// along, `wanted` applied.
    pub async fn learn(
        &self,
        pool: &Arc<Pool>,
        user: UserIndex,
        role: Role,
        wanted: &SessionParameters,
    ) -> Result<(ReportedParameters, Option<Lease>), WelcomeError> {
        let entry = self.entry((user, wanted.clone()));
        let mut asked = None;
        let ask = async || {
            let mut lease = pool.checkout(user, role, wanted).await?;
            let applied = lease.connection().apply(wanted).await;
            applied.map_err(|error| WelcomeError::Apply(Arc::new(error)))?;
            let reported = lease.connection().reported.clone();
            asked = Some(lease);
            Ok(reported)
        };
        let reported = entry.answer(ask).await?;
        Ok((reported, asked))
    }

    /// The entry that holds now, or is yet to be filled.
    fn entry(&self, key: Key) -> Arc<Entry> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= REMEMBERED_MAX && !entries.contains_key(&key) {
            entries.clear();
        }
        let entry = entries.entry(key).or_default();
        if entry.is_over() {
            *entry = Arc::default();
        }
        Arc::clone(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;
    use tokio::task::JoinSet;

    #[tokio::test]
    async fn all_who_wait_are_told_of_one_failure() {
        let (entry, go) = (Arc::new(Entry::default()), Arc::new(Notify::new()));
        let asked = Arc::new(AtomicUsize::new(0));
        let mut storm = JoinSet::new();
        for _ in 0..50 {
            let (entry, go, asked) = (Arc::clone(&entry), Arc::clone(&go), Arc::clone(&asked));
            storm.spawn(async move {
                let ask = async || {
                    asked.fetch_add(1, Ordering::SeqCst);
                    go.notified().await;
                    Err(WelcomeError::Checkout(CheckoutError::Closed))
                };
                entry.answer(ask).await
            });
        }
        go.notify_one();
        let ended = tokio::time::timeout(Duration::from_secs(30), storm.join_all()).await;
        assert!(ended.expect("one answer is enough").iter().all(Result::is_err));
        assert_eq!(asked.load(Ordering::SeqCst), 1, "nobody asked once more");
        assert!(entry.is_over(), "who comes later asks again");
    }

    #[tokio::test]
    async fn what_is_known_is_not_asked_for() {
        let entry = Entry::default();
        assert!(entry.answer(async || Ok(ReportedParameters::default())).await.is_ok());
        let asked = entry.answer(async || Err(WelcomeError::Checkout(CheckoutError::Closed))).await;
        assert!(asked.is_ok() && !entry.is_over());
    }
}
