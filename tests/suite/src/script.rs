//! Scripted exchanges: what a client sends, how far it reads in between, and the transcript of what it got.

use anyhow::{Context, Result};
use halephant_harness::Login;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::ops::RangeInclusive;
use std::thread::JoinHandle;

use crate::message::Message;
use crate::{Client, encode};

/// One exchange over a connection of its own.
#[derive(Clone, Debug)]
pub struct Script {
    pub name: &'static str,
    /// It makes or needs session state that outlives a transaction, and is for session mode.
    pub session_only: bool,
    /// Major versions of PostgreSQL that it is for.
    versions: RangeInclusive<u32>,
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Step {
    Send(Vec<u8>),
    /// Read until this many ReadyForQuery have come.
    Ready(usize),
    /// Read until a message of this type has come.
    Until(u8),
    /// Take leave and read to the end.
    Terminate,
    /// Read to the end, which the bytes sent lead to.
    End,
    /// Close the socket at once.
    Cut,
    /// What the server itself holds then, by this query.
    Check(&'static str),
}

/// How the bytes of a step are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Whole,
    /// In segments of one byte, or of a few where there are very many.
    Bytes,
}

/// What one exchange gave, one line for each message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript(Vec<String>);

impl Script {
    pub fn new(name: &'static str) -> Self {
        Self { name, session_only: false, versions: 0..=u32::MAX, steps: Vec::new() }
    }

    #[must_use]
    pub fn session_only(mut self) -> Self {
        self.session_only = true;
        self
    }

    #[must_use]
    pub fn versions(mut self, versions: RangeInclusive<u32>) -> Self {
        self.versions = versions;
        self
    }

    pub fn is_for(&self, major: u32) -> bool {
        self.versions.contains(&major)
    }

    #[must_use]
    pub fn send(mut self, parts: &[Vec<u8>]) -> Self {
        self.steps.push(Step::Send(parts.concat()));
        self
    }

    #[must_use]
    pub fn ready(self) -> Self {
        self.ready_times(1)
    }

    #[must_use]
    pub fn ready_times(mut self, count: usize) -> Self {
        self.steps.push(Step::Ready(count));
        self
    }

    #[must_use]
    pub fn until(mut self, tag: u8) -> Self {
        self.steps.push(Step::Until(tag));
        self
    }

    /// A Query and all of its answer.
    #[must_use]
    pub fn query(self, sql: &str) -> Self {
        self.send(&[encode::query(sql)]).ready()
    }

    #[must_use]
    pub fn terminate(mut self) -> Self {
        self.steps.push(Step::Terminate);
        self
    }

    #[must_use]
    pub fn end(mut self) -> Self {
        self.steps.push(Step::End);
        self
    }

    #[must_use]
    pub fn cut(mut self) -> Self {
        self.steps.push(Step::Cut);
        self
    }

    #[must_use]
    pub fn check(mut self, sql: &'static str) -> Self {
        self.steps.push(Step::Check(sql));
        self
    }

