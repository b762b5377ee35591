//! How many clients there are, in total and by where they come from and what they ask for, and who is one too many.
//!
//! Connections that have not logged in are bounded by themselves: a storm of logins, or somebody who connects and says
//! nothing, takes no more than so much memory. CancelRequests and consoles are let in beyond the limits on clients.

use super::settings::ServerSettings;
use crate::pool::settings::{PoolSettings, UserSettings};
use crate::telemetry::metrics::ProcessMetrics;
use halephant_protocol::SqlState;
use halephant_protocol::backend::ErrorReport;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections at a time that have not logged in yet; each takes some tens of kilobytes.
const LOGINS_MAX: u32 = 16_384;

/// Which limit a client exceeds: the key, what it is about, and its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Excess {
    #[error("too many connections are logging in (the limit is {max})")]
    Logins { max: u32 },
    #[error("too many clients already: server.max_client_connections is {max}")]
    Total { max: u32 },
    #[error("too many clients from address {address}: server.max_client_connections_per_address is {max}")]
    Address { address: IpAddr, max: u32 },
    #[error("too many clients of pool \"{pool}\": its max_client_connections is {max}")]
    Pool { pool: String, max: u32 },
    #[error("too many clients of user \"{user}\" in pool \"{pool}\": its max_client_connections is {max}")]
    User { pool: String, user: String, max: u32 },
}

impl Excess {
    /// The label in metrics.
    fn label(&self) -> &'static str {
        match self {
            Self::Logins { .. } => "logins",
            Self::Total { .. } => "total",
            Self::Address { .. } => "address",
            Self::Pool { .. } => "pool",
            Self::User { .. } => "user",
        }
    }

    pub fn report(&self) -> ErrorReport {
        ErrorReport::fatal(SqlState::TOO_MANY_CONNECTIONS, self.to_string())
    }
}

#[derive(Debug)]
pub struct Admission {
    counts: Mutex<Counts>,
    metrics: Arc<ProcessMetrics>,
}

#[derive(Debug, Default)]
struct Counts {
    logins: u32,
    total: u32,
    addresses: HashMap<IpAddr, u32>,
    pools: HashMap<String, u32>,
    users: HashMap<(String, String), u32>,
}

/// One place taken in one of the counts.
#[derive(Debug)]
enum Place {
    Login,
    Total,
    Address(IpAddr),
    Pool(String),
    User((String, String)),
}

/// What one connection is counted as, until this is dropped.
#[derive(Debug)]
pub struct Ticket {
    admission: Arc<Admission>,
    places: Vec<Place>,
}

impl Admission {
    pub fn new(metrics: Arc<ProcessMetrics>) -> Arc<Self> {
        Arc::new(Self { counts: Mutex::default(), metrics })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that was accepted.
    pub fn accepted(self: &Arc<Self>) -> Result<Ticket, Excess> {
        let mut ticket = Ticket { admission: Arc::clone(self), places: Vec::with_capacity(1) };
        ticket.take(Place::Login, LOGINS_MAX, |max| Excess::Logins { max })?;
        Ok(ticket)
    }
}

impl Ticket {
    /// The connection is a client's, over TCP one from `address`.
    pub fn asks(&mut self, settings: &ServerSettings, address: Option<IpAddr>) -> Result<(), Excess> {
        self.take(Place::Total, settings.max_client_connections, |max| Excess::Total { max })?;
        let Some(address) = address else { return Ok(()) };
        self.take(Place::Address(address), settings.max_client_connections_per_address, |max| {
            Excess::Address { address, max }
        })
    }

    /// The client has proved that it is `user` and goes to `pool`.
    pub fn enters(&mut self, pool: &PoolSettings, user: &UserSettings) -> Result<(), Excess> {
        let (pool_name, user_name) = (|| pool.name.clone(), || user.name.clone());
        self.take(Place::Pool(pool_name()), pool.max_client_connections, |max| Excess::Pool {
            pool: pool_name(),
            max,
        })?;
        self.take(Place::User((pool_name(), user_name())), user.max_client_connections, |max| Excess::User {
            pool: pool_name(),
            user: user_name(),
            max,
        })
    }

    /// The login is over.
    pub fn logged_in(&mut self) {
        let logins = self.places.iter().position(|place| matches!(place, Place::Login));
        if let Some(at) = logins {
            let place = self.places.swap_remove(at);
            self.admission.lock().leave(place);
        }
        self.places.shrink_to_fit();
    }

