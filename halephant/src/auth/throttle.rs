//! Failed logins, and how long those who failed have to wait (docs/security.md, "Failed logins").
//!
//! Counted are a user at an address, an address and a user. The first two are refused for a time that doubles; the third is only
//! delayed, and only where the address has not lately logged in as the user: nobody can be locked out from elsewhere.

mod admission;
#[cfg(test)]
mod tests;

pub use admission::Admission;

use super::origin::{Neighbourhood, Origin};
use admission::Judgement;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Many users may come from one address, and one user from many: they may fail so much more often.
const SHARED_FACTOR: u32 = 10;
/// The longest that a user's login from a new address is held up because others fail as that user.
const USER_DELAY_MAX: Duration = Duration::from_secs(2);
/// So long an address is remembered from which a user has logged in; an application that keeps its connections logs in seldom.
const KNOWN_FOR: Duration = Duration::from_secs(7 * 24 * 3600);
/// More doublings than any longest time needs.
const DOUBLINGS_MAX: u32 = 24;
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

/// Whose password it is: users of one name in two clusters are two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Realm<'a> {
    Cluster(&'a str),
    /// The console, and databases that there are not.
    Elsewhere,
    /// Whoever checks passwords for a rule.
    External,
}

/// Who tries to log in, and from where.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pub realm: Realm<'a>,
    pub user: &'a str,
    pub origin: Origin,
}

/// A user of a realm at a place.
type Pair = (Neighbourhood, u64);

/// The tables of a process. They stay through a reload.
#[derive(Debug, Default)]
pub struct Throttle {
    tables: Mutex<Tables>,
    /// A password that was looked at was right or wrong.
    judged: Notify,
    /// Names of any length are remembered as a number that nobody outside can aim at.
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Tables {
    pairs: HashMap<Pair, Failures>,
    sources: HashMap<Neighbourhood, Failures>,
    users: HashMap<u64, Failures>,
    /// When a user last logged in from an address. Only who knows a password can write here.
    known: HashMap<Pair, Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    /// Passwords that are being looked at: each may be one more failure.
    under_way: u32,
    last: Instant,
    /// Nobody is let through before. Clocks of two threads differ, so that not even a time in the past stands for nothing.
    until: Option<Instant>,
}

impl Throttle {
    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pair(&self, candidate: &Candidate<'_>) -> Pair {
        let Candidate { realm, user, origin } = candidate;
        (Neighbourhood::of(*origin), self.hasher.hash_one((realm, user)))
    }

    fn attempt<'t>(
        &'t self,
        settings: &'t ThrottleSettings,
        candidate: &Candidate<'_>,
        now: Instant,
    ) -> Admission<'t> {
        let (pair, delay) = (self.pair(candidate), Duration::ZERO);
        let throttle = self;
        Admission {
            throttle,
            settings,
            pair,
            known: false,
            has_turn: false,
            since: now,
            delay,
            is_judged: false,
        }
    }

    /// Whether somebody may try to log in, and after which delay. A try after failures uses up the turn at once: many at the same
    /// time get no more tries than one after the other.
    pub fn admit<'t>(
        &'t self,
        settings: &'t ThrottleSettings,
        candidate: &Candidate<'_>,
        now: Instant,
    ) -> Result<Admission<'t>, Throttled> {
        let mut admission = self.attempt(settings, candidate, now);
        if settings.failures == 0 {
            return Ok(admission);
        }
        let pair = admission.pair;
        let mut tables = self.lock();
        let last = tables.known.get(&pair);
        admission.known = last.is_some_and(|last| now.saturating_duration_since(*last) < KNOWN_FOR);
        admission.has_turn = tables.take_turn(&admission, now)?;
        if !admission.known {
            let of_user = tables.users.get(&pair.1).filter(|failures| !failures.is_over(settings, now));
            let delay =
                of_user.map_or(Duration::ZERO, |failures| failures.delay(settings.shared(), settings));
            admission.delay = delay.min(USER_DELAY_MAX);
        }
        Ok(admission)
    }

    /// Entries of all tables.
    pub fn entries(&self) -> usize {
        let tables = self.lock();
        tables.pairs.len() + tables.sources.len() + tables.users.len() + tables.known.len()
    }
}

impl ThrottleSettings {
    /// How often all users of an address, or a user at all addresses, may fail.
    fn shared(&self) -> u32 {
        self.failures.saturating_mul(SHARED_FACTOR)
    }
}

