//! Messages about prepared statements whose answers are outstanding: what each changes, and whose the answer is.
//!
//! Positions count the messages of the extended protocol that the server was sent, our own included, as the relay's
//! tracker does. What is sent is taken for done at once, because within one batch, up to its Sync, it is: after
//! an error the server skips everything that could depend on it. An error takes it back.

use super::names::Named;
use super::statement::StatementId;
use std::collections::VecDeque;

/// What one message does once the server has carried it out.
#[derive(Debug)]
pub enum Change {
    /// Our own Parse: a copy.
    Copied(StatementId),
    /// Our own Close of a copy.
    Dropped(StatementId),
    /// Our own Describe of a copy, and the name whose client goes by the columns from now on.
    Described { id: StatementId, name: Option<Box<[u8]>> },
    /// Our own message, about nothing that is kept.
    Own,
    /// A Parse of the client's that makes a copy and gives it a name.
    Named { name: Box<[u8]>, id: StatementId },
    /// A Close of the client's, with what it closes.
    Closed { name: Box<[u8]>, named: Option<Named> },
}

impl Change {
    /// The answer is for nobody.
    fn is_own(&self) -> bool {
        matches!(self, Self::Copied(_) | Self::Dropped(_) | Self::Described { .. } | Self::Own)
    }
}

#[derive(Debug)]
struct Outstanding {
    position: u64,
    batch: u64,
    change: Change,
}

#[derive(Debug, Default)]
pub struct Pending {
    queue: VecDeque<Outstanding>,
    batch: u64,
}

impl Pending {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The message at `position` is being sent.
    pub fn push(&mut self, position: u64, change: Change) {
        debug_assert!(self.queue.back().is_none_or(|last| last.position < position));
        self.queue.push_back(Outstanding { position, batch: self.batch, change });
    }

    /// A Sync is being sent.
    #[inline]
    pub fn end_batch(&mut self) {
        self.batch += 1;
    }

    /// Whether the answer to the message at `position` is for nobody.
    #[inline]
    pub fn is_own(&self, position: u64) -> bool {
        self.queue.front().is_some_and(|next| next.position == position && next.change.is_own())
    }

    /// The message at `position`, if it is our own Describe.
    #[inline]
    pub fn described(&self, position: u64) -> Option<(StatementId, Option<&[u8]>)> {
        match self.queue.front() {
            Some(Outstanding { position: next, change: Change::Described { id, name }, .. })
                if *next == position =>
            {
                Some((*id, name.as_deref()))
            }
            _ => None,
        }
    }

    /// The name whose client is being told the columns of the statement's copy, if they are not known yet.
    pub fn describes(&self, id: StatementId) -> Option<Option<&[u8]>> {
        self.queue.iter().rev().find_map(|entry| match &entry.change {
            Change::Described { id: other, name } if *other == id => Some(name.as_deref()),
            _ => None,
        })
    }

    /// Whether anything of our own is outstanding.
    pub fn has_own(&self) -> bool {
        self.queue.iter().any(|entry| entry.change.is_own())
    }

    /// The message at `position` was answered well.
    #[inline]
    pub fn answered(&mut self, position: u64) -> Option<Change> {
        let next = self.queue.pop_front_if(|next| next.position == position)?;
        Some(next.change)
    }

    /// The messages before `end` failed or were skipped: what they would have changed, the last first.
    pub fn failed(&mut self, end: u64) -> Vec<Change> {
        let count = self.queue.iter().take_while(|entry| entry.position < end).count();
        self.queue.drain(..count).rev().map(|entry| entry.change).collect()
    }

    /// Whether an earlier batch, which may yet fail, says what the name stands for.
    pub fn is_name_unsettled(&self, name: &[u8]) -> bool {
        self.earlier().any(|change| match change {
            Change::Named { name: other, .. } | Change::Closed { name: other, .. } => **other == *name,
            _ => false,
        })
    }

