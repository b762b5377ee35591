//! Large objects: the functions that libpq calls by FunctionCall, and libpq itself.

use crate::{direct, pins, stage, tags};
use anyhow::{Context, Result, ensure};
use halephant_harness::psql;
use halephant_suite::encode::{function_call_with, query};
use halephant_suite::{Client, Message};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// As libpq calls the functions for large objects.
struct Objects<'a> {
    client: &'a mut Client,
    oids: HashMap<String, u32>,
    /// All that was answered but for what lo_creat gave, which is another each time.
    answers: Vec<Message>,
}

/// INV_READ and INV_WRITE, and SEEK_SET.
const READ_WRITE: i32 = 0x60000;
const START: i32 = 0;
const OBJECT_BYTES: usize = 3 << 20;
/// What libpq's lo_import and lo_export take at a time, and more.
const PIECES: [usize; 4] = [8192, 65_537, 1 << 20, 1];

impl<'a> Objects<'a> {
    /// Asks for the functions as libpq does.
    fn new(client: &'a mut Client) -> Result<Self> {
        let rows = client.values(
            "SELECT proname || ' ' || oid FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
             AND proname IN ('lo_creat', 'lo_open', 'lowrite', 'loread', 'lo_lseek', 'lo_lseek64', 'lo_tell',
             'lo_truncate', 'lo_close', 'lo_unlink')",
        )?;
        let split =
            |row: &String| Some((row.split_once(' ')?.0.to_owned(), row.split_once(' ')?.1.parse().ok()?));
        let oids: HashMap<_, _> = rows.iter().filter_map(split).collect();
        ensure!(oids.len() == 10, "{rows:?}");
        Ok(Self { client, oids, answers: Vec::new() })
    }

    /// What is answered, to the ReadyForQuery.
    fn answer(&mut self, bytes: &[u8]) -> Result<Vec<Message>> {
        self.client.send(bytes)?;
        self.client.receive_until(b'Z')
    }

    /// A call that is answered, and its result.
    fn call(&mut self, name: &str, arguments: &[&[u8]]) -> Result<Vec<u8>> {
        let oid = self.oids.get(name).with_context(|| format!("no {name}"))?;
        let answer = self.answer(&function_call_with(*oid, &[1], arguments, 1))?;
        ensure!(tags(&answer) == "VZ", "{name}: {answer:?}");
        let result = answer[0].body.get(4..).unwrap_or_default().to_vec();
        if name != "lo_creat" {
            self.answers.extend(answer);
        }
        Ok(result)
    }

    /// A call that fails.
    fn fail(&mut self, name: &str, arguments: &[&[u8]]) -> Result<()> {
        let oid = self.oids.get(name).with_context(|| format!("no {name}"))?;
        let answer = self.answer(&function_call_with(*oid, &[1], arguments, 1))?;
        ensure!(tags(&answer) == "EZ", "{name}: {answer:?}");
        self.answers.extend(answer);
        Ok(())
    }

    fn query(&mut self, sql: &str) -> Result<()> {
        let answer = self.answer(&query(sql))?;
        self.answers.extend(answer);
        Ok(())
    }

    /// Makes an object of `data` in a transaction, and gives its OID.
    fn write(&mut self, data: &[u8]) -> Result<[u8; 4]> {
        self.query("BEGIN")?;
        let made = self.call("lo_creat", &[&READ_WRITE.to_be_bytes()])?;
        let fd = self.call("lo_open", &[&made, &READ_WRITE.to_be_bytes()])?;
        let (mut rest, mut pieces) = (data, PIECES.iter().cycle());
        while let (false, Some(&piece)) = (rest.is_empty(), pieces.next()) {
            let (now, after) = rest.split_at(piece.min(rest.len()));
            let written = self.call("lowrite", &[&fd, now])?;
            ensure!(written == (now.len() as u32).to_be_bytes(), "{written:?}");
            rest = after;
        }
        ensure!(self.call("lo_tell", &[&fd])? == (data.len() as u32).to_be_bytes());
        self.call("lo_close", &[&fd])?;
        self.query("COMMIT")?;
        Ok(made.as_slice().try_into()?)
    }

    /// What an object has from `start` on, in a transaction of its own.
    fn read(&mut self, object: [u8; 4], start: u64) -> Result<Vec<u8>> {
        self.query("BEGIN")?;
        let fd = self.call("lo_open", &[&object, &READ_WRITE.to_be_bytes()])?;
        self.call("lo_lseek", &[&fd, &1_u32.to_be_bytes(), &START.to_be_bytes()])?;
        self.call("lo_lseek64", &[&fd, &start.to_be_bytes(), &START.to_be_bytes()])?;
        let (mut data, pieces) = (Vec::new(), PIECES.iter().rev().cycle());
        for &piece in pieces {
            let read = self.call("loread", &[&fd, &(piece as u32).to_be_bytes()])?;
            ensure!(read.len() <= piece, "{} bytes of {piece}", read.len());
            if read.is_empty() {
                break;
            }
            data.extend(read);
        }
        self.call("lo_close", &[&fd])?;
        self.query("COMMIT")?;
        Ok(data)
    }
}

