//! Which statements a server connection has a copy of.

use super::columns::Columns;
use super::statement::StatementId;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Copies on one server connection; a further one takes the place of the one that was used least recently.
pub const COPIES_MAX: usize = 500;

/// Numbers need no more than to be spread.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(u64::from(byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[derive(Debug, Default)]
pub struct Copies {
    table: HashMap<StatementId, Copy, BuildHasherDefault<IdHasher>>,
    clock: u64,
}

#[derive(Clone, Copy, Debug)]
struct Copy {
    used: u64,
    stale: bool,
    columns: Columns,
    /// How often the statement's columns had changed when it was made.
    changes: u32,
}

/// Whether a statement can be bound on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    Ready,
    /// There may be a copy, and it must not be used: it has to be closed before there is another one.
    Stale,
    Absent,
}

impl Copies {
    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Looks for a statement that is about to be used, and for the columns that its copy has.
    #[inline]
    pub fn find(&mut self, id: StatementId) -> (Presence, Columns) {
        self.clock += 1;
        match self.table.get_mut(&id) {
            Some(copy) if copy.stale => (Presence::Stale, Columns::UNKNOWN),
            Some(copy) => {
                copy.used = self.clock;
                (Presence::Ready, copy.columns)
            }
            None => (Presence::Absent, Columns::UNKNOWN),
        }
    }

    /// A copy is being made. Returns the one that has to go for it.
    pub fn insert(&mut self, id: StatementId, changes: u32) -> Option<StatementId> {
        self.clock += 1;
        let evicted = if self.table.len() >= COPIES_MAX && !self.table.contains_key(&id) {
            let oldest = self.table.iter().min_by_key(|(_, copy)| (!copy.stale, copy.used));
            oldest.map(|(&oldest, _)| oldest)
        } else {
            None
        };
        if let Some(evicted) = evicted {
            self.table.remove(&evicted);
        }
        self.table.insert(id, Copy { used: self.clock, stale: false, columns: Columns::UNKNOWN, changes });
        evicted
    }

    /// Whether a change of the statement's columns was seen since its copy was made.
    pub fn is_older(&self, id: StatementId, changes: u32) -> bool {
        self.table.get(&id).is_some_and(|copy| copy.changes != changes)
    }

    /// The server said which columns the copy has.
    pub fn learn(&mut self, id: StatementId, columns: Columns) {
        if let Some(copy) = self.table.get_mut(&id) {
            copy.columns = columns;
        }
    }

    /// The copy is being closed.
    pub fn remove(&mut self, id: StatementId) -> bool {
        self.table.remove(&id).is_some()
    }

    /// Whether there is such a copy is not known any more, or it is of no use.
    pub fn distrust(&mut self, id: StatementId) {
        let used = self.clock;
        self.table
            .entry(id)
            .or_insert(Copy { used, stale: true, columns: Columns::UNKNOWN, changes: 0 })
            .stale = true;
    }

    pub fn distrust_all(&mut self) {
        self.table.values_mut().for_each(|copy| copy.stale = true);
    }

    /// The connection has no prepared statements any more.
    pub fn clear(&mut self) {
        self.table = HashMap::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn presence(copies: &mut Copies, id: u64) -> Presence {
        copies.find(StatementId(id)).0
    }

    #[test]
    fn the_least_recently_used_copy_makes_room() {
        let mut copies = Copies::default();
        let most = COPIES_MAX as u64;
        assert!((0..most).all(|id| copies.insert(StatementId(id), 0).is_none()));
        assert_eq!(presence(&mut copies, 0), Presence::Ready);
        assert_eq!(copies.insert(StatementId(most), 0), Some(StatementId(1)));
        assert_eq!(presence(&mut copies, 1), Presence::Absent);
        // One that is of no use goes first.
        copies.distrust(StatementId(most));
        assert_eq!(copies.insert(StatementId(most + 1), 0), Some(StatementId(most)));
        // Replacing one needs no room.
        assert_eq!(copies.insert(StatementId(0), 0), None);
        assert_eq!(copies.len(), COPIES_MAX);
    }

    #[test]
    fn a_distrusted_copy_has_to_be_made_anew() {
        let mut copies = Copies::default();
        copies.insert(StatementId(1), 0);
        copies.insert(StatementId(2), 0);
        copies.distrust(StatementId(1));
        copies.distrust(StatementId(3));
        copies.learn(StatementId(1), Columns::NONE);
        let found = [1, 2, 3, 4].map(|id| presence(&mut copies, id));
        assert_eq!(found, [Presence::Stale, Presence::Ready, Presence::Stale, Presence::Absent]);
        copies.insert(StatementId(1), 0);
        // It may have other columns.
        assert_eq!(copies.find(StatementId(1)), (Presence::Ready, Columns::UNKNOWN));
        copies.learn(StatementId(1), Columns::NONE);
        assert_eq!(copies.find(StatementId(1)), (Presence::Ready, Columns::NONE));
        assert!(copies.is_older(StatementId(1), 1) && !copies.is_older(StatementId(1), 0));
        copies.distrust_all();
        assert_eq!(presence(&mut copies, 2), Presence::Stale);
        assert!(copies.remove(StatementId(2)) && !copies.remove(StatementId(2)));
        copies.clear();
        assert!(copies.is_empty());
    }

    proptest! {
        #[test]
        fn there_are_never_too_many(ids in prop::collection::vec((0_u64..2000, any::<bool>()), 0..3000)) {
            let mut copies = Copies::default();
            for (id, used) in ids {
                let id = StatementId(id);
                if copies.find(id).0 == Presence::Absent || !used {
                    let evicted = copies.insert(id, 0);
                    prop_assert!(evicted != Some(id));
                }
                prop_assert!(copies.len() <= COPIES_MAX);
                prop_assert_eq!(copies.find(id).0, Presence::Ready);
            }
        }
    }
}
