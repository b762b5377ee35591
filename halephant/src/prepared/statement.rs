//! One statement that clients prepared: its text and parameter types, once for all of them.

use std::fmt;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What every canonical name begins with.
pub const NAME_PREFIX: &[u8] = b"hp_";
/// Prefix and 20 digits.
const NAME_BYTES_MAX: usize = 3 + 20;

/// Numbers a statement for the life of the process; none is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StatementId(pub u64);

impl Default for StatementId {
    fn default() -> Self {
        Self::NONE
    }
}

impl StatementId {
    /// Not the number of any statement: its name is one that no server connection has.
    pub const NONE: Self = Self(0);

    /// The name on server connections.
    pub fn name(self) -> CanonicalName {
        let mut name = CanonicalName { bytes: [0; NAME_BYTES_MAX], length: 0 };
        let mut rest = &mut name.bytes[..];
        // It is as long as the longest number needs.
        let _ = write!(rest, "hp_{}", self.0);
        name.length = NAME_BYTES_MAX - rest.len();
        name
    }

    /// The statement whose canonical name this is.
    pub fn of_name(name: &[u8]) -> Option<Self> {
        let digits = std::str::from_utf8(name.strip_prefix(NAME_PREFIX)?).ok()?;
        let id = Self(digits.parse().ok()?);
        (id.name().as_bytes() == name).then_some(id)
    }
}

#[derive(Clone, Copy)]
pub struct CanonicalName {
    bytes: [u8; NAME_BYTES_MAX],
    length: usize,
}

impl CanonicalName {
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The run-time parameters under which a text is read, as far as they can change what it means; mostly none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Meaning(Option<Arc<[u8]>>);

impl Meaning {
    pub fn new<'a>(parameters: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut bytes = Vec::new();
        for (name, value) in parameters.filter(|(name, _)| changes_meaning(name)) {
            for text in [name, value] {
                bytes.extend_from_slice(text.as_bytes());
                bytes.push(0);
            }
        }
        Self((!bytes.is_empty()).then(|| bytes.into()))
    }

    /// Parameters that only the server knows: no other meaning is the same.
    pub fn unsettled() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let bytes: Vec<u8> = [UNSETTLED].into_iter().chain(number).collect();
        Self(Some(bytes.into()))
    }

    pub fn is_unsettled(&self) -> bool {
        self.0.as_ref().is_some_and(|bytes| bytes.first() == Some(&UNSETTLED))
    }
}

/// No parameter's name begins with it.
const UNSETTLED: u8 = 0xFF;

/// Whether a parameter can change what a statement means. Not so those that change how it is carried out, how long that may take or what
/// is said about it, and those that PostgreSQL does not know.
pub fn changes_meaning(name: &str) -> bool {
    let family = ["enable_", "jit", "log_", "track_", "geqo", "max_parallel_", "parallel_"];
    if name.contains('.') || family.iter().any(|family| name.starts_with(family)) {
        return false;
    }
    !matches!(
        name,
        "application_name"
            | "client_min_messages"
            | "effective_cache_size"
            | "hash_mem_multiplier"
            | "idle_in_transaction_session_timeout"
            | "idle_session_timeout"
            | "lock_timeout"
            | "maintenance_work_mem"
            | "plan_cache_mode"
            | "random_page_cost"
            | "seq_page_cost"
            | "statement_timeout"
            | "synchronous_commit"
            | "transaction_timeout"
            | "work_mem"
    )
}

/// What a Parse says behind the statement's name.
pub struct Statement {
    pub id: StatementId,
    /// The query, its NUL, and the parameter types with their count: as they are on the wire.
    pub definition: Box<[u8]>,
    pub meaning: Meaning,
    pub(super) hash: u64,
    /// Counts how often its columns were seen to have changed: a copy that is older may be outdated.
    pub(super) changes: AtomicU32,
}

impl Statement {
    /// The query's text.
    pub fn query(&self) -> &[u8] {
        self.definition.split(|&byte| byte == 0).next().unwrap_or_default()
    }

    pub fn changes(&self) -> u32 {
        self.changes.load(Ordering::Relaxed)
    }

    /// PostgreSQL says that its columns are not what they were.
    pub fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Statement {
    /// Query text is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Statement({}, {} bytes)", self.id.0, self.definition.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn canonical_names_are_read_back_and_others_are_not_taken_for_one() {
        for id in [0, 1, 42, u64::MAX] {
            let name = StatementId(id).name();
            assert_eq!(name.as_bytes(), format!("hp_{id}").as_bytes());
            assert_eq!(StatementId::of_name(name.as_bytes()), Some(StatementId(id)));
        }
        for name in ["", "hp_", "hp_01", "hp_+1", "hp_1 ", "HP_1", "hp_99999999999999999999", "s1"] {
            assert_eq!(StatementId::of_name(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn what_only_limits_or_names_a_session_has_no_part_in_a_meaning() {
        let none = Meaning::new([("application_name", "a"), ("statement_timeout", "5s")].into_iter());
        assert_eq!(none, Meaning::default());
        let paths = ["a", "b"].map(|path| Meaning::new([("search_path", path)].into_iter()));
        assert_ne!(paths[0], paths[1]);
        assert_ne!(paths[0], none);
        let unsettled = [(); 2].map(|()| Meaning::unsettled());
        assert!(unsettled[0] != unsettled[1] && unsettled[0].is_unsettled());
        assert!(![&paths[0], &none].into_iter().any(Meaning::is_unsettled));
    }

    proptest! {
        #[test]
        fn any_name_is_survived(name in prop::collection::vec(any::<u8>(), 0..30)) {
            let id = StatementId::of_name(&name);
            prop_assert!(id.is_none_or(|id| id.name().as_bytes() == name));
        }
    }
}
