//! The verdict over generated streams, cut in every way.

extern crate std;

use std::vec;
use std::vec::Vec;

use halephant_common::flow::{
    ASK_ARM, ASK_PASS, CLIENT_TO_SERVER, Direction, MAY_LOSE_TRACK, Reason, SERVER_TO_CLIENT, control_word,
    watched_bit,
};
use halephant_common::framing::Framing;
use proptest::prelude::*;

use crate::verdict::{Decision, commit, decide, reclaim};
use crate::walk::{Chunk, HEADERS_MAX, Tally, walk};

struct Bytes<'a>(&'a [u8]);

impl Chunk for Bytes<'_> {
    fn bytes(&self) -> u32 {
        self.0.len() as u32
    }

    fn byte(&mut self, at: u32) -> Option<u8> {
        self.0.get(at as usize).copied()
    }

    fn header(&mut self, at: u32) -> Option<u64> {
        let bytes = self.0.get(at as usize..at as usize + 5)?;
        Some(bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)))
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// Tallies of several chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    messages: u32,
    asks: u32,
    ready: [u32; 3],
}

/// Where a stream stands after `bytes`, found by parsing it from the beginning.
fn reference(bytes: &[u8]) -> (Framing, Seen) {
    let (mut framing, mut tally, mut at) = (Framing::default(), Seen::default(), 0);
    while at < bytes.len() {
        let rest = &bytes[at..];
        if rest.len() < 5 {
            framing.header = rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
            framing.header_len = rest.len() as u8;
            break;
        }
        let length = u32::from_be_bytes([rest[1], rest[2], rest[3], rest[4]]) as usize;
        framing.tag = rest[0];
        tally.messages += 1;
        if b"QSF".contains(&rest[0]) {
            tally.asks += 1;
        }
        let there = (rest.len() - 5).min(length - 4);
        framing.left = (length - 4 - there) as u32;
        if rest[0] == b'Z' && there > 0 {
            framing.status = rest[5];
            tally.ready["ITE".find(rest[5] as char).unwrap()] += 1;
        }
        at += 5 + there;
    }
    (framing, tally)
}

fn walk_all(chunks: &[&[u8]]) -> (Framing, Seen) {
    let (mut framing, mut seen) = (Framing::default(), Seen::default());
    for chunk in chunks {
        let mut tally = Tally::default();
        framing = walk(framing, 0, &mut Bytes(chunk), &mut tally).unwrap();
        seen.messages += tally.messages;
        seen.asks += tally.asks;
        for (sum, more) in seen.ready.iter_mut().zip(tally.ready()) {
            *sum += more;
        }
    }
    (framing, seen)
}

fn answer() -> Vec<u8> {
    [
        message(b'T', &[7; 11]),
        message(b'D', b"abc"),
        message(b'C', b"SELECT 1\0"),
        message(b'Z', b"I"),
        message(b'1', b""),
        message(b'Z', b"T"),
        message(b'Z', b"E"),
    ]
    .concat()
}

#[test]
fn two_cuts_at_every_position_change_nothing() {
    let stream = answer();
    for first in 0..=stream.len() {
        for second in first..=stream.len() {
            let chunks = [&stream[..first], &stream[first..second], &stream[second..]];
            assert_eq!(walk_all(&chunks), reference(&stream), "{first} {second}");
            let part = [&stream[..first], &stream[first..second]];
            assert_eq!(walk_all(&part), reference(&stream[..second]), "{first} {second}");
        }
    }
}

#[test]
fn requests_are_counted() {
    let stream =
        [message(b'P', b"\0\0\0\0"), message(b'S', b""), message(b'Q', b"\0"), message(b'F', b"")].concat();
    let (framing, tally) = walk_all(&[&stream]);
    assert_eq!((framing, tally), reference(&stream));
    assert_eq!(tally.asks, 3);
}

#[test]
fn a_chunk_of_nothing_is_passed() {
    assert_eq!(splice(&[b""], CLIENT_TO_SERVER, |_| {}), (0, None));
}

#[test]
fn one_byte_at_a_time_changes_nothing() {
    let stream = answer();
    let chunks: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(walk_all(&chunks), reference(&stream));
}

