//! A sequence played against PostgreSQL itself, and the order in which a relay in between could have seen it.

use anyhow::{Context, Result, bail};
use halephant_suite::Client;
use rand::RngExt;
use rand::rngs::StdRng;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Far longer than any answer takes.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message of the client is about to be forwarded.
    Client(u8),
    /// A message of the server arrived: its tag and, of a ReadyForQuery, its status.
    Server(u8, u8),
}

#[derive(Debug)]
pub struct Played {
    /// In an order that was seen.
    pub events: Vec<Event>,
    /// The server ended the connection.
    pub ended: bool,
}

/// Sends `messages` in pieces of random sizes, reads in between, and goes on until the row `marker` and its
/// ReadyForQuery have come or the connection has ended.
pub fn play(client: &Client, messages: &[Vec<u8>], marker: &str, random: &mut StdRng) -> Result<Played> {
    let mut reader = Reader {
        stream: client.socket()?,
        buffer: Vec::new(),
        marker: marker.into(),
        marked: false,
        found: false,
    };
    let mut writer = client.socket()?;
    let bytes = messages.concat();
    let mut starts: Vec<(usize, u8)> = Vec::new();
    let mut at = 0;
    for message in messages {
        starts.push((at, message[0]));
        at += message.len();
    }
    let mut starts = starts.into_iter().peekable();
    let mut events = Vec::new();
    let mut sent = 0;
    let typical = [1, 7, 40, 400, bytes.len()][random.random_range(0..5)];
    while sent < bytes.len() {
        let end = (sent + random.random_range(1..=typical.max(1))).min(bytes.len());
        // A relay forwards a message once it has its header.
        while let Some((_, tag)) = starts.next_if(|(start, _)| start + 5 <= end) {
            events.push(Event::Client(tag));
        }
        if writer.write_all(&bytes[sent..end]).is_err() {
            // The server has closed its side; what it said is still to be read.
            break;
        }
        sent = end;
        // A few looks at the server's side, however small the pieces are.
        if random.random_bool((4.0 * typical as f64 / bytes.len() as f64).clamp(0.0, 0.5)) {
            let patience = Duration::from_micros(random.random_range(1..1500));
            if reader.read(patience, &mut events)? {
                return Ok(Played { events, ended: true });
            }
        }
    }
    let deadline = Instant::now() + LIMIT;
    while !reader.found {
        if reader.read(Duration::from_millis(100), &mut events)? {
            return Ok(Played { events, ended: true });
        }
        if Instant::now() > deadline {
            bail!("the server does not answer; so far {events:?}");
        }
    }
    Ok(Played { events, ended: false })
}

struct Reader {
    stream: TcpStream,
    buffer: Vec<u8>,
    marker: String,
    /// The marker has come.
    marked: bool,
    /// And the ReadyForQuery behind it.
    found: bool,
}

impl Reader {
    /// Reads once, for at most `patience`. `true`: the stream has ended.
    fn read(&mut self, patience: Duration, events: &mut Vec<Event>) -> Result<bool> {
        self.stream.set_read_timeout(Some(patience))?;
        let mut chunk = [0; 16_384];
        match self.stream.read(&mut chunk) {
            Ok(0) => return Ok(true),
            Ok(length) => self.buffer.extend(&chunk[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(true),
            Err(error) => return Err(error).context("cannot receive"),
        }
        self.take(events);
        Ok(false)
    }

    fn take(&mut self, events: &mut Vec<Event>) {
        while let Some((&[tag, ref length @ ..], _)) = self.buffer.split_first_chunk::<5>() {
            let length = u32::from_be_bytes(*length) as usize;
            if self.buffer.len() <= length {
                return;
            }
            let message: Vec<u8> = self.buffer.drain(..=length).collect();
            events.push(Event::Server(tag, if tag == b'Z' { message[5] } else { 0 }));
            self.marked |= tag == b'D' && message.ends_with(self.marker.as_bytes());
            self.found |= tag == b'Z' && self.marked;
        }
    }
}

/// The same exchange where the client was further ahead of the server: its messages move forward, past what the server
/// sent, by up to `most` places.
pub fn ahead(events: &[Event], most: usize, random: &mut StdRng) -> Vec<Event> {
    let mut ahead: Vec<Event> = Vec::with_capacity(events.len());
    for event in events {
        let mut at = ahead.len();
        if let Event::Client(_) = event {
            let least =
                ahead.iter().rposition(|before| matches!(before, Event::Client(_))).map_or(0, |at| at + 1);
            at = at.saturating_sub(random.random_range(0..=most)).max(least);
        }
        ahead.insert(at, event.clone());
    }
    ahead
}
