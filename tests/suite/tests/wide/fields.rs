//! Fields of a gigabyte, and of some hundred megabytes on their way to the server, of which halephant keeps nothing.

use crate::{direct, stage, tags};
use anyhow::{Context, Result, ensure};
use halephant_harness::Proxy;
use halephant_suite::client::LIMIT;
use halephant_suite::encode::{copy_done, describe_portal, execute, parse, query, sync};
use halephant_suite::{Client, Message, message};
use std::io::{Read, Write};
use std::net::TcpStream;

/// What fields are made of, again and again: a prime number of bytes, so that what is lost or moved does not fit.
const UNIT_BYTES: usize = 251;
const PIECE_BYTES: usize = 256 * 1024;
/// As much as PostgreSQL puts into a message: MaxAllocSize, without what stands before the field and the NUL behind it.
const FIELD_UNITS: usize = (0x3FFF_FFFF - 7) / UNIT_BYTES;
const PARAMETER_UNITS: usize = 300_000_000 / UNIT_BYTES;
const LINE_UNITS: usize = 100_000_000 / UNIT_BYTES;
/// How much larger halephant may be while that goes by.
const GROWTH_KIB_MAX: u64 = 8 * 1024;

fn unit() -> String {
    (0..UNIT_BYTES).map(|at| char::from(b'a' + (at * at % 26) as u8)).collect()
}

/// A field that is nowhere as a whole.
struct Field {
    units: Vec<u8>,
}

impl Field {
    fn new() -> Self {
        Self { units: unit().repeat(PIECE_BYTES / UNIT_BYTES + 2).into_bytes() }
    }

    fn piece(&self, at: usize, left: usize) -> &[u8] {
        &self.units[at % UNIT_BYTES..][..left.min(PIECE_BYTES)]
    }

    /// Reads it, and compares.
    fn read(&self, bytes: usize, socket: &mut TcpStream, watch: &mut Watch<'_>) -> Result<()> {
        let (mut buffer, mut at) = (vec![0; PIECE_BYTES], 0);
        while at < bytes {
            let room = PIECE_BYTES.min(bytes - at);
            let read = socket.read(&mut buffer[..room]).with_context(|| format!("after {at} bytes"))?;
            ensure!(read > 0, "the connection ended after {at} bytes");
            ensure!(buffer[..read] == *self.piece(at, read), "other bytes behind {at}");
            at += read;
            watch.look(read)?;
        }
        Ok(())
    }

    fn write(&self, bytes: usize, socket: &mut TcpStream, watch: &mut Watch<'_>) -> Result<()> {
        let mut at = 0;
        while at < bytes {
            let piece = self.piece(at, bytes - at);
            socket.write_all(piece).with_context(|| format!("after {at} bytes"))?;
            at += piece.len();
            watch.look(piece.len())?;
        }
        Ok(())
    }
}

/// How large halephant is while bytes go by.
struct Watch<'a> {
    proxy: &'a Proxy,
    first: u64,
    most: u64,
    unseen: usize,
}

impl<'a> Watch<'a> {
    const STEP_BYTES: usize = 4 << 20;

    fn new(proxy: &'a Proxy) -> Result<Self> {
        let first = proxy.resident_kib()?;
        Ok(Self { proxy, first, most: first, unseen: 0 })
    }

    fn look(&mut self, bytes: usize) -> Result<()> {
        self.unseen += bytes;
        if self.unseen >= Self::STEP_BYTES {
            self.unseen = 0;
            self.most = self.most.max(self.proxy.resident_kib()?);
        }
        Ok(())
    }

    fn check(&self, what: &str) -> Result<()> {
        let grown = self.most - self.first;
        ensure!(grown <= GROWTH_KIB_MAX, "{what}: {grown} KiB on top of {}", self.first);
        Ok(())
    }
}

/// The answer to `sql`, of whose field only the head is kept.
fn select(client: &mut Client, sql: &str, watch: &mut Watch<'_>) -> Result<Vec<Message>> {
    let (field, mut socket) = (Field::new(), client.socket()?);
    socket.set_read_timeout(Some(LIMIT))?;
    socket.write_all(&query(sql))?;
    let mut messages = Vec::new();
    loop {
        let mut header = [0; 5];
        socket.read_exact(&mut header)?;
        let [tag, length @ ..] = header;
        let length = (u32::from_be_bytes(length) as usize).checked_sub(4).context("a short message")?;
        let kept = if tag == b'D' { 6 } else { length };
        ensure!(kept <= length && kept < PIECE_BYTES, "{tag} of {length} bytes");
        let mut body = vec![0; kept];
        socket.read_exact(&mut body)?;
        field.read(length - kept, &mut socket, watch)?;
        messages.push(Message { tag, body });
        if tag == b'Z' {
            return Ok(messages);
        }
    }
}

