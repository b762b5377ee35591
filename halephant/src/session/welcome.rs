//! What a new client is told about its session before it has a server connection: the parameters as a server
//! connection with the client's settings reports them.

use crate::net::Role;
use crate::pool::{CheckoutError, Lease, Pool, UserIndex};
use crate::server::parameters::{ReportedParameters, SessionParameters};
use crate::server::query::QueryError;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Combinations of settings that are remembered per pool.
const REMEMBERED_MAX: usize = 1024;
/// How long a memory counts; what changes earlier is told with the client's first transaction.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

/// The parameters that connections of one pool report, by user and by what the client asked for.
#[derive(Debug, Default)]
pub struct Welcomes(Mutex<HashMap<(UserIndex, SessionParameters), (ReportedParameters, Instant)>>);

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
        let key = (user, wanted.clone());
        if let Some((reported, since)) = self.lock().get(&key)
            && since.elapsed() < REMEMBERED_FOR
        {
            return Ok((reported.clone(), None));
        }
        let mut lease = pool.checkout(user, role, wanted).await?;
        lease.connection().apply(wanted).await?;
        let reported = lease.connection().reported.clone();
        let mut remembered = self.lock();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(key, (reported.clone(), Instant::now()));
        drop(remembered);
        Ok((reported, Some(lease)))
    }

    fn lock(
        &self,
    ) -> std::sync::MutexGuard<'_, HashMap<(UserIndex, SessionParameters), (ReportedParameters, Instant)>>
    {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