impl Tables {
    /// Refuses who has to wait; says whether this try is one of those that come one at a time.
    fn take_turn(&mut self, admission: &Admission<'_>, now: Instant) -> Result<bool, Throttled> {
        let Admission { settings, pair, known, .. } = *admission;
        let of_pair = self.pairs.get_mut(&pair).map(|failures| (failures, settings.failures));
        let of_source = self.sources.get_mut(&pair.0).filter(|_| !known);
        let counted = [of_pair, of_source.map(|failures| (failures, settings.shared()))];
        let mut counted: Vec<_> = counted.into_iter().flatten().collect();
        let waits = counted.iter().map(|(failures, _)| remaining(Some(&**failures), settings, now));
        let wait = waits.max().unwrap_or_default();
        if !wait.is_zero() {
            return Err(Throttled { retry_after: wait });
        }
        let mut has_turn = false;
        for (failures, free) in &mut counted {
            failures.take_turn(*free, settings, now);
            has_turn |= failures.is_used_up(*free, settings, now);
        }
        Ok(has_turn)
    }

    /// Whether one more password may be looked at now.
    fn judge(&mut self, admission: &Admission<'_>, now: Instant) -> Result<Judgement, Throttled> {
        let Admission { settings, pair, known, .. } = *admission;
        let limits = [
            (self.pairs.get(&pair), settings.failures),
            (self.sources.get(&pair.0).filter(|_| !known), settings.shared()),
        ];
        let counted = || limits.iter().filter_map(|(failures, free)| Some(((*failures)?, *free)));
        // A turn is as good as nothing once somebody has failed since it was given.
        let is_stale = counted().any(|(failures, _)| failures.last > admission.since);
        let has_turn = admission.has_turn && !is_stale;
        let waits = counted().map(|(failures, _)| remaining(Some(failures), settings, now));
        let wait = waits.max().unwrap_or_default();
        if !wait.is_zero() && !has_turn {
            return Err(Throttled { retry_after: wait });
        }
        let is_full = |(failures, free): (&Failures, u32)| {
            failures.under_way > 0
                && failures.under_way.saturating_add(failures.current(settings, now)) >= free
        };
        if counted().any(is_full) {
            return Ok(Judgement::Later);
        }
        if !has_turn {
            self.take_turn(admission, now)?;
        }
        self.begin(admission, now);
        Ok(Judgement::Now)
    }

    fn begin(&mut self, admission: &Admission<'_>, now: Instant) {
        let Admission { settings, pair, .. } = *admission;
        make_room(&mut self.pairs, &pair, settings.max_entries, |failures| failures.last);
        make_room(&mut self.sources, &pair.0, settings.max_entries, |failures| failures.last);
        let of_pair = self.pairs.entry(pair).or_insert(Failures::none(now));
        of_pair.under_way = of_pair.under_way.saturating_add(1);
        let of_source = self.sources.entry(pair.0).or_insert(Failures::none(now));
        of_source.under_way = of_source.under_way.saturating_add(1);
    }

    /// What [`begin`](Self::begin) counted is over.
    fn end(&mut self, pair: Pair) {
        end(&mut self.pairs, &pair);
        end(&mut self.sources, &pair.0);
    }
}

fn end<K: Eq + Hash>(table: &mut HashMap<K, Failures>, key: &K) {
    let Some(failures) = table.get_mut(key) else { return };
    failures.under_way = failures.under_way.saturating_sub(1);
    if failures.under_way == 0 && failures.count == 0 {
        table.remove(key);
    }
}

impl Failures {
    fn none(now: Instant) -> Self {
        Self { count: 0, under_way: 0, last: now, until: None }
    }

    /// Those that count.
    fn current(&self, settings: &ThrottleSettings, now: Instant) -> u32 {
        if self.is_over(settings, now) { 0 } else { self.count }
    }

    fn is_over(&self, settings: &ThrottleSettings, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= settings.reset_after.max(settings.max_delay)
    }

    fn is_used_up(&self, free: u32, settings: &ThrottleSettings, now: Instant) -> bool {
        !self.is_over(settings, now) && self.count >= free
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
            self.wait(free, settings, now);
        }
    }

    fn wait(&mut self, free: u32, settings: &ThrottleSettings, now: Instant) {
        let delay = self.delay(free, settings);
        self.until = (!delay.is_zero()).then(|| now + delay);
    }
}

fn remaining(failures: Option<&Failures>, settings: &ThrottleSettings, now: Instant) -> Duration {
    let until =
        failures.filter(|failures| !failures.is_over(settings, now)).and_then(|failures| failures.until);
    until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
}

fn count<K: Copy + Eq + Hash>(
    table: &mut HashMap<K, Failures>,
    key: K,
    free: u32,
    settings: &ThrottleSettings,
    now: Instant,
) {
    make_room(table, &key, settings.max_entries, |failures| failures.last);
    let failures = table.entry(key).or_insert(Failures::none(now));
    if failures.is_over(settings, now) {
        *failures = Failures { under_way: failures.under_way, ..Failures::none(now) };
    }
    failures.count = failures.count.saturating_add(1);
    failures.last = now;
    failures.wait(free, settings, now);
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