#[test]
fn a_field_of_a_gigabyte() {
    let stage = stage(1);
    let sql = format!("SELECT repeat('{}', {FIELD_UNITS})", unit());
    let too_long = sql.replace(&FIELD_UNITS.to_string(), &(FIELD_UNITS + 1).to_string());
    let run = |login, what: &str| -> Result<Vec<Message>> {
        let mut client = Client::connect(&login)?;
        client.value("SELECT 1")?;
        let mut watch = Watch::new(&stage.proxy)?;
        let mut messages = select(&mut client, &sql, &mut watch)?;
        watch.check(what)?;
        messages.extend(client.query(&too_long)?);
        ensure!(client.value("SELECT 2")? == "2");
        Ok(messages)
    };
    let expected = run(stage.direct(), "direct").expect("PostgreSQL itself sends it");
    assert_eq!(tags(&expected), "TDCZEZ", "{expected:?}");
    let head = [1_u16.to_be_bytes().as_slice(), &((FIELD_UNITS * UNIT_BYTES) as u32).to_be_bytes()].concat();
    assert_eq!(expected[1].body, head);
    for login in [stage.session(), stage.transaction()] {
        let pool = login.database.clone();
        let found = run(login, &pool).unwrap_or_else(|error| panic!("{pool}: {error:#}"));
        assert!(found == expected, "{pool}: {found:?} instead of {expected:?}");
    }
}

/// A message of type `tag` with `before`, so many bytes of the field, and `after`.
fn send(
    (tag, before, after): (u8, &[u8], &[u8]),
    units: usize,
    client: &Client,
    watch: &mut Watch<'_>,
) -> Result<()> {
    let mut socket = client.socket()?;
    let bytes = units * UNIT_BYTES;
    let length = u32::try_from(4 + before.len() + bytes + after.len())?;
    socket.write_all(&[&[tag], length.to_be_bytes().as_slice(), before].concat())?;
    Field::new().write(bytes, &mut socket, watch)?;
    Ok(socket.write_all(after)?)
}

/// A parameter in Bind, and a line of COPY in one message and in a hundred: what the server says of them.
fn upload(client: &mut Client, watch: &mut Watch<'_>) -> Result<Vec<Message>> {
    client.send(&parse("", "SELECT length($1) || ' ' || md5($1)"))?;
    let length = (PARAMETER_UNITS * UNIT_BYTES) as u32;
    // No portal's name, no statement's, no format codes, one parameter; and no format codes for the result.
    let before = [b"\0\0\0\0\0\x01".as_slice(), &length.to_be_bytes()].concat();
    send((b'B', &before, b"\0\0"), PARAMETER_UNITS, client, watch)?;
    client.send(&[describe_portal(""), execute("", 0), sync()].concat())?;
    let mut messages = client.receive_until(b'Z')?;

    client.send(&query("COPY line FROM STDIN"))?;
    messages.extend(client.receive_until(b'G')?);
    send((b'd', b"", b"\n"), LINE_UNITS, client, watch)?;
    let mut left = LINE_UNITS;
    while left > 0 {
        let units = left.min(4000);
        left -= units;
        send((b'd', b"", if left == 0 { b"\n" } else { b"" }), units, client, watch)?;
    }
    client.send(&copy_done())?;
    messages.extend(client.receive_until(b'Z')?);
    messages.extend(client.query("SELECT bytes, md5 FROM arrived")?);
    messages.extend(client.query("TRUNCATE arrived")?);
    Ok(messages)
}

/// What arrives is not kept, but counted.
const COUNT_LINES: &str = "CREATE TABLE line (text text); CREATE TABLE arrived (bytes int, md5 text);
    CREATE FUNCTION count_line() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO arrived VALUES (length(NEW.text), md5(NEW.text)); RETURN NULL; END $$;
    CREATE TRIGGER count_line BEFORE INSERT ON line FOR EACH ROW EXECUTE FUNCTION count_line()";

#[test]
fn a_parameter_and_lines_of_some_hundred_megabytes() {
    let stage = stage(1);
    stage.prepare(COUNT_LINES).expect("it is made");
    let run = |login, what: &str| -> Result<Vec<Message>> {
        let mut client = Client::connect(&login)?;
        client.set_limit(2 * LIMIT);
        client.value("SELECT 1")?;
        let mut watch = Watch::new(&stage.proxy)?;
        let messages = upload(&mut client, &mut watch)?;
        watch.check(what)?;
        Ok(messages)
    };
    let expected = run(stage.direct(), "direct").expect("PostgreSQL itself takes it");
    assert_eq!(tags(&expected), "12TDCZGCZTDDCZCZ", "{expected:?}");
    let sum =
        |units| format!("SELECT length(text) || ' ' || md5(text) FROM repeat('{}', {units}) AS text", unit());
    let sums =
        [PARAMETER_UNITS, LINE_UNITS].map(|units| direct(&stage).value(&sum(units)).expect("it answers"));
    assert_eq!(message::values(&expected)[0], sums[0]);
    let rows: Vec<_> =
        expected.iter().filter(|message| message.tag == b'D').skip(1).map(Message::columns).collect();
    for row in rows {
        let row: Vec<_> = row.into_iter().flatten().flat_map(String::from_utf8).collect();
        assert_eq!(row.join(" "), sums[1]);
    }
    for login in [stage.session(), stage.transaction()] {
        let pool = login.database.clone();
        let found = run(login, &pool).unwrap_or_else(|error| panic!("{pool}: {error:#}"));
        assert!(found == expected, "{pool}: {found:?} instead of {expected:?}");
    }
}
