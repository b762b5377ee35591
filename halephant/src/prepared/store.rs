//! Every statement that clients have a name for, once, however many clients there are; and, up to a bound, those that
//! they had, because the next client will send them again.

use super::statement::{Meaning, Statement, StatementId};
use hashbrown::HashTable;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Statements that are kept without a client that has a name for them, and their bytes.
pub const UNUSED_STATEMENTS_MAX: usize = 4096;
pub const UNUSED_BYTES_MAX: usize = 16 << 20;
/// What an entry takes beside its text, as far as the sums are concerned.
const ENTRY_BYTES: usize = size_of::<Statement>() + size_of::<Entry>() + 2 * size_of::<usize>();

#[derive(Debug)]
pub struct Store {
    /// `max_prepared_statements`; 0 is no limit.
    statements_max: AtomicUsize,
    hasher: RandomState,
    inner: Mutex<Inner>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Inner {
    table: HashTable<Entry>,
    /// The statements that nobody holds, by the moment at which that began.
    unused: BTreeMap<u64, Arc<Statement>>,
    unused_bytes: usize,
    bytes: usize,
    ids: u64,
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    statement: Arc<Statement>,
    /// Clients' names for it.
    holders: usize,
    /// Its place in `unused`.
    since: u64,
}

/// What happened to statements since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Parse messages of clients that a copy on the server connection made unnecessary.
    pub answered: AtomicU64,
    /// Copies made on server connections.
    pub copied: AtomicU64,
    /// Copies dropped from server connections in favour of others.
    pub evicted: AtomicU64,
    /// Statements that were sent again because a copy was outdated.
    pub retried: AtomicU64,
    /// Statements that found no room and pinned their client.
    pub refused: AtomicU64,
}

/// The store at one moment.
#[derive(Clone, Debug)]
pub struct StoreSnapshot {
    /// In the order in which they were first prepared.
    pub statements: Vec<StatementSnapshot>,
    /// 0 is no limit.
    pub statements_max: usize,
    /// Memory they take.
    pub bytes: usize,
    pub answered: u64,
    pub copied: u64,
    pub evicted: u64,
    pub retried: u64,
    pub refused: u64,
}

#[derive(Clone, Debug)]
pub struct StatementSnapshot {
    pub statement: Arc<Statement>,
    /// Names that clients have for it.
    pub holders: usize,
}

/// A name's share in a statement.
#[derive(Debug)]
pub struct Held {
    statement: Arc<Statement>,
    store: Arc<Store>,
}

impl std::ops::Deref for Held {
    type Target = Statement;

    fn deref(&self) -> &Statement {
        &self.statement
    }
}

impl Held {
    pub fn statement(&self) -> &Arc<Statement> {
        &self.statement
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.store.release(&self.statement);
    }
}

impl Store {
    pub fn new(statements_max: usize) -> Arc<Self> {
        // No client has names like ours by chance.
        let ids = rand::random::<u64>() >> 20;
        Arc::new(Self {
            statements_max: AtomicUsize::new(statements_max),
            hasher: RandomState::new(),
            inner: Mutex::new(Inner { ids, ..Inner::default() }),
            counts: Counts::default(),
        })
    }

