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
struct Entry(OnceCell<(ReportedParameters, Instant)>);

#[derive(Debug, thiserror::Error)]
pub enum WelcomeError {
    #[error(transparent)]
    Checkout(#[from] CheckoutError),
    #[error("the server refused the session's parameters: {0}")]
    Apply(#[from] QueryError),
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
        let learn = async || {
            let mut lease = pool.checkout(user, role, wanted).await?;
            lease.connection().apply(wanted).await?;
            let reported = lease.connection().reported.clone();
            asked = Some(lease);
            Ok::<_, WelcomeError>((reported, Instant::now()))
        };
        // After a failure the next one asks for itself.
        let reported = entry.0.get_or_try_init(learn).await?.0.clone();
        Ok((reported, asked))
    }

    /// The entry that holds now, or is yet to be filled.
    fn entry(&self, key: Key) -> Arc<Entry> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= REMEMBERED_MAX && !entries.contains_key(&key) {
            entries.clear();
        }
        let entry = entries.entry(key).or_default();
        if entry.0.get().is_some_and(|(_, since)| since.elapsed() >= REMEMBERED_FOR) {
            *entry = Arc::default();
        }
        Arc::clone(entry)
    }
}
