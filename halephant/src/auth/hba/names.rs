//! Names of clients' addresses, asked of the system: so many at a time, and no more than a few for one place, so that whoever has a
//! name server that does not answer holds up nobody else.

use crate::auth::origin::{Neighbourhood, Origin};
use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Over all clients: each lookup keeps a thread until the system answers, whether its client still waits or not.
const LOOKUPS_MAX: usize = 32;
/// For one address, or one network of IPv6.
const LOOKUPS_PER_PLACE_MAX: usize = 2;

/// Of this process.
pub(super) static NAMES: LazyLock<Names> = LazyLock::new(|| Names::new(verified_name));

type Lookup = fn(IpAddr) -> Option<String>;

pub(super) struct Names {
    lookup: Lookup,
    turns: Arc<Semaphore>,
    /// Of the places that somebody asks for now.
    places: Mutex<HashMap<Neighbourhood, Weak<Semaphore>>>,
}

impl Names {
    fn new(lookup: Lookup) -> Self {
        Self { lookup, turns: Arc::new(Semaphore::new(LOOKUPS_MAX)), places: Mutex::default() }
    }

    /// The name that an address has and that leads back to it. Cancel safe.
    pub(super) async fn of(&self, address: IpAddr) -> Option<String> {
        // Waiting for one's own place first: who waits there takes no turn of others.
        let place = self.place(address).acquire_owned().await.ok()?;
        let turn = Arc::clone(&self.turns).acquire_owned().await.ok()?;
        let lookup = self.lookup;
        let look_up = move || {
            let name = lookup(address);
            drop((place, turn));
            name
        };
        spawn_blocking(look_up).await.ok()?
    }

    fn place(&self, address: IpAddr) -> Arc<Semaphore> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let place = Neighbourhood::of(Origin::of_address(address));
        if let Some(turns) = places.get(&place).and_then(Weak::upgrade) {
            return turns;
        }
        places.retain(|_, turns| turns.strong_count() > 0);
        let turns = Arc::new(Semaphore::new(LOOKUPS_PER_PLACE_MAX));
        places.insert(place, Arc::downgrade(&turns));
        turns
    }
}

/// A name says what its owner wants; only one that leads back to the address is believed. Blocks.
fn verified_name(address: IpAddr) -> Option<String> {
    let name = dns_lookup::lookup_addr(&address).ok()?;
    // Where there is no name, the address comes back as text.
    if name.parse::<IpAddr>().is_ok() {
        return None;
    }
    let mut addresses = (name.as_str(), 0).to_socket_addrs().ok()?;
    addresses.any(|found| found.ip().to_canonical() == address).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Condvar;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;
    use tokio::task::JoinSet;

    const LIMIT: Duration = Duration::from_secs(30);
    /// Whether lookups of IPv6 get no answer.
    static SILENT: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());
    static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

    fn stubborn(address: IpAddr) -> Option<String> {
        if address.is_ipv6() {
            UNDER_WAY.fetch_add(1, Ordering::SeqCst);
            let silent = SILENT.0.lock().expect("it is not poisoned");
            drop(SILENT.1.wait_timeout_while(silent, LIMIT, |silent| *silent));
            UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
        }
        Some(format!("host-{address}"))
    }

    /// The lookups go on when their clients have long gone.
    #[tokio::test]
    async fn a_name_server_that_is_silent_holds_up_nobody_else() {
        let silence = |silent| {
            *SILENT.0.lock().expect("it is not poisoned") = silent;
            SILENT.1.notify_all();
        };
        silence(true);
        let names = Arc::new(Names::new(stubborn));
        let mut silent = JoinSet::new();
        for host in 0..3 * LOOKUPS_MAX {
            let names = Arc::clone(&names);
            let address: IpAddr = format!("2001:db8::{host:x}").parse().expect("an address");
            silent.spawn(async move { names.of(address).await });
        }
        for round in 0..3 {
            let other = tokio::time::timeout(LIMIT, names.of(IpAddr::from([192, 0, 2, 1]))).await;
            assert_eq!(other.expect("it has its turn").as_deref(), Some("host-192.0.2.1"));
            if round == 1 {
                silent.shutdown().await;
            }
            assert!(UNDER_WAY.load(Ordering::SeqCst) <= LOOKUPS_PER_PLACE_MAX);
        }
        let held = names.turns.available_permits();
        assert!(held >= LOOKUPS_MAX - LOOKUPS_PER_PLACE_MAX, "{held} turns are free");
        silence(false);
    }

    #[tokio::test]
    async fn places_that_nobody_asks_for_are_forgotten() {
        let names = Names::new(stubborn);
        for host in 0..100 {
            names.of(IpAddr::from([192, 0, 2, host])).await.expect("it has one");
        }
        assert!(names.places.lock().expect("it is not poisoned").len() <= 2);
    }
}
