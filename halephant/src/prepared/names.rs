//! One client's names for its prepared statements, and its unnamed statement.

use super::columns::Columns;
use super::statement::Meaning;
use super::store::{Held, Store};
use std::collections::HashMap;
use std::sync::Arc;

/// Names that one client may have.
pub const NAMES_MAX: usize = 10_000;
/// Longest name that is followed: PostgreSQL tells names apart by their first 63 bytes.
pub const NAME_BYTES_MAX: usize = 63;
/// Longest definition of an unnamed statement that is remembered.
pub const UNNAMED_BYTES_MAX: usize = 64 * 1024;
/// What an idle client may keep of a longer one's memory.
const UNNAMED_BYTES_KEPT: usize = 1024;

/// What a client calls by a name.
#[derive(Debug)]
pub struct Named {
    pub held: Held,
    /// Its text may do something to the session when it runs.
    pub has_effects: bool,
    /// ParseComplete was ours, and an error came behind it: PostgreSQL itself may have refused the Parse.
    pub tentative: bool,
    /// The columns that the client goes by: those it was told, or those of its own Parse.
    pub told: Columns,
}

#[derive(Debug)]
pub struct ClientStatements {
    store: Arc<Store>,
    // In a box, because most clients have none and every client has this.
    #[allow(clippy::box_collection, reason = "an idle client shall be small")]
    names: Option<Box<HashMap<Box<[u8]>, Named>>>,
    unnamed: Option<Box<Unnamed>>,
    /// Under what the client's texts are read at the moment.
    pub meaning: Meaning,
}

#[derive(Debug, Default)]
struct Unnamed {
    definition: Vec<u8>,
    exists: bool,
}

impl ClientStatements {
    pub fn new(store: Arc<Store>) -> Self {
        Self { store, names: None, unnamed: None, meaning: Meaning::default() }
    }

    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    pub fn len(&self) -> usize {
        self.names.as_ref().map_or(0, |names| names.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<&Named> {
        self.names.as_ref()?.get(name)
    }

    pub fn find_mut(&mut self, name: &[u8]) -> Option<&mut Named> {
        self.names.as_mut()?.get_mut(name)
    }

    /// Whether there is room for another name, and this one can be followed.
    pub fn takes(&self, name: &[u8]) -> bool {
        name.len() <= NAME_BYTES_MAX && self.len() < NAMES_MAX
    }

    pub fn insert(&mut self, name: &[u8], named: Named) {
        self.names.get_or_insert_default().insert(name.into(), named);
    }

    pub fn remove(&mut self, name: &[u8]) -> Option<Named> {
        self.names.as_mut()?.remove(name)
    }

    /// DEALLOCATE ALL, DISCARD ALL: the names are gone, and the unnamed statement is not.
    pub fn clear(&mut self) {
        self.names = None;
    }

    /// The definition of the unnamed statement, if there is one.
    pub fn unnamed(&self) -> Option<&[u8]> {
        let unnamed = self.unnamed.as_ref().filter(|unnamed| unnamed.exists)?;
        Some(&unnamed.definition)
    }

    /// A Parse of the unnamed statement.
    pub fn set_unnamed(&mut self, definition: &[u8]) {
        if definition.len() > UNNAMED_BYTES_MAX {
            self.unnamed = None;
            return;
        }
        let unnamed = self.unnamed.get_or_insert_default();
        unnamed.definition.clear();
        if definition.len() <= UNNAMED_BYTES_KEPT {
            unnamed.definition.shrink_to(UNNAMED_BYTES_KEPT);
        }
        unnamed.definition.extend_from_slice(definition);
        unnamed.exists = true;
    }

    /// There is no unnamed statement any more.
    #[inline]
    pub fn drop_unnamed(&mut self) {
        if let Some(unnamed) = &mut self.unnamed {
            unnamed.exists = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(store: &Arc<Store>, text: &[u8]) -> Named {
        let held = store.intern(text, &Meaning::default()).expect("no limit");
        Named { held, has_effects: false, tentative: false, told: Columns::UNKNOWN }
    }

    #[test]
    fn names_hold_their_statements_and_let_them_go() {
        let store = Store::new(0);
        let mut client = ClientStatements::new(Arc::clone(&store));
        client.insert(b"a", named(&store, b"x\0\0\0"));
        client.insert(b"b", named(&store, b"x\0\0\0"));
        let holders = || store.snapshot().statements[0].holders;
        assert_eq!((client.len(), holders()), (2, 2));
        // What is called by a name that was in use is let go.
        client.insert(b"a", named(&store, b"y\0\0\0"));
        assert_eq!(holders(), 1);
        assert_eq!(client.find(b"b").expect("it is there").held.query(), b"x");
        assert!(client.remove(b"b").is_some() && client.find(b"b").is_none());
        client.clear();
        assert!(client.is_empty());
        assert!(store.snapshot().statements.iter().all(|entry| entry.holders == 0));
    }

    #[test]
    fn long_names_and_too_many_are_not_taken() {
        let store = Store::new(0);
        let mut client = ClientStatements::new(Arc::clone(&store));
        assert!(client.takes(&[b'a'; NAME_BYTES_MAX]) && !client.takes(&[b'a'; NAME_BYTES_MAX + 1]));
        for number in 0..NAMES_MAX {
            assert!(client.takes(b"x"));
            client.insert(number.to_string().as_bytes(), named(&store, b"x\0\0\0"));
        }
        assert!(!client.takes(b"x"));
    }

    #[test]
    fn the_unnamed_statement_is_the_last_one() {
        let mut client = ClientStatements::new(Store::new(0));
        assert_eq!(client.unnamed(), None);
        client.set_unnamed(b"one\0\0\0");
        client.set_unnamed(b"two\0\0\0");
        assert_eq!(client.unnamed(), Some(&b"two\0\0\0"[..]));
        client.drop_unnamed();
        assert_eq!(client.unnamed(), None);
        client.set_unnamed(&[b'x'; UNNAMED_BYTES_MAX + 1]);
        assert_eq!(client.unnamed(), None);
        client.set_unnamed(&[b'x'; UNNAMED_BYTES_MAX]);
        client.set_unnamed(b"three\0\0\0");
        let unnamed = client.unnamed.as_ref().expect("it is there");
        assert!(unnamed.definition.capacity() <= 2 * UNNAMED_BYTES_KEPT);
    }
}
