//! Failed logins, and how long those who failed have to wait (docs/security.md, "Failed logins").
//!
//! Counted are a user at an address, an address and a user. The first two are refused for a time that doubles; the third is only
//! delayed, and only where the address has not lately logged in as the user: nobody can be locked out from elsewhere.

#[cfg(test)]
mod tests;

use super::origin::Origin;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Many users may come from one address, and one user from many: they may fail so much more often.
const SHARED_FACTOR: u32 = 10;
/// The longest that a user's login from a new address is held up because others fail as that user.
const USER_DELAY_MAX: Duration = Duration::from_secs(2);
/// So long an address is remembered from which a user has logged in; an application that keeps its connections logs in seldom.
const KNOWN_FOR: Duration = Duration::from_secs(7 * 24 * 3600);
/// More doublings than any longest time needs.
const DOUBLINGS_MAX: u32 = 24;
/// Networks of this many bits are given to one customer.
const IPV6_PREFIX_BITS: u32 = 64;
/// The part of a full table that is thrown out at once, so that not every new entry has to look for the oldest.
const EVICTED_PART: usize = 16;

/// `[server.throttle]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThrottleSettings {
    /// How often a user may fail at an address before it has to wait; 0 means for ever.
    pub failures: u32,
    /// The first wait.
    pub delay: Duration,
    /// The longest.
    pub max_delay: Duration,
    /// After this time without a failure all is forgotten.
    pub reset_after: Duration,
    /// In each of the tables.
    pub max_entries: usize,
}

