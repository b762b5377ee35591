//! A listener between halephant and PostgreSQL that a test has hold things back: CancelRequests, what the server says or the rest of
//! it, or each message to it for a moment.
//!
//! Only sessions of [`ROLE`](crate::stage::ROLE) are held up: halephant's own probes pass.

use anyhow::{Context, Result, bail};
use halephant_harness::postgres::cluster::Builder;
use halephant_harness::{Proxy, ProxyConfig, wait_for};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::Stage;
use crate::stage::{DATABASE, PASSWORD, ROLE};

const CANCEL_REQUEST: u32 = 80_877_102;
const READY_FOR_QUERY: u8 = b'Z';
const PACKET_BYTES_MAX: usize = 10_000;
const LIMIT: Duration = Duration::from_secs(20);
/// Between two messages to a server that is slow to be reached.
const PAUSE: Duration = Duration::from_millis(20);

/// Passes bytes on until it is dropped.
#[derive(Debug)]
pub struct Midway {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    gates: Mutex<Gates>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Gates {
    stopping: bool,
    /// CancelRequests wait.
    cancels: bool,
    /// Messages to the server come one by one.
    slow: bool,
    /// What comes behind the next message of this type waits.
    behind: Option<u8>,
    /// What comes behind so many bytes of the next answer waits.
    cut: Option<usize>,
    /// Who waits does so until this has changed.
    releases: usize,
    /// How many wait, and have something to pass on.
    waiting: usize,
}

impl State {
    fn gates(&self) -> MutexGuard<'_, Gates> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until [`Midway::release`].
    fn wait(&self, mut gates: MutexGuard<'_, Gates>) {
        gates.waiting += 1;
        let releases = gates.releases;
        while gates.releases == releases && !gates.stopping {
            gates = self.changed.wait(gates).unwrap_or_else(PoisonError::into_inner);
        }
        gates.waiting -= 1;
    }
}

impl Midway {
    /// A stage whose proxy has only this address for its node.
    pub fn stage(builder: Builder, change: impl FnOnce(ProxyConfig) -> ProxyConfig) -> Result<(Self, Stage)> {
        let cluster = builder.role(ROLE, PASSWORD).database(DATABASE, ROLE).start()?;
        let midway = Self::to(cluster.login(ROLE, DATABASE).port)?;
        let nodes = vec![midway.address.to_string()];
        let config = Stage::config(&cluster).set("cluster.main.nodes", nodes);
        let proxy = Proxy::start(&change(config))?;
        Ok((midway, Stage { proxy, cluster }))
    }

    /// To `port` of this host.
    pub fn to(port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        let of_thread = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            while let Ok((near, _)) = listener.accept() {
                if of_thread.gates().stopping {
                    return;
                }
                let state = Arc::clone(&of_thread);
                // What it fails with, both ends learn.
                std::thread::spawn(move || carry(near, port, &state));
            }
        });
        Ok(Self { address, state, thread: Some(thread) })
    }

    /// From now on CancelRequests wait.
    pub fn hold_cancels(&self) {
        self.state.gates().cancels = true;
    }

    /// From now on, messages to a server come one by one, with a pause before each.
    pub fn slow_down(&self) {
        self.state.gates().slow = true;
    }

    /// What a server says behind its next message of this type waits.
    pub fn hold_behind(&self, tag: u8) {
        self.state.gates().behind = Some(tag);
    }

    /// What a server's next answer has behind so many bytes waits; those before come at once.
    pub fn cut(&self, at: usize) {
        self.state.gates().cut = Some(at);
    }

    /// Waits until something is held back.
    pub fn wait_until_held(&self) -> Result<()> {
        wait_for("something to be held back", LIMIT, || Ok((self.state.gates().waiting > 0).then_some(())))
    }

    /// Whether anything is held back.
    pub fn holds(&self) -> bool {
        self.state.gates().waiting > 0
    }

    /// Lets everything pass again.
    pub fn release(&self) {
        let mut gates = self.state.gates();
        (gates.cancels, gates.slow, gates.behind, gates.cut) = (false, false, None, None);
        gates.releases += 1;
        self.state.changed.notify_all();
    }
}

