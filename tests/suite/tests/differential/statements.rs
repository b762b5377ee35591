//! Random sequences about prepared statements, direct and through halephant in transaction mode with one server
//! connection, which another client uses in between: the answers are the same, byte for byte.

use anyhow::{Context, Result};
use halephant_harness::Cluster;
use halephant_suite::encode::{
    bind, close_statement, describe_portal, describe_statement, execute, flush, parse, query, sync,
};
use halephant_suite::{Client, Message, Stage, message};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::{normalize, number, text};

/// Sequences beside the known ones, from a new seed every time.
const SEQUENCES: u64 = 300;
/// Batches of one sequence, all on the same connection.
const BATCHES: usize = 12;

/// Seeds of sequences that failed once.
const KNOWN: [u64; 0] = [];

const NAMES: [&str; 4] = ["", "a", "b", "hp_1"];
const TEXTS: [&str; 8] =
    ["SELECT 1", "SELECT 2, 'two'", "SELECT $1::int + 1", "SELECT 1 / 0", "SELEKT", "", "BEGIN", "ROLLBACK"];
const QUERIES: [&str; 10] = [
    "SELECT 3",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SELECT 1 / 0",
    "DEALLOCATE a",
    "DEALLOCATE ALL",
    "EXECUTE b",
    "PREPARE a AS SELECT 'of SQL'",
    "DISCARD ALL",
];

fn pick<T: Copy>(random: &mut StdRng, from: &[T]) -> T {
    *from.choose(random).expect("there is one")
}

/// One write of a client's, and how many ReadyForQuery it leads to.
fn batch(random: &mut StdRng) -> (Vec<u8>, usize) {
    let mut bytes = Vec::new();
    let mut ready = 0;
    for _ in 0..random.random_range(1..4) {
        if random.random_bool(0.25) {
            bytes.extend(query(pick(random, &QUERIES)));
            ready += 1;
            continue;
        }
        for _ in 0..random.random_range(1..7) {
            let name = pick(random, &NAMES);
            if name.is_empty() {
                bytes.extend(parse(name, pick(random, &TEXTS)));
            }
            bytes.extend(match random.random_range(0..12) {
                // Each name has texts of its own, so that an error can only mean one.
                0..=2 => parse(name, &format!("{} -- {name}", pick(random, &TEXTS))),
                3..=4 => bind("", name, &[]),
                5 => bind("", name, &[Some("41")]),
                6..=7 => [bind("", name, &[]), describe_portal(""), execute("", 0)].concat(),
                8 => describe_statement(name),
                9 => close_statement(name),
                10 => execute("", 0),
                _ => flush(),
            });
        }
        bytes.extend(sync());
        ready += 1;
    }
    (bytes, ready)
}

fn play(client: &mut Client, bytes: &[u8], ready: usize) -> Result<Vec<Message>> {
    client.send(bytes)?;
    let mut messages = Vec::new();
    for _ in 0..ready {
        messages.extend(client.receive_until(b'Z')?);
    }
    messages.iter_mut().for_each(normalize);
    Ok(messages)
}

/// Whether something met a failed transaction. No copy can be made there, so what PostgreSQL says about a statement that
/// it has may be this instead.
pub fn in_failed_transaction(messages: &[Message]) -> bool {
    messages.iter().any(|message| message.sqlstate().as_deref() == Some("25P02"))
}

fn states(messages: &[Message]) -> Vec<String> {
    messages.iter().filter_map(Message::sqlstate).collect()
}

pub fn statuses(messages: &[Message]) -> Vec<&Message> {
    messages.iter().filter(|message| message.tag == b'Z').collect()
}

fn compare(seed: u64, direct: &mut Client, through: &mut Client, other: &mut Client) -> Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut played = Vec::new();
    for number in 0..BATCHES {
        let (bytes, ready) = batch(&mut random);
        let shown = || format!("batch {number}: {}", text(&bytes));
        let expected = play(direct, &bytes, ready).with_context(shown)?;
        let found = play(through, &bytes, ready).with_context(shown)?;
        played.push(shown());
        let same = expected == found
            || [&expected, &found].into_iter().any(|answers| in_failed_transaction(answers))
                && statuses(&expected) == statuses(&found);
        if states(&expected).contains(&"42P05".into()) && !states(&found).contains(&"42P05".into()) {
            // A name is free again after an error that its Parse might have led to, had it been sent: the one thing
            // that halephant lets pass and PostgreSQL does not.
            return Ok(());
        }
        anyhow::ensure!(same, "{}\n- {expected:?}\n+ {found:?}", played.join("\n"));
        if expected.last().is_some_and(|ready| ready.body == b"I") {
            // It has other statements by the same names, and some of the same texts.
            let mine = [
                close_statement("a"),
                parse("a", &format!("{} -- a", pick(&mut random, &TEXTS[..2]))),
                sync(),
            ]
            .concat();
            play(other, &mine, 1)?;
            let run = [bind("", "a", &[]), execute("", 0), sync()].concat();
            let messages = play(other, &run, 1)?;
            anyhow::ensure!(message::error(&messages).is_none(), "the other client: {messages:?}");
        }
    }
    Ok(())
}

/// The sequences of a run that names no other: the same each time, so that a failure is about what was changed.
const SEED: u64 = 20_261_122;

#[test]
fn the_answers_are_those_of_postgresql() {
    let stage = Stage::with(Cluster::builder(), |config| {
        config.set("cluster.main.pool.app.max_connections.primary", 2)
    });
    let stage = stage.expect("it starts");
    let first = number("STATEMENTS_SEED", SEED);
    let sequences = number("STATEMENTS_SEQUENCES", SEQUENCES);
    for seed in KNOWN.into_iter().chain((0..sequences).map(|offset| first.wrapping_add(offset))) {
        let client = |login| Client::connect(&login).expect("it may log in");
        let (mut direct, mut through) = (client(stage.direct()), client(stage.transaction()));
        let mut other = client(stage.transaction());
        if let Err(error) = compare(seed, &mut direct, &mut through, &mut other) {
            panic!("sequence {seed}: {error:#}");
        }
        for client in [direct, through, other] {
            client.terminate().expect("it leaves");
        }
    }
    eprintln!("{sequences} sequences from seed {first}");
}