impl Default for ThrottleSettings {
    fn default() -> Self {
        Self {
            failures: 5,
            delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(60),
            reset_after: Duration::from_secs(900),
            max_entries: 10_000,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many failed logins; try again in {} s", seconds(*retry_after))]
pub struct Throttled {
    pub retry_after: Duration,
}

fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// The tables of a process. They stay through a reload.
#[derive(Debug, Default)]
pub struct Throttle {
    tables: Mutex<Tables>,
    /// Names of any length are remembered as a number that nobody outside can aim at.
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Tables {
    pairs: HashMap<(Source, u64), Failures>,
    sources: HashMap<Source, Failures>,
    users: HashMap<u64, Failures>,
    /// When a user last logged in from an address. Only who knows a password can write here.
    known: HashMap<(Source, u64), Instant>,
}

/// What counts as one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    Local,
    Network(IpAddr),
}

impl Source {
    fn of(origin: Origin) -> Self {
        match origin {
            Origin::Local => Self::Local,
            Origin::Address(IpAddr::V4(address)) => Self::Network(address.into()),
            Origin::Address(IpAddr::V6(address)) => {
                let bits = address.to_bits() & (u128::MAX << (u128::BITS - IPV6_PREFIX_BITS));
                Self::Network(Ipv6Addr::from_bits(bits).into())
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Instant,
    /// Nobody is let through before.
    until: Instant,
}

impl Throttle {
    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, user: &str, origin: Origin) -> (Source, u64) {
        (Source::of(origin), self.hasher.hash_one(user))
    }

    /// Whether somebody may try to log in, and after which delay. A try after failures uses up the turn at once: many at the same
    /// time get no more tries than one after the other.
    pub fn admit(
        &self,
        settings: &ThrottleSettings,
        user: &str,
        origin: Origin,
        now: Instant,
    ) -> Result<Duration, Throttled> {
        if settings.failures == 0 {
            return Ok(Duration::ZERO);
        }
        let pair = self.key(user, origin);
        let mut tables = self.lock();
        let known =
            tables.known.get(&pair).is_some_and(|last| now.saturating_duration_since(*last) < KNOWN_FOR);
        let wait = remaining(tables.pairs.get(&pair), settings, now);
        let shared = if known { None } else { tables.sources.get(&pair.0) };
        let wait = wait.max(remaining(shared, settings, now));
        if !wait.is_zero() {
            return Err(Throttled { retry_after: wait });
        }
        if let Some(failures) = tables.pairs.get_mut(&pair) {
            failures.take_turn(settings.failures, settings, now);
        }
        if known {
            return Ok(Duration::ZERO);
        }
        if let Some(failures) = tables.sources.get_mut(&pair.0) {
            failures.take_turn(settings.failures.saturating_mul(SHARED_FACTOR), settings, now);
        }
        let of_user = tables.users.get(&pair.1).filter(|failures| !failures.is_over(settings, now));
        let limit = settings.failures.saturating_mul(SHARED_FACTOR);
        Ok(of_user.map_or(Duration::ZERO, |failures| failures.delay(limit, settings).min(USER_DELAY_MAX)))
    }

    pub fn failed(&self, settings: &ThrottleSettings, user: &str, origin: Origin, now: Instant) {
        if settings.failures == 0 {
            return;
        }
        let pair = self.key(user, origin);
        let shared = settings.failures.saturating_mul(SHARED_FACTOR);
        let mut tables = self.lock();
        count(&mut tables.pairs, pair, settings.failures, settings, now);
        count(&mut tables.sources, pair.0, shared, settings, now);
        count(&mut tables.users, pair.1, shared, settings, now);
    }

    /// Forgets the failures of this user at this address only: who has one account must not be able to go on with others.
    pub fn succeeded(&self, settings: &ThrottleSettings, user: &str, origin: Origin, now: Instant) {
        if settings.failures == 0 {
            return;
        }
        let pair = self.key(user, origin);
        let mut tables = self.lock();
        tables.pairs.remove(&pair);
        make_room(&mut tables.known, &pair, settings.max_entries, |last| *last);
        tables.known.insert(pair, now);
    }

    /// Entries of all tables.
    pub fn entries(&self) -> usize {
        let tables = self.lock();
        tables.pairs.len() + tables.sources.len() + tables.users.len() + tables.known.len()
    }
}

impl Failures {
    fn is_over(&self, settings: &ThrottleSettings, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= settings.reset_after.max(settings.max_delay)
    }

    /// None for the first `free` failures; then it doubles.
    fn delay(&self, free: u32, settings: &ThrottleSettings) -> Duration {
        match self.count.checked_sub(free) {
            None => Duration::ZERO,
            Some(beyond) => {
                let factor = 1_u32 << beyond.min(DOUBLINGS_MAX);
                settings.delay.saturating_mul(factor).min(settings.max_delay)
            }
        }
    }

    fn take_turn(&mut self, free: u32, settings: &ThrottleSettings, now: Instant) {
        if !self.is_over(settings, now) {
            self.until = now + self.delay(free, settings);
        }
    }
}

fn remaining(failures: Option<&Failures>, settings: &ThrottleSettings, now: Instant) -> Duration {
    let failures = failures.filter(|failures| !failures.is_over(settings, now));
    failures.map_or(Duration::ZERO, |failures| failures.until.saturating_duration_since(now))
}

fn count<K: Copy + Eq + Hash>(
    table: &mut HashMap<K, Failures>,
    key: K,
    free: u32,
    settings: &ThrottleSettings,
    now: Instant,
) {
    make_room(table, &key, settings.max_entries, |failures| failures.last);
    let fresh = Failures { count: 0, last: now, until: now };
    let failures = table.entry(key).or_insert(fresh);
    if failures.is_over(settings, now) {
        *failures = fresh;
    }
    failures.count = failures.count.saturating_add(1);
    failures.last = now;
    failures.until = now + failures.delay(free, settings);
}

/// Throws the oldest entries out of a table that is full and does not have the key.
fn make_room<K: Copy + Eq + Hash, V>(
    table: &mut HashMap<K, V>,
    key: &K,
    max_entries: usize,
    last: impl Fn(&V) -> Instant,
) {
    if table.len() < max_entries || table.contains_key(key) {
        return;
    }
    let mut times: Vec<Instant> = table.values().map(&last).collect();
    let evicted = (table.len() + 1 - max_entries).max(table.len() / EVICTED_PART).min(times.len());
    let Some(index) = evicted.checked_sub(1) else { return };
    let (_, newest_evicted, _) = times.select_nth_unstable(index);
    let limit = *newest_evicted;
    table.retain(|_, value| last(value) > limit);
}