fn random_bytes(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    SmallRng::seed_from_u64(0x6861_6C65).fill_bytes(&mut bytes);
    bytes
}

/// An object from its making to its end, with another client's transactions between its own.
fn life(client: &mut Client, other: &mut Client) -> Result<Vec<Message>> {
    let mut data = random_bytes(OBJECT_BYTES);
    let mut objects = Objects::new(client)?;
    let object = objects.write(&data)?;
    ensure!(other.value("SELECT 1")? == "1");
    ensure!(objects.read(object, 0)? == data, "other bytes were read");
    ensure!(objects.read(object, 1_000_001)? == data[1_000_001..], "other bytes were read");
    let sum = "SELECT encode(sha256(lo_get(oid)), 'hex') FROM pg_largeobject_metadata";
    let hex =
        |data: &[u8]| -> String { Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect() };
    ensure!(other.values(sum)? == [hex(&data)], "other bytes were written");

    objects.query("BEGIN")?;
    let fd = objects.call("lo_open", &[&object, &READ_WRITE.to_be_bytes()])?;
    objects.call("lo_lseek", &[&fd, &5000_u32.to_be_bytes(), &START.to_be_bytes()])?;
    objects.call("lowrite", &[&fd, b"in the middle"])?;
    objects.call("lo_truncate", &[&fd, &1_048_577_u32.to_be_bytes()])?;
    objects.query("COMMIT")?;
    data.truncate(1_048_577);
    data[5000..5013].copy_from_slice(b"in the middle");
    ensure!(other.values(sum)? == [hex(&data)], "other bytes were written");
    // The descriptor ended with its transaction, whether or not it was closed.
    objects.fail("loread", &[&fd, &10_u32.to_be_bytes()])?;
    ensure!(other.value("SELECT 2")? == "2");

    objects.query("BEGIN")?;
    objects.call("lo_unlink", &[&object])?;
    objects.query("ROLLBACK")?;
    ensure!(objects.read(object, 0)? == data, "what was not unlinked is there");
    objects.query("BEGIN")?;
    objects.call("lo_unlink", &[&object])?;
    objects.fail("loread", &[&99_u32.to_be_bytes(), &10_u32.to_be_bytes()])?;
    objects.query("COMMIT")?;
    ensure!(objects.read(object, 0)? == data, "what was not unlinked is there");
    objects.call("lo_unlink", &[&object])?;
    ensure!(other.values(sum)?.is_empty(), "it is gone");
    Ok(objects.answers)
}

#[test]
fn large_objects_by_function_calls() {
    let stage = stage(1);
    let expected = life(&mut direct(&stage), &mut direct(&stage)).expect("PostgreSQL itself has them");
    for (login, other) in [(stage.session(), stage.direct()), (stage.transaction(), stage.transaction())] {
        let [mut client, mut other] =
            [&login, &other].map(|login| Client::connect(login).expect("it may log in"));
        let found =
            life(&mut client, &mut other).unwrap_or_else(|error| panic!("{}: {error:#}", login.database));
        for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!(found == expected, "{}, message {at}: {found:?} instead of {expected:?}", login.database);
        }
        assert_eq!(found.len(), expected.len());
    }
    assert_eq!(pins(&stage), "");
}

/// libpq's own functions, as psql uses them.
#[test]
fn large_objects_by_libpq() {
    let stage = stage(1);
    let directory = tempfile::tempdir().expect("there is room");
    let data = random_bytes(OBJECT_BYTES);
    let [from, to] = ["from", "to"].map(|name| directory.path().join(name));
    std::fs::write(&from, &data).expect("there is room");
    for login in [stage.session(), stage.transaction()] {
        let commands = [
            format!("\\lo_import {}", from.display()),
            format!("\\lo_export :LASTOID {}", to.display()),
            "\\lo_unlink :LASTOID".to_owned(),
            "SELECT count(*) FROM pg_largeobject_metadata".to_owned(),
        ];
        let left = psql::script(stage.cluster.binaries(), &login, &commands).expect("psql has them");
        assert_eq!(left, "0");
        assert!(std::fs::read(&to).expect("it is there") == data, "other bytes came back");
        std::fs::remove_file(&to).expect("it is there");
    }
}
