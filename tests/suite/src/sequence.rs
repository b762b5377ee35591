//! Random sequences of frontend messages: mostly what drivers send, bent and cut short at random.

use crate::encode;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

/// Tables, a view and a trigger for each way in which a COPY or a commit fails.
pub const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS t (a int);
    CREATE TABLE IF NOT EXISTS deferred (a int UNIQUE DEFERRABLE INITIALLY DEFERRED);
    INSERT INTO deferred SELECT 1 WHERE NOT EXISTS (SELECT FROM deferred);
    CREATE OR REPLACE VIEW v AS SELECT 1 AS a;
    CREATE TABLE IF NOT EXISTS refuses (a int);
    CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END$$;
    CREATE OR REPLACE TRIGGER refuse BEFORE INSERT ON refuses FOR EACH STATEMENT EXECUTE FUNCTION refuse();";

/// One message of a client.
pub type Bytes = Vec<u8>;

const SIMPLE: [&str; 18] = [
    "SELECT 1",
    "SELECT generate_series(1, 5)",
    "",
    " ; ",
    "SELECT 1; SELECT 2",
    "SELECT 1/0",
    "SELECT 1; SELECT 1/0; SELECT 2",
    "SELEKT",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "INSERT INTO deferred VALUES (1)",
    "SET application_name = 'x'",
    "DO $$BEGIN RAISE NOTICE 'n'; END$$",
    "LISTEN l",
    "NOTIFY l",
    "COPY (SELECT generate_series(1, 3)) TO STDOUT",
    "COPY (SELECT 1) TO STDOUT; SELECT 2",
];

const COPY_IN: [&str; 7] = [
    "COPY t FROM STDIN",
    "COPY t FROM STDIN; SELECT 1",
    "SELECT 1; COPY t FROM STDIN; COPY t FROM STDIN",
    "COPY t FROM STDIN (FORMAT binary)",
    "COPY v FROM STDIN",
    "COPY refuses FROM STDIN",
    "COPY missing FROM STDIN",
];

const EXTENDED: [&str; 10] = [
    "SELECT 1",
    "SELECT generate_series(1, 5)",
    "",
    "SELECT 1/0",
    "SELEKT",
    "BEGIN",
    "COMMIT",
    "INSERT INTO deferred VALUES (1)",
    "COPY (SELECT generate_series(1, 3)) TO STDOUT",
    "SET application_name = 'y'",
];

/// Every message of sequence `seed`; at its end nothing is known about the state the server is in.
pub fn of(seed: u64) -> Vec<Bytes> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut messages = Vec::new();
    for _ in 0..random.random_range(1..=8) {
        unit(&mut random, &mut messages);
    }
    messages
}

/// Ends whatever may be open, and says by its one row that it was answered.
pub fn ending(marker: &str) -> Vec<Bytes> {
    vec![
        encode::copy_fail("the end"),
        encode::sync(),
        encode::query("ROLLBACK"),
        encode::query(&format!("SELECT '{marker}'")),
    ]
}

fn unit(random: &mut StdRng, messages: &mut Vec<Bytes>) {
    match random.random_range(0..20) {
        0..=4 => messages.push(encode::query(pick(random, &SIMPLE))),
        5..=6 => {
            messages.push(encode::query(pick(random, &COPY_IN)));
            copy(random, messages);
        }
        7..=12 => batch(random, messages),
        13..=15 => extended_copy(random, messages),
        16 => messages.push(encode::function_call(*[1397, 1397, 1].choose(random).unwrap_or(&1), &["-5"])),
        17 => messages.push(encode::sync()),
        18 => messages.push(encode::flush()),
        _ => messages.push(stray(random)),
    }
}

fn pick(random: &mut StdRng, texts: &[&'static str]) -> &'static str {
    texts.choose(random).copied().unwrap_or_default()
}

/// Some of Parse, Bind, Describe, Execute and Close, mostly with a Sync behind.
fn batch(random: &mut StdRng, messages: &mut Vec<Bytes>) {
    let name = if random.random_bool(0.2) { "named" } else { "" };
    let sql = pick(random, &EXTENDED);
    let rows = random.random_range(0..3);
    let all = [
        encode::parse(name, sql),
        encode::describe_statement(name),
        encode::bind("", name, if random.random_bool(0.1) { &[Some("1")] } else { &[] }),
        encode::describe_portal(""),
        encode::execute("", rows),
        encode::execute("", 0),
        encode::close_statement(name),
    ];
    // Not every one every time, so that some are sent for what is not there.
    let likely = [0.95, 0.4, 0.95, 0.5, 0.95, 0.2, 0.3];
    for (message, likely) in all.into_iter().zip(likely) {
        if random.random_bool(likely) {
            messages.push(message);
        }
        if random.random_bool(0.05) {
            messages.push(stray(random));
        }
    }
    if random.random_bool(0.1) {
        messages.push(encode::message(b'B', b"\0"));
    }
    if random.random_bool(0.2) {
        messages.push(encode::flush());
    }
    if random.random_bool(0.8) {
        messages.push(encode::sync());
    }
}

fn extended_copy(random: &mut StdRng, messages: &mut Vec<Bytes>) {
    messages.push(encode::parse(
        "",
        COPY_IN
            .iter()
            .filter(|sql| !sql.contains(';'))
            .collect::<Vec<_>>()
            .choose(random)
            .copied()
            .copied()
            .unwrap_or_default(),
    ));
    messages.push(encode::bind("", "", &[]));
    messages.push(encode::execute("", 0));
    // Some drivers send a Sync at once, which the server ignores when it comes to read data.
    if random.random_bool(0.5) {
        messages.push(encode::sync());
    }
    copy(random, messages);
    if random.random_bool(0.9) {
        messages.push(encode::sync());
    }
}

/// Data for a COPY, and mostly its end.
fn copy(random: &mut StdRng, messages: &mut Vec<Bytes>) {
    for _ in 0..random.random_range(0..4) {
        messages.push(match random.random_range(0..12) {
            0 => encode::copy_data(b"bad\n"),
            1 => encode::sync(),
            2 => encode::flush(),
            3 => encode::copy_data(b""),
            4 => encode::copy_data(b"\\.\n"),
            _ => encode::copy_data(b"1\n2\n"),
        });
    }
    match random.random_range(0..20) {
        0 => {}
        1..=5 => messages.push(encode::copy_fail("enough")),
        6..=7 => messages.extend([encode::copy_done(), encode::copy_data(b"3\n"), encode::copy_done()]),
        _ => messages.push(encode::copy_done()),
    }
}

/// What belongs to a COPY that is not there.
fn stray(random: &mut StdRng) -> Bytes {
    match random.random_range(0..3) {
        0 => encode::copy_data(b"1\n"),
        1 => encode::copy_done(),
        _ => encode::copy_fail("stray"),
    }
}
