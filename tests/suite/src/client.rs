//! A blocking client: it sends bytes and collects messages, and nothing is done behind its user's back.

use anyhow::{Context, Result, bail};
use halephant_harness::Login;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use crate::encode;
use crate::message::{self, Message};

/// How long a message may take to come; far more than any takes.
pub const LIMIT: Duration = Duration::from_secs(20);

/// The server said nothing for too long: of all errors the one that no test expects.
#[derive(Debug)]
pub struct Silence {
    limit: Duration,
    bytes: usize,
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no message within {:?}; {} bytes of one", self.limit, self.bytes)
    }
}

impl std::error::Error for Silence {}

/// An ErrorResponse where there should be none.
#[derive(Debug)]
pub struct Refused(pub Message);

impl Refused {
    pub fn sqlstate(&self) -> String {
        self.0.sqlstate().unwrap_or_default()
    }

    pub fn text(&self) -> String {
        self.0.field(b'M').unwrap_or_default()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.sqlstate(), self.text())
    }
}

impl std::error::Error for Refused {}

#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The server's messages from the first AuthenticationRequest to ReadyForQuery.
    pub greeting: Vec<Message>,
    pub process_id: u32,
    pub secret_key: Vec<u8>,
    login: Login,
    limit: Duration,
}

impl Client {
    /// Connects and logs in.
    pub fn connect(login: &Login) -> Result<Self> {
        Self::connect_with(login, 0, &[])
    }

    /// Connects and logs in with protocol 3.`minor` and more startup parameters.
    pub fn connect_with(login: &Login, minor: u16, parameters: &[(&str, &str)]) -> Result<Self> {
        let mut client = Self::open(login)?;
        let mut all = vec![("user", login.user.as_str()), ("database", login.database.as_str())];
        all.extend(parameters);
        client.send(&encode::startup(3, minor, &all))?;
        client.authenticate(&login.password)?;
        Ok(client)
    }