/// Feeds chunks to a spliced direction; bytes redirected and the reason it ended with.
fn splice(chunks: &[&[u8]], direction: u32, prepare: impl FnOnce(&Direction)) -> (usize, Option<Reason>) {
    let entry = direction_entry();
    entry.control.store(control_word(0, ASK_ARM));
    entry.limit.store(u64::MAX);
    entry.low.store(u64::MAX);
    prepare(&entry);
    let mut redirected = 0;
    for chunk in chunks {
        match decide(&entry, false, 0, &mut Bytes(chunk)) {
            Decision::Redirect(taken) => {
                commit(&entry, direction, &taken);
                redirected += chunk.len();
            }
            Decision::Pass => return (redirected, None),
            Decision::Reclaim(reason) => {
                reclaim(&entry, reason);
                return (redirected, Some(reason));
            }
        }
    }
    (redirected, None)
}

fn direction_entry() -> Direction {
    // SAFETY: all words zero is the state in which the kernel hands out the map.
    #[allow(unsafe_code)]
    unsafe {
        core::mem::zeroed()
    }
}

#[test]
fn no_byte_of_a_terminate_is_redirected() {
    let before = [message(b'Q', b"select 1\0"), message(b'S', b"")].concat();
    let stream = [before.clone(), message(b'X', b"")].concat();
    for first in 1..stream.len() {
        for second in first..=stream.len() {
            let chunks: Vec<&[u8]> = [&stream[..first], &stream[first..second], &stream[second..]]
                .into_iter()
                .filter(|chunk| !chunk.is_empty())
                .collect();
            let (redirected, reason) = splice(&chunks, CLIENT_TO_SERVER, |_| {});
            assert!(redirected <= before.len(), "{first} {second}");
            // A chunk that would have armed the direction is passed without a switch.
            assert!(redirected == 0 || reason == Some(Reason::Terminate), "{first} {second}");
        }
    }
}

#[test]
fn an_x_inside_a_message_is_no_terminate() {
    let stream = message(b'Q', b"XXXXX\0\0\0\x04X\0");
    for cut in 1..stream.len() {
        let chunks = [&stream[..cut], &stream[cut..]];
        assert_eq!(splice(&chunks, CLIENT_TO_SERVER, |_| {}), (stream.len(), None));
    }
}

#[test]
fn a_direction_arms_only_where_userspace_caught_up() {
    let query = message(b'Q', b"select 1\0");
    let entry = direction_entry();
    entry.limit.store(u64::MAX);
    entry.low.store(u64::MAX);
    entry.control.store(control_word(30, ASK_ARM));
    for (passed, expected) in [(29, false), (30, true), (31, false)] {
        let decision = decide(&entry, false, passed, &mut Bytes(&query));
        assert_eq!(matches!(decision, Decision::Redirect(_)), expected, "{passed}");
    }
    assert_eq!(decide(&entry, true, 30, &mut Bytes(&query)), Decision::Pass);
    entry.control.store(control_word(30, ASK_PASS));
    assert_eq!(decide(&entry, false, 30, &mut Bytes(&query)), Decision::Pass);
}

#[test]
fn a_spliced_direction_goes_back_when_told() {
    let query = message(b'Q', b"select 1\0");
    let entry = direction_entry();
    entry.limit.store(u64::MAX);
    entry.low.store(20);
    entry.control.store(control_word(0, ASK_ARM));
    let Decision::Redirect(taken) = decide(&entry, false, 0, &mut Bytes(&query)) else { panic!() };
    assert!(!commit(&entry, CLIENT_TO_SERVER, &taken), "14 bytes are below the mark");
    let Decision::Redirect(taken) = decide(&entry, false, 0, &mut Bytes(&query)) else { panic!() };
    assert!(commit(&entry, CLIENT_TO_SERVER, &taken), "28 bytes are above it");
    assert_eq!((entry.redirected.load(), entry.messages.load(), entry.arms.load()), (28, 2, 1));
    assert_eq!(decide(&entry, true, 0, &mut Bytes(&query)), Decision::Reclaim(Reason::Killed));
    entry.control.store(control_word(0, ASK_PASS));
    assert_eq!(decide(&entry, false, 0, &mut Bytes(&query)), Decision::Reclaim(Reason::Requested));
    reclaim(&entry, Reason::Requested);
    assert_eq!((entry.standing().spliced, entry.standing().reason), (false, Reason::Requested as u32));
}

#[test]
fn credit_is_never_exceeded() {
    let row = message(b'D', &[0; 95]);
    let chunks: Vec<&[u8]> = (0..20).map(|_| &row[..]).collect();
    let (redirected, reason) = splice(&chunks, SERVER_TO_CLIENT, |entry| entry.limit.store(950));
    assert_eq!((redirected, reason), (900, Some(Reason::Credit)));
}