    /// Plays it against `login`; `owner` is a client of the server itself, for checks. Where the script does not say how it ends,
    /// it ends with Terminate, so that nothing that came too much is missed.
    pub fn play(&self, login: &Login, cut: Cut, owner: &mut Client) -> Result<Transcript> {
        let mut client = Some(Client::connect(login)?);
        let mut lines = Vec::new();
        let mut writer = None;
        let ends = [Step::Terminate];
        let closes = self.steps.iter().any(|step| matches!(step, Step::Terminate | Step::End | Step::Cut));
        for step in self.steps.iter().chain(if closes { &[][..] } else { &ends }) {
            let done = take(step, &mut client, cut, &mut writer, owner);
            let messages =
                done.with_context(|| format!("{}: {step:?}, after\n{}", self.name, tail(&lines)))?;
            lines.extend(messages.iter().map(render));
        }
        Ok(Transcript(lines))
    }
}

type Writer = JoinHandle<Result<()>>;

fn take(
    step: &Step,
    client: &mut Option<Client>,
    cut: Cut,
    writer: &mut Option<Writer>,
    owner: &mut Client,
) -> Result<Vec<Message>> {
    if let Step::Check(sql) = step {
        return Ok(vec![Message { tag: b'=', body: owner.values(sql)?.join("\n").into_bytes() }]);
    }
    let open = client.as_mut().context("the connection is closed")?;
    match step {
        Step::Send(bytes) => {
            finish(writer)?;
            *writer = Some(write(open, bytes.clone(), cut)?);
            Ok(Vec::new())
        }
        Step::Ready(count) => {
            let mut messages = Vec::new();
            for _ in 0..*count {
                messages.extend(open.receive_until(b'Z')?);
            }
            Ok(messages)
        }
        Step::Until(tag) => open.receive_until(*tag),
        Step::Terminate => {
            finish(writer)?;
            client.take().context("the connection is closed")?.terminate()
        }
        Step::End => {
            finish(writer)?;
            open.receive_rest()
        }
        Step::Cut => {
            finish(writer)?;
            client.take().context("the connection is closed")?.cut();
            Ok(Vec::new())
        }
        Step::Check(_) => Ok(Vec::new()),
    }
}

/// From another thread, so that neither side waits for the other to read first.
fn write(client: &Client, bytes: Vec<u8>, cut: Cut) -> Result<Writer> {
    let mut socket = client.socket()?;
    Ok(std::thread::spawn(move || {
        let size = match cut {
            Cut::Whole => bytes.len(),
            Cut::Bytes => bytes.len().div_ceil(5000),
        };
        for part in bytes.chunks(size.max(1)) {
            match std::io::Write::write_all(&mut socket, part) {
                // The server has closed its end: what it said before is what counts.
                Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                    break;
                }
                written => written.context("cannot send")?,
            }
        }
        Ok(())
    }))
}

fn finish(writer: &mut Option<Writer>) -> Result<()> {
    writer.take().map_or(Ok(()), |writer| writer.join().expect("the writer does not panic"))
}

/// A message as a line, without the process ID of who notified: the server's choice.
fn render(message: &Message) -> String {
    let mut body = message.body.clone();
    if let (b'A', Some(process_id)) = (message.tag, body.first_chunk_mut::<4>()) {
        *process_id = *b"****";
    }
    // All of it: two that differ at their ends are not equal.
    format!("{} [{}] {}", char::from(message.tag), body.len(), body.escape_ascii())
}

fn tail(lines: &[String]) -> String {
    lines[lines.len().saturating_sub(5)..].iter().map(|line| short(line) + "\n").collect()
}

fn short(line: &str) -> String {
    line.chars().take(200).collect()
}

impl Transcript {
    /// The login's messages, without what the server chooses: key, process ID, SCRAM's nonces.
    pub fn of_greeting(client: &Client) -> Self {
        let line = |message: &Message| match message.tag {
            // A long key is not as long as PostgreSQL's.
            b'K' => format!("K {}", if message.body.len() == 8 { "short" } else { "long" }),
            b'R' => format!("R {}", message.body[..message.body.len().min(4)].escape_ascii()),
            _ => render(message),
        };
        Self(client.greeting.iter().map(line).collect())
    }

    pub fn lines(&self) -> &[String] {
        &self.0
    }

    /// Where `other` first differs, for people to read.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let length = self.0.len().max(other.0.len());
        let at = (0..length).find(|index| self.0.get(*index) != other.0.get(*index))?;
        let mut text = format!("differs at message {at}\n");
        for line in &self.0[at.saturating_sub(3)..at] {
            let _ = writeln!(text, "    {}", short(line));
        }
        for (sign, transcript) in [("-", self), ("+", other)] {
            for line in transcript.0.iter().skip(at).take(4) {
                let _ = writeln!(text, "  {sign} {}", short(line));
            }
        }
        Some(text)
    }
}