    /// The client is refused: its places are free, but the connection counts among the logins until it has been told.
    pub fn refused(&mut self) {
        let mut counts = self.admission.lock();
        let (logins, left) =
            self.places.drain(..).partition::<Vec<_>, _>(|place| matches!(place, Place::Login));
        left.into_iter().for_each(|place| counts.leave(place));
        drop(counts);
        self.places = logins;
    }

    /// Counted in any case, as a reload may bring a limit; `max` of 0 is none.
    fn take(&mut self, place: Place, max: u32, excess: impl FnOnce(u32) -> Excess) -> Result<(), Excess> {
        if self.admission.lock().enter(&place, max) {
            self.places.push(place);
            return Ok(());
        }
        let excess = excess(max);
        self.admission.metrics.refused.add(excess.label(), 1);
        Err(excess)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut counts = self.admission.lock();
        self.places.drain(..).for_each(|place| counts.leave(place));
    }
}

impl Counts {
    /// `false`: there are `max` already.
    fn enter(&mut self, place: &Place, max: u32) -> bool {
        let count = match place {
            Place::Login => &mut self.logins,
            Place::Total => &mut self.total,
            Place::Address(address) => self.addresses.entry(*address).or_default(),
            Place::Pool(pool) => self.pools.entry(pool.clone()).or_default(),
            Place::User(user) => self.users.entry(user.clone()).or_default(),
        };
        // A limit is above 0, so that an entry that was just made is counted.
        let free = max == 0 || *count < max;
        *count += u32::from(free);
        free
    }

    fn leave(&mut self, place: Place) {
        match place {
            Place::Login => self.logins -= 1,
            Place::Total => self.total -= 1,
            Place::Address(address) => leave_one(&mut self.addresses, address),
            Place::Pool(pool) => leave_one(&mut self.pools, pool),
            Place::User(user) => leave_one(&mut self.users, user),
        }
    }
}

/// Where nobody is left, nothing is kept.
fn leave_one<K: Eq + Hash>(counts: &mut HashMap<K, u32>, key: K) {
    if let Entry::Occupied(mut entry) = counts.entry(key) {
        *entry.get_mut() -= 1;
        if *entry.get() == 0 {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission() -> Arc<Admission> {
        Admission::new(Arc::default())
    }

    fn ticket(admission: &Arc<Admission>) -> Ticket {
        admission.accepted().expect("there is room")
    }

    fn enter(ticket: &mut Ticket, place: Place, max: u32) -> Result<(), Excess> {
        ticket.take(place, max, |max| Excess::Total { max })
    }

    #[test]
    fn places_come_back_with_their_tickets() {
        let admission = admission();
        let [mut one, mut two, mut three] = [(); 3].map(|()| ticket(&admission));
        assert_eq!(enter(&mut one, Place::Total, 2), Ok(()));
        assert_eq!(enter(&mut two, Place::Total, 2), Ok(()));
        assert_eq!(enter(&mut three, Place::Total, 2), Err(Excess::Total { max: 2 }));
        assert_eq!(admission.metrics.refused.totals().iter().map(|(_, count)| count).sum::<u64>(), 1);
        drop(one);
        assert_eq!(enter(&mut three, Place::Total, 2), Ok(()));
        // Without a limit clients are counted, too.
        let mut four = ticket(&admission);
        assert_eq!(enter(&mut four, Place::Total, 0), Ok(()));
        assert_eq!(admission.lock().total, 3);
        drop((two, three, four));
        let counts = admission.lock();
        assert_eq!((counts.logins, counts.total), (0, 0));
    }

    #[test]
    fn addresses_have_places_of_their_own() {
        let admission = admission();
        let [mut one, mut two, mut other] = [(); 3].map(|()| ticket(&admission));
        let place = |address: &str| Place::Address(address.parse().expect("an address"));
        assert_eq!(enter(&mut one, place("192.0.2.1"), 1), Ok(()));
        assert!(enter(&mut two, place("192.0.2.1"), 1).is_err());
        assert_eq!(enter(&mut other, place("2001:db8::1"), 1), Ok(()));
        drop((one, two, other));
        assert!(admission.lock().addresses.is_empty(), "nothing is kept of who is gone");
    }

    #[test]
    fn logins_have_a_bound_of_their_own() {
        let admission = admission();
        let mut tickets: Vec<_> = (0..LOGINS_MAX).map(|_| ticket(&admission)).collect();
        assert_eq!(admission.accepted().err(), Some(Excess::Logins { max: LOGINS_MAX }));
        tickets[0].logged_in();
        tickets[0].logged_in();
        assert!(admission.accepted().is_ok());
    }
}