    /// Whether an earlier batch, which may yet fail, makes or drops a copy of the statement.
    pub fn is_copy_unsettled(&self, id: StatementId) -> bool {
        self.earlier().any(|change| match change {
            Change::Copied(other)
            | Change::Dropped(other)
            | Change::Named { id: other, .. }
            | Change::Described { id: other, .. } => *other == id,
            _ => false,
        })
    }

    fn earlier(&self) -> impl Iterator<Item = &Change> {
        self.queue.iter().take_while(|entry| entry.batch < self.batch).map(|entry| &entry.change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(name: &str, id: u64) -> Change {
        Change::Named { name: name.as_bytes().into(), id: StatementId(id) }
    }

    #[test]
    fn answers_belong_to_the_message_at_their_position() {
        let mut pending = Pending::default();
        pending.push(3, Change::Copied(StatementId(1)));
        pending.push(5, named("s", 2));
        assert!(pending.answered(2).is_none() && !pending.is_own(2));
        assert!(pending.is_own(3) && pending.has_own());
        assert!(matches!(pending.answered(3), Some(Change::Copied(StatementId(1)))));
        assert!(!pending.is_own(5) && !pending.has_own());
        assert!(matches!(pending.answered(5), Some(Change::Named { .. })));
        assert!(pending.is_empty());
    }

    #[test]
    fn what_failed_is_taken_back_from_its_end() {
        let mut pending = Pending::default();
        pending.push(0, Change::Dropped(StatementId(1)));
        pending.push(1, named("s", 1));
        pending.push(4, Change::Own);
        let failed = pending.failed(4);
        assert!(matches!(failed[..], [Change::Named { .. }, Change::Dropped(_)]));
        assert!(pending.is_own(4));
        assert!(pending.failed(4).is_empty());
    }

    #[test]
    fn only_an_earlier_batch_leaves_a_name_unsettled() {
        let mut pending = Pending::default();
        pending.push(0, named("s", 7));
        assert!(!pending.is_name_unsettled(b"s") && !pending.is_copy_unsettled(StatementId(7)));
        pending.end_batch();
        assert!(pending.is_name_unsettled(b"s") && pending.is_copy_unsettled(StatementId(7)));
        assert!(!pending.is_name_unsettled(b"t") && !pending.is_copy_unsettled(StatementId(8)));
        pending.answered(0);
        assert!(!pending.is_name_unsettled(b"s"));
    }

    #[test]
    fn a_describe_of_ours_is_known_by_its_position_and_its_statement() {
        let mut pending = Pending::default();
        let id = StatementId(1);
        pending.push(2, Change::Copied(id));
        pending.push(3, Change::Described { id, name: Some(b"s"[..].into()) });
        assert_eq!((pending.described(2), pending.described(3)), (None, None));
        assert_eq!((pending.describes(id), pending.describes(StatementId(2))), (Some(Some(&b"s"[..])), None));
        pending.answered(2);
        assert_eq!(pending.described(3), Some((id, Some(&b"s"[..]))));
        assert!(pending.is_own(3) && !pending.is_copy_unsettled(id));
        pending.end_batch();
        assert!(pending.is_copy_unsettled(id));
        pending.answered(3);
        assert_eq!(pending.describes(id), None);
    }

    proptest! {
        /// Every change is answered or taken back, once.
        #[test]
        fn nothing_is_lost(gaps in prop::collection::vec((0_u64..4, any::<bool>()), 1..40), ends in prop::collection::vec((1_u64..8, any::<bool>()), 0..60)) {
            let mut pending = Pending::default();
            let mut position = 0;
            for (gap, batch) in &gaps {
                position += gap;
                pending.push(position, Change::Own);
                position += 1;
                if *batch {
                    pending.end_batch();
                }
            }
            let (mut done, mut settled) = (0, 0);
            for (more, fails) in ends {
                if fails {
                    done += more;
                    settled += pending.failed(done).len();
                } else {
                    settled += usize::from(pending.answered(done).is_some());
                    done += 1;
                }
            }
            settled += pending.failed(u64::MAX).len();
            prop_assert_eq!(settled, gaps.len());
            prop_assert!(pending.is_empty());
        }
    }
}