    /// Another `max_prepared_statements`. Statements that clients hold stay, however many they are.
    pub fn set_limit(&self, statements_max: usize) {
        self.statements_max.store(statements_max, Ordering::Relaxed);
        let mut inner = self.lock();
        while statements_max > 0 && inner.table.len() > statements_max && inner.drop_oldest() {}
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The statement of this definition (what a Parse says behind the name). `None`: there is no room for another one.
    pub fn intern(self: &Arc<Self>, definition: &[u8], meaning: &Meaning) -> Option<Held> {
        let hash = self.hasher.hash_one((definition, meaning));
        let statements_max = self.statements_max.load(Ordering::Relaxed);
        let mut inner = self.lock();
        let statement = match inner.hold(hash, definition, meaning) {
            Some(statement) => statement,
            None => {
                let full = statements_max > 0 && inner.table.len() >= statements_max;
                if full && !inner.drop_oldest() {
                    self.counts.refused.fetch_add(1, Ordering::Relaxed);
                    return None;
                }
                inner.insert(hash, definition, meaning)
            }
        };
        drop(inner);
        Some(Held { statement, store: Arc::clone(self) })
    }

    pub fn snapshot(&self) -> StoreSnapshot {
        let inner = self.lock();
        let mut statements: Vec<_> = inner
            .table
            .iter()
            .map(|entry| StatementSnapshot {
                statement: Arc::clone(&entry.statement),
                holders: entry.holders,
            })
            .collect();
        let bytes = inner.bytes;
        drop(inner);
        statements.sort_unstable_by_key(|snapshot| snapshot.statement.id);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StoreSnapshot {
            statements,
            statements_max: self.statements_max.load(Ordering::Relaxed),
            bytes,
            answered: count(&self.counts.answered),
            copied: count(&self.counts.copied),
            evicted: count(&self.counts.evicted),
            retried: count(&self.counts.retried),
            refused: count(&self.counts.refused),
        }
    }

    fn release(&self, statement: &Arc<Statement>) {
        let statements_max = self.statements_max.load(Ordering::Relaxed);
        let mut inner = self.lock();
        inner.release(statement);
        let over = |inner: &Inner| {
            inner.unused.len() > UNUSED_STATEMENTS_MAX
                || inner.unused_bytes > UNUSED_BYTES_MAX
                || (statements_max > 0 && inner.table.len() > statements_max)
        };
        while over(&inner) && inner.drop_oldest() {}
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn hold(&mut self, hash: u64, definition: &[u8], meaning: &Meaning) -> Option<Arc<Statement>> {
        let same =
            |entry: &Entry| *entry.statement.definition == *definition && entry.statement.meaning == *meaning;
        let entry = self.table.find_mut(hash, same)?;
        entry.holders += 1;
        let statement = Arc::clone(&entry.statement);
        if entry.holders == 1 {
            self.unused.remove(&entry.since);
            self.unused_bytes -= bytes(&statement);
        }
        Some(statement)
    }

    fn insert(&mut self, hash: u64, definition: &[u8], meaning: &Meaning) -> Arc<Statement> {
        self.ids += 1;
        let id = StatementId(self.ids);
        let statement = Arc::new(Statement {
            id,
            definition: definition.into(),
            meaning: meaning.clone(),
            hash,
            changes: AtomicU32::new(0),
        });
        self.bytes += bytes(&statement);
        let entry = Entry { statement: Arc::clone(&statement), holders: 1, since: 0 };
        self.table.insert_unique(hash, entry, |entry| entry.statement.hash);
        statement
    }

    fn release(&mut self, statement: &Arc<Statement>) {
        let same = |entry: &Entry| Arc::ptr_eq(&entry.statement, statement);
        let Some(entry) = self.table.find_mut(statement.hash, same) else { return };
        entry.holders -= 1;
        if entry.holders == 0 {
            self.clock += 1;
            entry.since = self.clock;
            self.unused.insert(self.clock, Arc::clone(statement));
            self.unused_bytes += bytes(statement);
        }
    }

    /// Forgets the statement that has been without a name for longest. `false`: there is none.
    fn drop_oldest(&mut self) -> bool {
        let Some((_, statement)) = self.unused.pop_first() else { return false };
        let same = |entry: &Entry| Arc::ptr_eq(&entry.statement, &statement);
        if let Ok(entry) = self.table.find_entry(statement.hash, same) {
            entry.remove();
        }
        self.unused_bytes -= bytes(&statement);
        self.bytes -= bytes(&statement);
        if self.table.capacity() > 4 * self.table.len() + 64 {
            self.table.shrink_to(2 * self.table.len(), |entry| entry.statement.hash);
        }
        true
    }
}

fn bytes(statement: &Statement) -> usize {
    statement.definition.len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests;
