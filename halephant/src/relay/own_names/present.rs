//! Which names of a client's own may be on its server connection, and which of them a text takes away: the pin that they are ends
//! with the last one.
//!
//! PREPARE and DEALLOCATE are no part of a transaction: no rollback takes them back. What is here is never less than what is there: a
//! name counts from when its text is sent, and until the server has confirmed a DEALLOCATE of it that is surely the one.

use crate::prepared::names::NAME_BYTES_MAX;
use std::collections::{HashSet, VecDeque};

/// Names that are remembered. Where there are more, only all at once end the pin.
const NAMES_MAX: usize = 1_000;

#[derive(Debug, Default)]
pub(super) struct Present {
    names: HashSet<Box<[u8]>>,
    /// There may be names that are not remembered.
    others: bool,
    /// What the text under way takes away: one entry for each CommandComplete of its DEALLOCATEs.
    leaving: VecDeque<Leaving>,
    /// The text's answers come before this many ReadyForQuery have.
    cycle: u64,
    /// Which answers are the text's is certain.
    certain: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Leaving {
    One(Box<[u8]>),
    All,
    /// What may be there again, or cannot be read.
    Nothing,
}

impl Present {
    /// A statement may be prepared under this name. `None`: it cannot be read.
    pub(super) fn insert(&mut self, name: Option<&[u8]>) {
        // One beyond ASCII may be spelled in other bytes when the client has another encoding.
        let name = name.filter(|name| name.is_ascii() && name.len() <= NAME_BYTES_MAX);
        for leaving in &mut self.leaving {
            match leaving {
                Leaving::One(other) if name.is_some_and(|name| *name != **other) => {}
                leaving => *leaving = Leaving::Nothing,
            }
        }
        match name {
            Some(name) if self.names.len() < NAMES_MAX => drop(self.names.insert(name.into())),
            _ => self.others = true,
        }
    }

    /// A text with a DEALLOCATE is about to be sent when so many ReadyForQuery have come. `certain`: until the next one, no other
    /// DEALLOCATE is confirmed, unless [`doubt`](Self::doubt) says so.
    pub(super) fn begin(&mut self, cycle: u64, certain: bool) {
        // Behind another one that is not answered, neither can be told.
        self.leaving.clear();
        (self.cycle, self.certain) = (cycle, certain);
    }

    /// The text's next DEALLOCATE.
    pub(super) fn leave(&mut self, name: Option<Option<&[u8]>>) {
        if self.certain {
            self.leaving.push_back(match name {
                None => Leaving::All,
                Some(Some(name)) => Leaving::One(name.into()),
                Some(None) => Leaving::Nothing,
            });
        }
    }

    /// What is sent now may be a DEALLOCATE, too.
    pub(super) fn doubt(&mut self) {
        self.leaving.clear();
    }

    /// A DEALLOCATE was confirmed after so many ReadyForQuery. Returns whether there is surely no name any more.
    pub(super) fn left(&mut self, cycle: u64, all: bool) -> bool {
        if cycle != self.cycle {
            self.leaving.clear();
        }
        match self.leaving.pop_front() {
            Some(Leaving::One(name)) if !all => drop(self.names.remove(&name)),
            Some(Leaving::All) if all => self.clear(),
            _ => return false,
        }
        self.names.is_empty() && !self.others
    }

    /// There is none any more.
    pub(super) fn clear(&mut self) {
        self.names = HashSet::new();
        self.others = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends one text after another, each answered up to its end: `+a` prepares, `-a` deallocates, `-*` all; `?` is a name that
    /// cannot be read. Returns after which of all of them there was surely none.
    fn none_after(texts: &[&str]) -> Vec<bool> {
        let mut present = Present::default();
        let mut none = Vec::new();
        for (cycle, text) in texts.iter().enumerate() {
            send(&mut present, cycle as u64, text);
            let removals = text.split(' ').filter_map(|part| part.strip_prefix('-'));
            none.extend(removals.map(|name| present.left(cycle as u64, name == "*")));
        }
        none
    }

    fn send(present: &mut Present, cycle: u64, text: &str) {
        let read = |name: &'static str| (name != "?").then_some(name.as_bytes());
        if text.contains('-') {
            present.begin(cycle, true);
        }
        for part in text.split(' ') {
            let name = ["a", "b", "c", "?"].into_iter().find(|name| part[1..] == **name);
            match (part.as_bytes()[0], name) {
                (b'+', Some(name)) => present.insert(read(name)),
                (b'-', name) => present.leave(name.map(read)),
                _ => unreachable!("{part}"),
            }
        }
    }

    #[test]
    fn the_last_name_ends_it() {
        assert_eq!(none_after(&["+a", "-a"]), [true]);
        assert_eq!(none_after(&["+a", "+b", "-b", "-a"]), [false, true]);
        assert_eq!(none_after(&["+a +b", "-b -a"]), [false, true]);
        assert_eq!(none_after(&["+a", "-b"]), [false]);
        assert_eq!(none_after(&["+a -a"]), [true]);
        assert_eq!(none_after(&["+a +?", "-*"]), [true]);
    }

    #[test]
    fn what_is_prepared_behind_it_stays() {
        assert_eq!(none_after(&["+a", "-a +a"]), [false]);
        assert_eq!(none_after(&["+a", "-a +a -a"]), [false, true]);
        assert_eq!(none_after(&["+a", "-a +b"]), [false]);
        assert_eq!(none_after(&["+a", "-* +a"]), [false]);
        let mut present = Present::default();
        present.insert(Some(b"a"));
        send(&mut present, 0, "-a");
        // Sent ahead, before the answer.
        present.insert(Some(b"a"));
        assert!(!present.left(0, false));
    }

    #[test]
    fn what_cannot_be_told_ends_nothing() {
        assert_eq!(none_after(&["+a +?", "-a"]), [false]);
        assert_eq!(none_after(&["+a", "-?"]), [false]);
        assert_eq!(none_after(&["+a", "-a +?"]), [false]);
        let begun = || {
            let mut present = Present::default();
            present.insert(Some(b"a"));
            send(&mut present, 7, "-a");
            present
        };
        assert!(begun().left(7, false));
        // The answer to something else.
        assert!(!begun().left(8, false) && !begun().left(7, true));
        let mut present = begun();
        send(&mut present, 7, "-b");
        assert!(!present.left(7, false) && !present.left(7, false));
        let mut present = begun();
        present.doubt();
        assert!(!present.left(7, false));
        for name in ["\u{e9}".as_bytes(), &[b'x'; NAME_BYTES_MAX + 1]] {
            let mut present = Present::default();
            present.insert(Some(name));
            present.begin(0, true);
            present.leave(Some(Some(name)));
            assert!(!present.left(0, false));
        }
    }

    #[test]
    fn too_many_are_not_remembered() {
        let mut present = Present::default();
        for number in 0..=NAMES_MAX {
            present.insert(Some(number.to_string().as_bytes()));
        }
        assert_eq!((present.names.len(), present.others), (NAMES_MAX, true));
    }
}
