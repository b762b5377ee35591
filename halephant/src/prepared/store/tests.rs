//! Tests of the store: what is shared, what is counted, what is bounded.

use super::*;
use proptest::prelude::*;

fn definition(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0\0\0"].concat()
}

fn intern(store: &Arc<Store>, text: &str) -> Option<Held> {
    store.intern(&definition(text), &Meaning::default())
}

#[test]
fn the_same_text_is_one_statement_and_another_meaning_is_not() {
    let store = Store::new(0);
    let one = intern(&store, "SELECT 1").expect("no limit");
    let two = intern(&store, "SELECT 1").expect("no limit");
    assert!(Arc::ptr_eq(one.statement(), two.statement()));
    assert_eq!(one.query(), b"SELECT 1");
    assert_ne!(intern(&store, "SELECT 2").expect("no limit").id, one.id);
    let typed = store.intern(b"SELECT 1\0\0\x01\0\0\0\x17", &Meaning::default()).expect("no limit");
    assert_ne!(typed.id, one.id);
    let meaning = Meaning::new([("search_path", "x")].into_iter());
    assert_ne!(store.intern(&definition("SELECT 1"), &meaning).expect("no limit").id, one.id);
    let holders = store.snapshot().statements.iter().map(|entry| entry.holders).collect::<Vec<_>>();
    assert_eq!(holders, [2, 0, 1, 0]);
}

#[test]
fn a_statement_that_nobody_has_is_found_again() {
    let store = Store::new(2);
    let id = intern(&store, "a").expect("room").id;
    assert_eq!(intern(&store, "a").expect("room").id, id);
    drop(intern(&store, "b"));
    // The third drops the one that was without a name for longest.
    drop(intern(&store, "c"));
    assert_ne!(intern(&store, "a").expect("room").id, id);
}

#[test]
fn the_limit_holds_and_what_is_in_use_stays() {
    let store = Store::new(2);
    let held = ["a", "b"].map(|text| intern(&store, text).expect("room"));
    assert!(intern(&store, "c").is_none());
    assert_eq!(intern(&store, "a").expect("it is there").id, held[0].id);
    assert_eq!(store.snapshot().refused, 1);
    drop(held);
    assert!(intern(&store, "c").is_some());
    assert_eq!(store.snapshot().statements.len(), 2);
    store.set_limit(1);
    assert_eq!(store.snapshot().statements.len(), 1);
    store.set_limit(0);
    assert!(intern(&store, "d").is_some());
}

#[test]
fn a_million_texts_stay_within_the_bounds() {
    let limited = Store::new(1000);
    let unlimited = Store::new(0);
    for number in 0..1_000_000 {
        let text = format!("SELECT {number}");
        let held = intern(&limited, &text).expect("nobody holds the others");
        if number % 10 == 0 {
            drop(intern(&unlimited, &text));
        }
        if number % 50_000 == 0 {
            assert!(limited.snapshot().statements.len() <= 1000);
            assert!(unlimited.snapshot().statements.len() <= UNUSED_STATEMENTS_MAX);
        }
        drop(held);
    }
    for (store, most) in [(limited, 1000), (unlimited, UNUSED_STATEMENTS_MAX)] {
        let inner = store.lock();
        assert_eq!((inner.table.len(), inner.unused.len()), (most, most));
        assert_eq!(inner.bytes, inner.table.iter().map(|entry| bytes(&entry.statement)).sum::<usize>());
        assert!(inner.bytes < most * 400 && inner.table.capacity() <= 4 * most);
    }
}

#[test]
fn long_texts_that_nobody_has_are_bounded_by_their_bytes() {
    let store = Store::new(0);
    for number in 0..64 {
        drop(intern(&store, &format!("SELECT '{number}{}'", "x".repeat(1 << 20))));
    }
    assert!(store.snapshot().bytes <= UNUSED_BYTES_MAX);
    assert!(store.snapshot().statements.len() >= 10);
}

proptest! {
    /// Whatever is held and released in whatever order: the sums are those of the entries, and what is held is there.
    #[test]
    fn the_sums_are_those_of_the_entries(limit in 0_usize..6, steps in prop::collection::vec((any::<bool>(), 0_u8..8), 0..80)) {
        let store = Store::new(limit);
        let mut held: Vec<Held> = Vec::new();
        for (hold, which) in steps {
            if hold {
                held.extend(intern(&store, &format!("SELECT {which}")));
            } else if !held.is_empty() {
                held.swap_remove(usize::from(which) % held.len());
            }
            let inner = store.lock();
            let unused: usize = inner.unused.values().map(|statement| bytes(statement)).sum();
            prop_assert_eq!(inner.unused_bytes, unused);
            prop_assert_eq!(inner.bytes, inner.table.iter().map(|entry| bytes(&entry.statement)).sum::<usize>());
            prop_assert_eq!(inner.table.iter().map(|entry| entry.holders).sum::<usize>(), held.len());
            prop_assert!(limit == 0 || inner.table.len() <= limit);
            prop_assert!(held.iter().all(|held| inner.table.iter().any(|entry| Arc::ptr_eq(&entry.statement, held.statement()))));
        }
    }
}
