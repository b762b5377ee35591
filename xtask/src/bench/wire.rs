//! A client that moves bytes and looks at nothing but message headers, so that it costs little beside what is measured.

use anyhow::{Context, Result, anyhow, bail};
use halephant_harness::Login;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use postgres_protocol::message::frontend;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Without a byte for so long, the run is given up.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);

/// Of one read or write.
const CHUNK_BYTES: usize = 64 * 1024;

pub struct Client {
    stream: TcpStream,
    chunk: Vec<u8>,
    /// Read and not yet looked at: `chunk[start..end]`.
    start: usize,
    end: usize,
}

struct Message {
    tag: u8,
    body: Vec<u8>,
}

impl Client {
    pub fn connect(login: &Login) -> Result<Self> {
        let stream = TcpStream::connect((login.host.as_str(), login.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_LIMIT))?;
        stream.set_write_timeout(Some(SILENCE_LIMIT))?;
        let mut client = Self { stream, chunk: vec![0; CHUNK_BYTES], start: 0, end: 0 };
        let parameters = [("user", login.user.as_str()), ("database", login.database.as_str())];
        client.send(|bytes| frontend::startup_message(parameters, bytes))?;
        client.authenticate(&login.password)?;
        Ok(client)
    }

    fn send(&mut self, encode: impl FnOnce(&mut bytes::BytesMut) -> std::io::Result<()>) -> Result<()> {
        let mut bytes = bytes::BytesMut::new();
        encode(&mut bytes)?;
        self.stream.write_all(&bytes).context("cannot send")
    }

    fn authenticate(&mut self, password: &str) -> Result<()> {
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        loop {
            let message = self.receive()?;
            let kind = message.body.first_chunk().map(|kind| u32::from_be_bytes(*kind));
            match (message.tag, kind) {
                (b'R', Some(0)) | (b'S' | b'K' | b'N', _) => {}
                (b'R', Some(10)) => {
                    let first = scram.message().to_vec();
                    self.send(|bytes| frontend::sasl_initial_response("SCRAM-SHA-256", &first, bytes))?;
                }
                (b'R', Some(11)) => {
                    scram.update(&message.body[4..])?;
                    let last = scram.message().to_vec();
                    self.send(|bytes| frontend::sasl_response(&last, bytes))?;
                }
                (b'R', Some(12)) => scram.finish(&message.body[4..])?,
                (b'Z', _) => return Ok(()),
                (tag, _) => bail!("{:?} during the login: {}", char::from(tag), text(&message.body)),
            }
        }
    }

    /// Runs `sql` to its end and gives the bytes of its answer.
    pub fn query(&mut self, sql: &str) -> Result<u64> {
        self.send(|bytes| frontend::query(sql, bytes))?;
        self.skip_to_ready()
    }

    /// As [`query`](Self::query), by Parse, Bind, Describe, Execute and Sync.
    pub fn extended(&mut self, sql: &str) -> Result<u64> {
        self.send(|bytes| {
            frontend::parse("", sql, [], bytes)?;
            let none: [i16; 0] = [];
            let bound = frontend::bind(
                "",
                "",
                none,
                [(); 0],
                |(), _| Ok(postgres_protocol::IsNull::Yes),
                none,
                bytes,
            );
            bound.map_err(|_| std::io::Error::other("the message is too large"))?;
            frontend::describe(b'P', "", bytes)?;
            frontend::execute("", 0, bytes)?;
            frontend::sync(bytes);
            Ok(())
        })?;
        self.skip_to_ready()
    }

    /// Runs `sql`, a COPY FROM STDIN, with `row` sent `count` times; gives the bytes that were sent.
    pub fn copy_in(&mut self, sql: &str, row: &[u8], count: u64) -> Result<u64> {
        self.send(|bytes| frontend::query(sql, bytes))?;
        let answer = self.receive()?;
        if answer.tag != b'G' {
            bail!("no CopyInResponse: {}", text(&answer.body));
        }
        let mut message = vec![b'd'];
        message.extend(u32::try_from(row.len() + 4)?.to_be_bytes());
        message.extend(row);
        let at_once = (CHUNK_BYTES / message.len()).max(1);
        let block = message.repeat(at_once);
        let mut left = usize::try_from(count)?;
        while left > 0 {
            let now = left.min(at_once);
            self.stream.write_all(&block[..now * message.len()])?;
            left -= now;
        }
        self.send(|bytes| {
            frontend::copy_done(bytes);
            Ok(())
        })?;
        self.skip_to_ready()?;
        Ok(message.len() as u64 * count)
    }

    /// Reads up to a ReadyForQuery and gives how much that was. An ErrorResponse is an error.
    fn skip_to_ready(&mut self) -> Result<u64> {
        let mut bytes = 0;
        loop {
            let (tag, length) = self.header()?;
            bytes += length as u64 + 5;
            if tag == b'E' {
                bail!("{}", text(&self.body(length)?));
            }
            self.skip(length)?;
            if tag == b'Z' {
                return Ok(bytes);
            }
        }
    }

    fn receive(&mut self) -> Result<Message> {
        let (tag, length) = self.header()?;
        Ok(Message { tag, body: self.body(length)? })
    }

    /// A message's type and the length of its body.
    fn header(&mut self) -> Result<(u8, usize)> {
        while self.end - self.start < 5 {
            self.chunk.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            self.fill()?;
        }
        let header = self.chunk[self.start..].first_chunk::<5>().context("five bytes are there")?;
        let [tag, length @ ..] = *header;
        self.start += 5;
        let length = usize::try_from(u32::from_be_bytes(length))?;
        Ok((tag, length.checked_sub(4).context("a length below four")?))
    }

    fn body(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        while body.len() < length {
            self.refill()?;
            let part = (length - body.len()).min(self.end - self.start);
            body.extend_from_slice(&self.chunk[self.start..self.start + part]);
            self.start += part;
        }
        Ok(body)
    }

    fn skip(&mut self, mut length: usize) -> Result<()> {
        while length > 0 {
            self.refill()?;
            let part = length.min(self.end - self.start);
            self.start += part;
            length -= part;
        }
        Ok(())
    }

    /// Reads more if all is looked at.
    fn refill(&mut self) -> Result<()> {
        if self.start < self.end {
            return Ok(());
        }
        (self.start, self.end) = (0, 0);
        self.fill()
    }

    fn fill(&mut self) -> Result<()> {
        match self.stream.read(&mut self.chunk[self.end..]).context("nothing comes")? {
            0 => Err(anyhow!("the connection ended")),
            length => {
                self.end += length;
                Ok(())
            }
        }
    }
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).replace('\0', " ")
}
