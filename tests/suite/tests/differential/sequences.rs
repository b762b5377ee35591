//! Sequences of everything that a client may send, bent and cut short at random, with COPY and errors in every place. Between
//! them another client uses the server connection, and finds nothing of theirs.

use anyhow::{Context, Result, ensure};
use halephant_harness::Cluster;
use halephant_suite::encode::{bind, describe_portal, execute, parse, sync};
use halephant_suite::{Client, Message, Stage, message, sequence, stage};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::io::Write;

use super::{normalize, number, text};

/// The sequences of a run that names no others: the same each time, so that a failure is about what was changed.
const SEED: u64 = 20_261_122;
const SEQUENCES: u64 = 1000;
/// Sequences that a connection lives for, unless one of them ends it.
const OF_CONNECTION: u64 = 10;

/// Seeds of sequences that failed once.
const KNOWN: [u64; 6] = [20_261_139, 20_261_164, 20_261_213, 20_261_401, 20_261_561, 20_261_749];

/// What another client finds of the session it is lent.
const TRACES: &str = "SELECT concat_ws(' ', current_setting('application_name'), \
    (SELECT count(*) FROM pg_listening_channels()), \
    (SELECT count(*) FROM pg_prepared_statements WHERE name NOT LIKE 'hp\\_%'), \
    (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'))";

/// Sends all of it in pieces, and reads to the marker's ReadyForQuery or to the end. `true`: it was the end.
fn play(
    client: &mut Client,
    messages: &[Vec<u8>],
    marker: &str,
    random: &mut StdRng,
) -> Result<(Vec<Message>, bool)> {
    let (mut socket, bytes) = (client.socket()?, messages.concat());
    let piece = [7, 60, bytes.len()][random.random_range(0..3)];
    // From another thread, so that neither side waits for the other to read first.
    let writer = std::thread::spawn(move || {
        for part in bytes.chunks(piece.max(1)) {
            // Where the server has ended the connection, what it said is still to be read.
            if socket.write_all(part).is_err() {
                return;
            }
        }
    });
    let mut answers = Vec::new();
    let mut marked = false;
    let ended = loop {
        let answer = match client.receive_or_end() {
            Ok(Some(answer)) => answer,
            Ok(None) => break true,
            Err(error) if error.downcast_ref::<halephant_suite::Silence>().is_none() => break true,
            Err(error) => {
                return Err(error.context(format!("after {answers:?}")));
            }
        };
        marked |= answer.tag == b'D' && answer.value().as_deref() == Some(marker);
        let last = marked && answer.tag == b'Z';
        // Whether one comes before an answer or behind it is not said.
        if answer.tag != b'A' {
            answers.push(answer);
        }
        if last {
            break false;
        }
    };
    drop(writer.join());
    answers.iter_mut().for_each(normalize);
    answers.iter_mut().for_each(normalize_type);
    Ok((answers, ended))
}

/// How often a name was taken.
fn taken(messages: &[Message]) -> usize {
    messages.iter().filter(|message| message.sqlstate().as_deref() == Some("42P05")).count()
}

/// A message that does not belong into a COPY may have one of ours before it, and that is the one named.
fn normalize_type(message: &mut Message) {
    let at = message.body.windows(10).position(|part| part == b" type 0x50" || part == b" type 0x43");
    if let (b'E', Some(at)) = (message.tag, at) {
        message.body[at + 8..at + 10].copy_from_slice(b"**");
    }
}

/// The connections of one stretch of sequences.
struct Pair {
    direct: Client,
    through: Client,
}

impl Pair {
    fn new(stage: &Stage) -> Self {
        let client = |login| Client::connect(&login).expect("it may log in");
        Self { direct: client(stage.direct()), through: client(stage.transaction()) }
    }

    /// `false`: the sequence ended both, or they are not in the same state any more.
    fn compare(&mut self, seed: u64) -> Result<bool> {
        let mut random = StdRng::seed_from_u64(!seed);
        let marker = format!("marker {seed}");
        let mut messages = sequence::of(seed);
        messages.extend(sequence::ending(&marker));
        let shown = || format!("sequence {seed}: {}", text(&messages.concat()));
        let (expected, ended) =
            play(&mut self.direct, &messages, &marker, &mut random).with_context(shown)?;
        let (found, ended_too) =
            play(&mut self.through, &messages, &marker, &mut random).with_context(shown)?;
        if expected != found && taken(&expected) > taken(&found) {
            // Where a COPY failed and it is not certain which Syncs it read, nothing can be put in any more, and a name is
            // given anew that PostgreSQL says is taken.
            return Ok(false);
        }
        ensure!(
            expected == found && ended == ended_too,
            "{}\n- {expected:?} {ended}\n+ {found:?} {ended_too}",
            shown()
        );
        Ok(!ended)
    }
}

/// Its statement has the name and one of the texts of the others'.
fn look(other: &mut Client) -> Result<()> {
    let found = other.value(TRACES)?;
    ensure!(found == " 0 0 0", "the other client found {found:?}");
    let run = [bind("", "named", &[]), describe_portal(""), execute("", 0), sync()].concat();
    other.send(&run)?;
    let messages = other.receive_until(b'Z')?;
    ensure!(message::values(&messages) == ["the other's"], "the other client: {messages:?}");
    Ok(())
}

#[test]
fn the_answers_are_those_of_postgresql() {
    let stage = Stage::with(Cluster::builder(), |config| {
        // The second is for the other client while the first one is pinned.
        config.set(&format!("cluster.main.pool.{}.max_connections.primary", stage::DATABASE), 2)
    });
    let stage = stage.expect("it starts");
    stage.prepare(sequence::SCHEMA).expect("the schema is right");
    let first = number("SEQUENCES_SEED", SEED);
    let count = number("SEQUENCES", SEQUENCES);
    let mut other = stage.client().expect("it may log in");
    other.send(&[parse("named", "SELECT 'the other''s'"), sync()].concat()).expect("it is read");
    other.receive_until(b'Z').expect("it is answered");
    let mut pair = Pair::new(&stage);
    for (seed, played) in
        KNOWN.into_iter().chain((0..count).map(|offset| first.wrapping_add(offset))).zip(0..)
    {
        let lives = pair.compare(seed).and_then(|lives| look(&mut other).map(|()| lives));
        let lives = lives.unwrap_or_else(|error| panic!("{error:#}"));
        if !lives || played % OF_CONNECTION == OF_CONNECTION - 1 {
            pair = Pair::new(&stage);
        }
    }
    eprintln!("{count} sequences from seed {first}");
}
