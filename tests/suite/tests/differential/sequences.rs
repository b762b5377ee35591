//! Sequences of everything that a client may send, bent and cut short at random, with COPY and errors in every place. Between
//! them another client uses the server connection, and finds nothing of theirs. A stretch that differs is made as short as it
//! gets, which is what `found` is made of.
//!
//! For more of them, `SEQUENCES_SEED=400000000 SEQUENCES=100000 cargo test -p halephant-suite --test differential sequences`. So
//! were the sequences from 200,000,000 to 200,099,999 and from 300,000,000 to 300,099,999 on 2026-11-22, on PostgreSQL 15, with
//! halephant built for release and without a difference, at some 210 a second.

use halephant_harness::Cluster;
use halephant_suite::{Client, Stage, sequence, stage};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

use super::number;
use super::stretch::{Pair, Played, Sent, other, shrink};

/// The sequences of a run that names no others: the same each time, so that a failure is about what was changed.
const SEED: u64 = 20_261_122;
const SEQUENCES: u64 = 1000;
/// Sequences that a connection lives for, unless one of them ends it.
const OF_CONNECTION: usize = 10;
/// Differences after which a run ends.
const DIFFERENCES_MAX: usize = 20;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Seeds of sequences that failed once.
const KNOWN: [u64; 8] =
    [20_261_139, 20_261_164, 20_261_213, 20_261_401, 20_261_561, 20_261_749, 110_005_946, 110_070_252];

pub fn stage() -> Stage {
    let stage = Stage::with(Cluster::builder(), |config| {
        // The second is for the other client while the first one is pinned.
        config.set(&format!("cluster.main.pool.{}.max_connections.primary", stage::DATABASE), 2)
    });
    let stage = stage.expect("it starts");
    stage.prepare(sequence::SCHEMA).expect("the schema is right");
    stage
}

fn sequence(seed: u64) -> Sent {
    let messages = sequence::of(seed);
    let bytes: usize = messages.iter().map(Vec::len).sum();
    let mut random = StdRng::seed_from_u64(!seed);
    let piece = [7, 60, bytes + 200][random.random_range(0..3)];
    Sent { messages, piece }
}

/// Plays sequences on one connection. Returns how many were, and what differed.
fn play(stage: &Stage, other: &mut Client, seeds: &[u64]) -> (usize, Option<String>) {
    let mut pair = Pair::new(stage, other);
    pair.set_limit(LIMIT);
    for (number, seed) in seeds.iter().enumerate() {
        match pair.play(&sequence(*seed), &format!("marker {seed}")) {
            Ok(Played::Same) => {}
            Ok(Played::Last) => return (number + 1, None),
            Ok(Played::Differs(how)) => return (number + 1, Some(how)),
            Err(error) => panic!("sequence {seed}: {error:#}"),
        }
    }
    (seeds.len(), None)
}

#[test]
fn the_answers_are_those_of_postgresql() {
    let stage = stage();
    let first = number("SEQUENCES_SEED", SEED);
    let count = number("SEQUENCES", SEQUENCES);
    let mut other_client = other(&stage);
    let seeds: Vec<u64> =
        KNOWN.into_iter().chain((0..count).map(|offset| first.wrapping_add(offset))).collect();
    let (mut at, mut differences) = (0, 0);
    while at < seeds.len() && differences < DIFFERENCES_MAX {
        let next = &seeds[at..seeds.len().min(at + OF_CONNECTION)];
        let (played, difference) = play(&stage, &mut other_client, next);
        at += played;
        if let Some(how) = difference {
            differences += 1;
            let stretch: Vec<Sent> = next[..played].iter().map(|seed| sequence(*seed)).collect();
            eprintln!("sequences {:?}\n{how}", &next[..played]);
            stretch.last().into_iter().for_each(|sent| eprintln!("  {sent}"));
            eprintln!("as short as it gets:");
            let shortest = shrink(&stage, stretch);
            other_client = other(&stage);
            shortest.iter().for_each(|sent| eprintln!("  {sent}"));
        }
    }
    assert_eq!(differences, 0, "of {at} sequences from seed {first}");
    eprintln!("{count} sequences from seed {first}");
}
