//! A server that is none: each connection is handed to a function, which says whatever a test wants a hostile server to say.

use anyhow::Result;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::encode;

/// Longest that a connection waits for what it expects.
const PATIENCE: Duration = Duration::from_secs(5);
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// Serves until it is dropped.
#[derive(Debug)]
pub struct FakeServer {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    stopping: AtomicBool,
    connections: AtomicUsize,
}

impl FakeServer {
    /// `serve` gets each connection, from its first byte, on a thread of its own. What it fails with is nobody's concern.
    pub fn start(
        serve: impl Fn(&mut Connection) -> io::Result<()> + Clone + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        let of_thread = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if of_thread.stopping.load(Ordering::SeqCst) {
                    return;
                }
                of_thread.connections.fetch_add(1, Ordering::SeqCst);
                let serve = serve.clone();
                std::thread::spawn(move || {
                    stream.set_read_timeout(Some(PATIENCE))?;
                    stream.set_write_timeout(Some(PATIENCE))?;
                    serve(&mut Connection(stream))
                });
            }
        });
        Ok(Self { address, state, thread: Some(thread) })
    }

    /// As `nodes` of a cluster names it.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// How many there have been.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.state.stopping.store(true, Ordering::SeqCst);
        // Wakes the thread.
        let _ = TcpStream::connect_timeout(&self.address, CONNECT_LIMIT);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The server's end of a connection.
#[derive(Debug)]
pub struct Connection(pub TcpStream);

impl Connection {
    /// A packet without a type: its body.
    pub fn read_packet(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        self.read_body(length)
    }

    /// A message: its type and body.
    pub fn read_message(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut header = [0; 5];
        self.0.read_exact(&mut header)?;
        let [tag, length @ ..] = header;
        Ok((tag, self.read_body(length)?))
    }

    fn read_body(&mut self, length: [u8; 4]) -> io::Result<Vec<u8>> {
        let length = u32::from_be_bytes(length).saturating_sub(4).min(1 << 20);
        let mut body = vec![0; length as usize];
        self.0.read_exact(&mut body)?;
        Ok(body)
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    pub fn message(&mut self, tag: u8, body: &[u8]) -> io::Result<()> {
        self.send(&encode::message(tag, body))
    }

    /// AuthenticationRequest of this kind.
    pub fn authentication(&mut self, kind: u32, data: &[u8]) -> io::Result<()> {
        self.message(b'R', &[&kind.to_be_bytes(), data].concat())
    }

    /// Takes any startup packet and lets the client in, without a question.
    pub fn welcome(&mut self) -> io::Result<()> {
        self.read_packet()?;
        self.authentication(0, b"")?;
        self.message(b'K', &[0, 0, 0, 1, 0, 0, 0, 2])?;
        self.message(b'Z', b"I")
    }

    /// Asks for SCRAM-SHA-256 and gives the client's nonce.
    pub fn ask_for_scram(&mut self) -> io::Result<String> {
        self.read_packet()?;
        self.authentication(10, b"SCRAM-SHA-256\0\0")?;
        let (_, body) = self.read_message()?;
        let text = String::from_utf8_lossy(&body);
        Ok(text.rsplit_once("r=").map(|(_, nonce)| nonce.to_owned()).unwrap_or_default())
    }

    /// Reads until the peer closes.
    pub fn drain(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest)?;
        Ok(rest)
    }
}