#[test]
fn many_small_messages_are_left_to_userspace_or_lose_track() {
    let at_limit: Vec<u8> = (0..HEADERS_MAX).flat_map(|_| message(b'S', b"")).collect();
    let over: Vec<u8> = (0..=HEADERS_MAX).flat_map(|_| message(b'S', b"")).collect();
    let start = message(b'S', b"");
    assert_eq!(splice(&[&at_limit, &at_limit], 0, |_| {}), (2 * at_limit.len(), None));
    assert_eq!(splice(&[&start, &over], 0, |_| {}), (start.len(), Some(Reason::Dense)));
    let all = over.len() + start.len();
    assert_eq!(splice(&[&start, &over], 0, |entry| entry.flags.store(MAY_LOSE_TRACK)), (all, None));
}

#[test]
fn what_userspace_has_to_see_is_left_to_it_from_its_first_byte() {
    let before = [message(b'D', b"x"), message(b'C', b"SELECT 1\0")].concat();
    for tag in *b"EGWS" {
        let stream = [before.clone(), message(tag, b"abc")].concat();
        for cut in 1..stream.len() {
            let chunks = [&stream[..cut], &stream[cut..]];
            let watched = |entry: &Direction| {
                entry.watched.store(b"EGWS".iter().fold(0, |bits, tag| bits | watched_bit(*tag)));
            };
            let (redirected, reason) = splice(&chunks, SERVER_TO_CLIENT, watched);
            assert!(redirected <= before.len(), "{cut}");
            assert!(redirected == 0 || reason == Some(Reason::Watched), "{cut}");
            assert_eq!(splice(&chunks, SERVER_TO_CLIENT, |_| {}), (stream.len(), None), "{cut}");
        }
    }
}

#[test]
fn a_query_that_an_error_before_it_may_void_is_left_to_userspace() {
    let first = message(b'B', b"\0\0");
    for (between, counted) in [(vec![], false), (message(b'H', b""), false), (message(b'S', b""), true)] {
        let before = [first.clone(), between].concat();
        let query = message(b'Q', b"\0");
        for cut in 1..query.len() {
            let (redirected, reason) =
                splice(&[&before, &query[..cut], &query[cut..]], CLIENT_TO_SERVER, |_| {});
            let expected = if counted {
                (before.len() + query.len(), None)
            } else {
                (before.len(), Some(Reason::Watched))
            };
            assert_eq!((redirected, reason), expected, "{cut}");
        }
    }
}

#[test]
fn impossible_lengths_are_left_to_userspace() {
    let good = message(b'D', b"x");
    for bad in [[b'D', 0, 0, 0, 3], [b'D', 0xff, 0, 0, 0], [b'Z', 0, 0, 0, 6]] {
        assert_eq!(splice(&[&good, &bad], SERVER_TO_CLIENT, |_| {}), (good.len(), Some(Reason::Framing)));
    }
    let status = message(b'Z', b"?");
    assert_eq!(splice(&[&good, &status], SERVER_TO_CLIENT, |_| {}), (good.len(), Some(Reason::Framing)));
}

fn messages() -> impl Strategy<Value = Vec<u8>> {
    let any = (prop::sample::select(&b"PBDECSH1234TDn"[..]), prop::collection::vec(any::<u8>(), 0..40))
        .prop_map(|(tag, body)| message(tag, &body));
    let ready = prop::sample::select(&b"ITE"[..]).prop_map(|status| message(b'Z', &[status]));
    prop::collection::vec(prop_oneof![4 => any, 1 => ready], 0..40).prop_map(|all| all.concat())
}

proptest! {
    #[test]
    fn random_streams_in_random_chunks(stream in messages(), sizes in prop::collection::vec(1_usize..60, 1..200)) {
        let (mut chunks, mut rest) = (Vec::new(), &stream[..]);
        for size in sizes {
            let (chunk, after) = rest.split_at(size.min(rest.len()));
            chunks.push(chunk);
            rest = after;
        }
        let seen = &stream[..stream.len() - rest.len()];
        prop_assert_eq!(walk_all(&chunks), reference(seen));
    }

    #[test]
    fn random_bytes_do_not_panic(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..50)) {
        for direction in [CLIENT_TO_SERVER, SERVER_TO_CLIENT] {
            let chunks: Vec<&[u8]> = chunks.iter().map(|chunk| &chunk[..]).collect();
            splice(&chunks, direction, |_| {});
        }
    }
}