impl Drop for Midway {
    fn drop(&mut self) {
        self.state.gates().stopping = true;
        self.state.changed.notify_all();
        // Wakes the thread.
        let _ = TcpStream::connect_timeout(&self.address, LIMIT);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn carry(mut near: TcpStream, port: u16, state: &Arc<State>) -> Result<()> {
    near.set_nodelay(true)?;
    let mut first = vec![0; 4];
    near.read_exact(&mut first)?;
    let length = usize::try_from(u32::from_be_bytes(first.as_slice().try_into()?))?;
    if !(8..PACKET_BYTES_MAX).contains(&length) {
        bail!("a first packet of {length} bytes");
    }
    first.resize(length, 0);
    near.read_exact(&mut first[4..])?;
    let code = u32::from_be_bytes(*first[4..].first_chunk().context("it is long enough")?);
    let gates = state.gates();
    if code == CANCEL_REQUEST && gates.cancels {
        state.wait(gates);
    } else {
        drop(gates);
    }
    let mut far = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    far.set_nodelay(true)?;
    far.write_all(&first)?;
    let user = format!("user\0{ROLE}\0");
    let is_session = first.windows(user.len()).any(|part| part == user.as_bytes());
    let (mut from, mut to) = (near.try_clone()?, far.try_clone()?);
    let of_thread = Arc::clone(state);
    std::thread::spawn(move || {
        let copied = if is_session {
            pass_messages(&mut from, &mut to, &of_thread)
        } else {
            io::copy(&mut from, &mut to).map(|_| ()).map_err(Into::into)
        };
        let _ = to.shutdown(Shutdown::Write);
        copied
    });
    if is_session {
        while let Some(message) = read_message(&mut far)? {
            let cut = state.gates().cut.take();
            if let Some(at) = cut {
                let answer = read_answer(message, &mut far)?;
                let (first, rest) = answer.split_at_checked(at).context("the answer is longer")?;
                near.write_all(first)?;
                state.wait(state.gates());
                near.write_all(rest)?;
                continue;
            }
            // Before it is passed on: what is asked for after that is about the next.
            let held = state.gates().behind.take_if(|tag| *tag == message[0]).is_some();
            near.write_all(&message)?;
            if held {
                // Counted as held only when there is something.
                far.peek(&mut [0])?;
                state.wait(state.gates());
            }
        }
    } else {
        io::copy(&mut far, &mut near)?;
    }
    let _ = near.shutdown(Shutdown::Write);
    Ok(())
}

fn pass_messages(from: &mut TcpStream, to: &mut TcpStream, state: &State) -> Result<()> {
    while let Some(message) = read_message(from)? {
        to.write_all(&message)?;
        if state.gates().slow {
            std::thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// All up to a ReadyForQuery, from its first message on.
fn read_answer(first: Vec<u8>, from: &mut TcpStream) -> Result<Vec<u8>> {
    let (mut is_last, mut answer) = (first[0] == READY_FOR_QUERY, first);
    while !is_last {
        let message = read_message(from)?.context("the answer has an end")?;
        is_last = message[0] == READY_FOR_QUERY;
        answer.extend(message);
    }
    Ok(answer)
}

/// One message; `None`: the stream ended.
fn read_message(from: &mut TcpStream) -> Result<Option<Vec<u8>>> {
    let mut header = [0; 5];
    if from.peek(&mut header[..1])? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut header)?;
    let [_, length @ ..] = header;
    let mut message = header.to_vec();
    message.resize(usize::try_from(u32::from_be_bytes(length))? + 1, 0);
    from.read_exact(&mut message[5..])?;
    Ok(Some(message))
}
