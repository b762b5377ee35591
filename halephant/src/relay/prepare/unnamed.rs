//! What the unnamed statement was before each change of it that is under way, so that an error can take changes back.

use crate::relay::Tracker;
use std::collections::VecDeque;

/// Changes under way that are remembered. Should an error take back more, there is no unnamed statement then.
const CHANGES_MAX: usize = 64;
/// What these may take in all.
const BYTES_MAX: usize = 512 * 1024;

/// The history of one client's unnamed statement on one server connection.
#[derive(Debug, Default)]
pub(super) struct Unnamed {
    changes: VecDeque<Change>,
    bytes: usize,
    /// Where the last Sync stands: after an error, the server skips up to one.
    synced: u64,
    /// Older changes had no room.
    cut: bool,
}

#[derive(Debug)]
struct Change {
    place: u64,
    /// Where the last Sync before it stands.
    synced: u64,
    before: Option<Box<[u8]>>,
}

/// Places are those of messages of the extended protocol, and those between them, where Query and Sync stand.
fn place_of(position: u64) -> u64 {
    2 * position + 1
}

impl Unnamed {
    /// The next message, a Parse or Close, changes the unnamed statement.
    pub(super) fn changes(&mut self, tracker: &Tracker, before: Option<&[u8]>) {
        self.push(tracker, place_of(tracker.next_position()), before);
    }

    /// The next message, a Query, takes the unnamed statement away.
    #[inline]
    pub(super) fn queried(&mut self, tracker: &Tracker, before: Option<&[u8]>) {
        // With nothing before it, there is nothing that could fail and have it skipped.
        if !tracker.awaits_client() && (before.is_some() || !self.changes.is_empty()) {
            self.push(tracker, 2 * tracker.next_position(), before);
        }
    }

    #[inline]
    pub(super) fn synced(&mut self, tracker: &Tracker) {
        self.synced = 2 * tracker.next_position();
    }

    fn push(&mut self, tracker: &Tracker, place: u64, before: Option<&[u8]>) {
        if tracker.awaits_client() {
            self.changes.clear();
            (self.bytes, self.cut) = (0, false);
        }
        self.drop_before(2 * tracker.answered_position());
        self.bytes += before.map_or(0, <[u8]>::len);
        self.changes.push_back(Change { place, synced: self.synced, before: before.map(Box::from) });
        while self.changes.len() > CHANGES_MAX || self.bytes > BYTES_MAX {
            self.take_first();
            self.cut = true;
        }
    }

    fn drop_before(&mut self, place: u64) {
        while self.changes.front().is_some_and(|change| change.place < place) {
            self.take_first();
        }
    }

    fn take_first(&mut self) -> Option<Change> {
        let change = self.changes.pop_front()?;
        self.bytes -= change.before.as_ref().map_or(0, |before| before.len());
        Some(change)
    }

    /// The message at `position` failed, and the server skips up to the next Sync: what the unnamed statement is then, if that
    /// changes.
    pub(super) fn failed(&mut self, position: u64) -> Option<Option<Box<[u8]>>> {
        let failed = place_of(position);
        self.drop_before(failed);
        // A Parse that fails leaves none; one that was skipped leaves what was there.
        let mut restored = self.cut.then_some(None);
        while self.changes.front().is_some_and(|change| change.synced < failed) {
            let Some(change) = self.take_first() else { break };
            let _ = restored.get_or_insert(change.before.filter(|_| change.place > failed));
        }
        let restored = restored?;
        let Some(later) = self.changes.front_mut() else { return Some(restored) };
        // It was changed again behind that Sync.
        self.bytes -= later.before.as_ref().map_or(0, |before| before.len());
        self.bytes += restored.as_ref().map_or(0, |before| before.len());
        later.before = restored;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends messages: `1` to `9` are Parses, whose text is the digit; everything else is itself. Returns what the statement is
    /// believed to be.
    fn send(unnamed: &mut Unnamed, tracker: &mut Tracker, messages: &str) -> Option<Box<[u8]>> {
        let mut now: Option<Box<[u8]>> = None;
        for message in messages.bytes() {
            match message {
                b'Q' => {
                    unnamed.queried(tracker, now.as_deref());
                    now = None;
                }
                b'S' => unnamed.synced(tracker),
                b'1'..=b'9' => {
                    unnamed.changes(tracker, now.as_deref());
                    now = Some([message].into());
                }
                b'C' => {
                    unnamed.changes(tracker, now.as_deref());
                    now = None;
                }
                _ => {}
            }
            tracker.client_message(if message.is_ascii_digit() { b'P' } else { message });
        }
        now
    }

    /// What the statement is after messages of which the one at `position` failed.
    fn after(messages: &str, position: u64) -> Option<u8> {
        let (mut unnamed, mut tracker) = (Unnamed::default(), Tracker::default());
        let now = send(&mut unnamed, &mut tracker, messages);
        unnamed.failed(position).unwrap_or(now).map(|definition| definition[0])
    }

    #[test]
    fn what_failed_or_was_skipped_changes_nothing() {
        assert_eq!(after("1BES", 1), Some(b'1'));
        assert_eq!(after("1BE2BES", 1), Some(b'1'));
        assert_eq!(after("1BES2BES", 3), None);
        assert_eq!(after("1BES2BES", 4), Some(b'2'));
        assert_eq!(after("1BE2BE3BES", 4), Some(b'2'));
    }

    #[test]
    fn what_comes_behind_the_sync_counts() {
        assert_eq!(after("1BES2BES", 1), Some(b'2'));
        assert_eq!(after("1BESQ", 0), None);
        assert_eq!(after("1BESQ", 1), None);
        // The server skips this one.
        assert_eq!(after("1BEQS", 1), Some(b'1'));
        assert_eq!(after("1BEQS2S", 1), Some(b'2'));
        // What was skipped may have taken it away, too; and a Sync counts where nothing was changed before it.
        assert_eq!(after("1BCSQ", 1), None);
        assert_eq!(after("1BSBSQ", 2), None);
    }

    #[test]
    fn two_errors_are_taken_one_after_the_other() {
        let (mut unnamed, mut tracker) = (Unnamed::default(), Tracker::default());
        send(&mut unnamed, &mut tracker, "1BES2BE3BES");
        // The first Parse fails; the second statement is there, and its Execute fails.
        assert_eq!(unnamed.failed(0), None);
        assert_eq!(unnamed.failed(5), Some(Some([b'2'].into())));
        assert_eq!(unnamed.bytes, 0);
    }

    #[test]
    fn what_has_no_room_is_none() {
        let (mut unnamed, mut tracker) = (Unnamed::default(), Tracker::default());
        send(&mut unnamed, &mut tracker, &"1".repeat(3 * CHANGES_MAX));
        assert_eq!(unnamed.changes.len(), CHANGES_MAX);
        assert_eq!(unnamed.failed(0), Some(None));
    }
}
