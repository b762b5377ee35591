//! What a client sends on one connection, played direct and through halephant, and made shorter while the answers differ.

use anyhow::{Context, Result, ensure};
use halephant_suite::encode::{bind, describe_portal, execute, parse, sync};
use halephant_suite::{Client, Message, Silence, Stage, message, sequence};
use std::fmt;
use std::io::Write;
use std::time::{Duration, Instant};

use super::statements::{in_failed_transaction, statuses};
use super::{normalize, text};

/// What another client finds of the session it is lent.
const TRACES: &str = "SELECT concat_ws(' ', current_setting('application_name'), \
    (SELECT count(*) FROM pg_listening_channels()), \
    (SELECT count(*) FROM pg_prepared_statements WHERE name NOT LIKE 'hp\\_%'), \
    (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'))";

/// How long an answer may take while a sequence is made shorter: some of what is tried is never answered.
const SHRINK_LIMIT: Duration = Duration::from_millis(500);
/// How long one is made shorter.
const SHRINK_TIME: Duration = Duration::from_secs(40);

/// What a client sends in one go, in pieces of so many bytes.
#[derive(Clone)]
pub struct Sent {
    pub messages: Vec<Vec<u8>>,
    pub piece: usize,
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in pieces of {}: {}", self.piece, text(&self.messages.concat()))
    }
}

/// How something played on both ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Played {
    Same,
    /// It ended both, or they are not in the same state any more.
    Last,
    /// The answers differ.
    Differs(String),
}