    /// A connection on which nothing was sent.
    pub fn open(login: &Login) -> Result<Self> {
        let resolved =
            (login.host.as_str(), login.port).to_socket_addrs()?.next().context("the host has no address")?;
        let stream = TcpStream::connect_timeout(&resolved, LIMIT)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
            greeting: Vec::new(),
            process_id: 0,
            secret_key: Vec::new(),
            login: login.clone(),
            limit: LIMIT,
        })
    }

    /// From now on, how long a message may take to come.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// The rest of the login, once the startup packet is sent. An ErrorResponse is [`Refused`].
    pub fn authenticate(&mut self, password: &str) -> Result<()> {
        let mut scram = None;
        loop {
            let message = self.receive()?;
            self.greeting.push(message.clone());
            let body = message.body.as_slice();
            match message.tag {
                b'R' => self.answer(body, password, &mut scram)?,
                b'K' => {
                    let (process_id, secret_key) =
                        body.split_first_chunk().context("a short BackendKeyData")?;
                    self.process_id = u32::from_be_bytes(*process_id);
                    self.secret_key = secret_key.to_vec();
                }
                b'E' => return Err(Refused(message).into()),
                b'Z' => return Ok(()),
                b'S' | b'N' | b'v' => {}
                tag => bail!("{:?} during the login", char::from(tag)),
            }
        }
    }

    fn answer(&mut self, body: &[u8], password: &str, scram: &mut Option<ScramSha256>) -> Result<()> {
        let (kind, data) = body.split_first_chunk().context("a short AuthenticationRequest")?;
        match u32::from_be_bytes(*kind) {
            0 => Ok(()),
            3 => self.send(&encode::message(b'p', &[password.as_bytes(), b"\0"].concat())),
            5 => {
                let salt = *data.first_chunk().context("a short salt")?;
                let hash = md5_hash(self.login.user.as_bytes(), password.as_bytes(), salt);
                self.send(&encode::message(b'p', &[hash.as_bytes(), b"\0"].concat()))
            }
            10 => {
                let exchange = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
                let mut body = b"SCRAM-SHA-256\0".to_vec();
                body.extend(u32::try_from(exchange.message().len())?.to_be_bytes());
                body.extend(exchange.message());
                *scram = Some(exchange);
                self.send(&encode::message(b'p', &body))
            }
            11 => {
                let exchange = scram.as_mut().context("SASLContinue before SASL")?;
                exchange.update(data)?;
                let body = exchange.message().to_vec();
                self.send(&encode::message(b'p', &body))
            }
            12 => Ok(scram.as_mut().context("SASLFinal before SASL")?.finish(data)?),
            kind => bail!("authentication of kind {kind}"),
        }
    }

    /// Writes `bytes`, all at once as far as the socket takes them.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("cannot send")
    }

    /// Another handle on the socket, to write from another thread or to cut it.
    pub fn socket(&self) -> Result<TcpStream> {
        Ok(self.stream.try_clone()?)
    }

    /// The next message; the end of the stream and silence are errors.
    pub fn receive(&mut self) -> Result<Message> {
        self.receive_or_end()?.context("the connection ended")
    }

    /// The next message, or `None` where the stream ends between two.
    pub fn receive_or_end(&mut self) -> Result<Option<Message>> {
        let deadline = Instant::now() + self.limit;
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Silence { limit: self.limit, bytes: self.buffer.len() }.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut chunk = [0; 65_536];
            match self.stream.read(&mut chunk) {
                Ok(0) if self.buffer.is_empty() => return Ok(None),
                Ok(0) => bail!("the connection ended within a message"),
                Ok(length) => self.buffer.extend(&chunk[..length]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot receive"),
            }
        }
    }

    fn take(&mut self) -> Result<Option<Message>> {
        let Some((header, _)) = self.buffer.split_first_chunk::<5>() else { return Ok(None) };
        let [tag, length @ ..] = *header;
        let length = usize::try_from(u32::from_be_bytes(length))?;
        if length < 4 {
            bail!("a message of type {:?} with length {length}", char::from(tag));
        }
        if self.buffer.len() <= length {
            return Ok(None);
        }
        let body = self.buffer[5..=length].to_vec();
        self.buffer.drain(..=length);
        Ok(Some(Message { tag, body }))
    }

    /// Every message up to and with the next of type `tag`.
    pub fn receive_until(&mut self, tag: u8) -> Result<Vec<Message>> {
        let mut messages = Vec::new();
        loop {
            let message = match self.receive() {
                Ok(message) => message,
                Err(error) => {
                    let before = &messages[messages.len().saturating_sub(5)..];
                    return Err(error.context(format!("waiting for {:?}, after {before:?}", char::from(tag))));
                }
            };
            let found = message.tag == tag;
            messages.push(message);
            if found {
                return Ok(messages);
            }
        }
    }

    /// Sends a Query and gives the ErrorResponse that it leads to, before ReadyForQuery or the end.
    pub fn error(&mut self, sql: &str) -> Result<Refused> {
        self.send(&encode::query(sql))?;
        let mut found = None;
        while let Some(message) = self.receive_or_end()? {
            match message.tag {
                b'E' => found = Some(Refused(message)),
                b'Z' => break,
                _ => {}
            }
        }
        found.with_context(|| format!("{sql} succeeded"))
    }

    /// Sends a Query and gives all it leads to.
    pub fn query(&mut self, sql: &str) -> Result<Vec<Message>> {
        self.send(&encode::query(sql))?;
        self.receive_until(b'Z')
    }

    /// The first column of the rows of `sql`; an ErrorResponse is [`Refused`].
    pub fn values(&mut self, sql: &str) -> Result<Vec<String>> {
        let messages = self.query(sql)?;
        match message::error(&messages) {
            Some(error) => Err(Refused(error.clone()).into()),
            None => Ok(message::values(&messages)),
        }
    }

    /// The one value of `sql`.
    pub fn value(&mut self, sql: &str) -> Result<String> {
        self.values(sql)?.into_iter().next().with_context(|| format!("{sql}: no row"))
    }

    /// Sends a CancelRequest for this client's session and waits until the server has closed that connection.
    pub fn cancel(&self) -> Result<()> {
        self.cancel_with(&self.secret_key)
    }

    /// As [`cancel`](Self::cancel), with another secret key.
    pub fn cancel_with(&self, secret_key: &[u8]) -> Result<()> {
        let mut stream = TcpStream::connect((self.login.host.as_str(), self.login.port))?;
        stream.set_read_timeout(Some(self.limit))?;
        stream.write_all(&encode::cancel_request(self.process_id, secret_key))?;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest)?;
        if !rest.is_empty() {
            bail!("{} bytes in answer to a CancelRequest", rest.len());
        }
        Ok(())
    }

    /// Takes leave as the protocol has it, and gives what still came.
    pub fn terminate(mut self) -> Result<Vec<Message>> {
        self.send(&encode::terminate())?;
        self.receive_rest()
    }

    /// Every message up to the end of the stream. A reset is an end, too: that is how it looks where the server had
    /// not read all that was sent to it.
    pub fn receive_rest(&mut self) -> Result<Vec<Message>> {
        let mut messages = Vec::new();
        loop {
            match self.receive_or_end() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => return Ok(messages),
                Err(error) if is_reset(&error) && self.buffer.is_empty() => return Ok(messages),
                Err(error) => return Err(error),
            }
        }
    }

    /// Closes the socket without a word.
    pub fn cut(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn is_reset(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<std::io::Error>();
    cause.is_some_and(|error| matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe))
}
