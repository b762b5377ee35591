//! One try to log in that was admitted: when its password may be looked at, and what came of it.

use super::{Pair, Tables, Throttle, ThrottleSettings, Throttled, count, make_room};
use std::pin::pin;
use std::time::{Duration, Instant};

/// Dropped without an outcome, it was no failure.
#[derive(Debug)]
#[must_use]
pub struct Admission<'t> {
    pub(super) throttle: &'t Throttle,
    pub(super) settings: &'t ThrottleSettings,
    pub(super) pair: Pair,
    /// The user has lately logged in from there.
    pub(super) known: bool,
    /// Failures are used up, and this try is the one that may come now.
    pub(super) has_turn: bool,
    /// When it was admitted.
    pub(super) since: Instant,
    /// It has to wait so long before it is asked for anything.
    pub delay: Duration,
    /// It counts as being looked at.
    pub(super) is_judged: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Now,
    /// Those that are being looked at may be the last failures that are free.
    Later,
}

impl Admission<'_> {
    /// To be called when the password is there, before it is looked at: counts as a failure to others until the outcome is
    /// known. Where that many are looked at as may fail, it waits for one of them; they are right as a rule. Cancel safe.
    pub async fn judge(&mut self) -> Result<(), Throttled> {
        if self.settings.failures == 0 || self.is_judged {
            return Ok(());
        }
        loop {
            let mut judged = pin!(self.throttle.judged.notified());
            judged.as_mut().enable();
            let judgement = self.throttle.lock().judge(self, Instant::now())?;
            if judgement == Judgement::Now {
                self.is_judged = true;
                return Ok(());
            }
            judged.await;
        }
    }

    /// The password was wrong.
    pub fn failed(self, now: Instant) {
        let (settings, pair) = (self.settings, self.pair);
        if settings.failures == 0 {
            return;
        }
        let mut tables = self.throttle.lock();
        let Tables { pairs, sources, users, .. } = &mut *tables;
        count(pairs, pair, settings.failures, settings, now);
        count(sources, pair.0, settings.shared(), settings, now);
        count(users, pair.1, settings.shared(), settings, now);
    }

    /// Forgets the failures of this user at this address only: who has one account must not be able to go on with others.
    pub fn succeeded(self, now: Instant) {
        let (settings, pair) = (self.settings, self.pair);
        if settings.failures == 0 {
            return;
        }
        let mut tables = self.throttle.lock();
        match tables.pairs.get_mut(&pair) {
            Some(failures) if failures.under_way > 0 => {
                (failures.count, failures.until) = (0, None);
            }
            _ => drop(tables.pairs.remove(&pair)),
        }
        make_room(&mut tables.known, &pair, settings.max_entries, |last| *last);
        tables.known.insert(pair, now);
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if self.is_judged {
            self.throttle.lock().end(self.pair);
            self.throttle.judged.notify_waiters();
        }
    }
}