/// Reads what is played to the marker's ReadyForQuery or to the end. `true`: it was the end.
fn play(client: &mut Client, sent: &Sent, marker: &str) -> Result<(Vec<Message>, bool)> {
    let (mut socket, piece) = (client.socket()?, sent.piece.max(1));
    let bytes = [sent.messages.concat(), sequence::ending(marker).concat()].concat();
    // From another thread, so that neither side waits for the other to read first.
    let writer = std::thread::spawn(move || {
        for part in bytes.chunks(piece) {
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
            Err(error) if error.downcast_ref::<Silence>().is_none() => break true,
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

/// Of a Parse, Bind, Describe or Close that does not belong into a COPY: one of ours may be before it, and that is the one named.
fn normalize_type(message: &mut Message) {
    const NAMED: [&[u8]; 4] = [b" type 0x50", b" type 0x42", b" type 0x44", b" type 0x43"];
    let at = message.body.windows(10).position(|part| NAMED.contains(&part));
    if let (b'E', Some(at)) = (message.tag, at) {
        message.body[at + 8..at + 10].copy_from_slice(b"**");
    }
}

/// Whether statements were sent of which it is not certain whether the server skips them: behind a COPY by the extended
/// protocol that may fail, and Syncs that the COPY may have read. Where halephant has seen the COPY begin and not yet fail, a
/// second Sync is not certain to help.
#[derive(Debug, Default)]
struct Count {
    copies: bool,
    executed: bool,
    synced: bool,
    may_be_lost: bool,
}

impl Count {
    fn sent(&mut self, message: &[u8]) {
        self.copies |=
            message.first() == Some(&b'P') && message.windows(10).any(|part| part == b"FROM STDIN");
        match message.first() {
            Some(b'd' | b'c' | b'f' | b'H') => {}
            Some(b'S') => self.synced |= self.executed,
            Some(tag) => {
                self.may_be_lost |= self.synced;
                self.executed = self.copies && *tag == b'E';
                self.synced = false;
            }
            None => {}
        }
    }
}

/// Errors that speak of a statement that is not there.
fn missing(messages: &[Message]) -> usize {
    messages.iter().filter(|message| message.sqlstate().as_deref() == Some("26000")).count()
}

/// PostgreSQL itself told less than through halephant, by errors at the end: it closes a connection with bytes unread, and the reset may
/// overtake what it said last.
fn is_cut_short(expected: &[Message], found: &[Message]) -> bool {
    let rest = found.strip_prefix(expected);
    rest.is_some_and(|rest| rest.iter().all(|message| message.tag == b'E'))
}

/// halephant has closed the connection, because an answer could be to what it had put in.
fn is_given_up(messages: &[Message]) -> bool {
    let last = messages.last().and_then(|last| last.field(b'M'));
    last.as_deref() == Some("the server broke the protocol")
}

/// One client of PostgreSQL itself, one of halephant, and another one of halephant between them.
pub struct Pair<'a> {
    direct: Client,
    through: Client,
    other: &'a mut Client,
    /// Where it is lost, halephant can put nothing in.
    count: Count,
}

impl<'a> Pair<'a> {
    pub fn new(stage: &Stage, other: &'a mut Client) -> Self {
        let client = |login| Client::connect(&login).expect("it may log in");
        Self {
            direct: client(stage.direct()),
            through: client(stage.transaction()),
            other,
            count: Count::default(),
        }
    }

    /// `Err`: PostgreSQL itself does not answer.
    pub fn play(&mut self, sent: &Sent, marker: &str) -> Result<Played> {
        let (expected, ended) = play(&mut self.direct, sent, marker).context("direct")?;
        let (found, ended_too) = match play(&mut self.through, sent, marker) {
            Ok(found) => found,
            Err(error) => return Ok(Played::Differs(format!("{error:#}"))),
        };
        sent.messages.iter().for_each(|message| self.count.sent(message));
        // A name is free again after an error that its Parse might have led to, had it been sent.
        let given_anew = taken(&expected) > taken(&found);
        // A copy of a statement, or of what the server has to say of a text under a name that is taken, would need a message
        // more than the client sent, and its answer could not be told from the client's. Which names there are is not certain.
        let names = [&expected, &found].into_iter().any(|answers| missing(answers) + taken(answers) > 0);
        let unknown = self.count.may_be_lost && (names || is_given_up(&found));
        // In a failed transaction no copy can be made.
        let failed = [&expected, &found].into_iter().any(|answers| in_failed_transaction(answers))
            && statuses(&expected) == statuses(&found);
        let cut_short = ended && ended_too && is_cut_short(&expected, &found);
        if expected != found && (given_anew || unknown || failed || cut_short) {
            return Ok(Played::Last);
        }
        if expected != found || ended != ended_too {
            return Ok(Played::Differs(format!("- {expected:?} {ended}\n+ {found:?} {ended_too}")));
        }
        if let Err(error) = look(self.other) {
            return Ok(Played::Differs(format!("{error:#}")));
        }
        Ok(if ended { Played::Last } else { Played::Same })
    }

    pub fn set_limit(&mut self, limit: Duration) {
        self.direct.set_limit(limit);
        self.through.set_limit(limit);
    }
}

/// The other client of this module's tests.
pub fn other(stage: &Stage) -> Client {
    let mut other = stage.client().expect("it may log in");
    other.send(&[parse("named", "SELECT 'the other''s'"), sync()].concat()).expect("it is read");
    other.receive_until(b'Z').expect("it is answered");
    other
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

/// Where a stretch differs, on connections of its own.
pub fn difference(stage: &Stage, stretch: &[Sent]) -> Option<String> {
    let mut other = other(stage);
    let mut pair = Pair::new(stage, &mut other);
    pair.set_limit(SHRINK_LIMIT);
    for (number, sent) in stretch.iter().enumerate() {
        match pair.play(sent, &format!("marker {number}")) {
            Ok(Played::Same) => {}
            Ok(Played::Last) | Err(_) => return None,
            Ok(Played::Differs(how)) => return Some(how),
        }
    }
    None
}

/// As much of a stretch that differs as is needed for that.
pub fn shrink(stage: &Stage, mut stretch: Vec<Sent>) -> Vec<Sent> {
    let begin = Instant::now();
    let differs = |stretch: &[Sent]| begin.elapsed() < SHRINK_TIME && difference(stage, stretch).is_some();
    if !differs(&stretch) {
        return stretch;
    }
    loop {
        let before = size(&stretch);
        let mut at = stretch.len();
        while at > 0 {
            at -= 1;
            let mut without = stretch.clone();
            without.remove(at);
            if differs(&without) {
                stretch = without;
                continue;
            }
            let mut message = stretch[at].messages.len();
            while message > 0 {
                message -= 1;
                let mut without = stretch.clone();
                without[at].messages.remove(message);
                if differs(&without) {
                    stretch = without;
                }
            }
        }
        if size(&stretch) == before {
            return stretch;
        }
    }
}

fn size(stretch: &[Sent]) -> usize {
    stretch.iter().map(|sent| sent.messages.len() + 1).sum()
}
