//! [`relay`]: userspace's half of a session.

use std::os::fd::AsFd as _;

use anyhow::Result;
use halephant::splice::{Attention, Direction, Flow, Sockets};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use crate::messages::Tracker;

/// What a relay did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Bytes by direction that userspace forwarded.
    pub copied: [u64; 2],
    /// Bytes by direction that the kernel moved.
    pub redirected: [u64; 2],
    pub arms: u64,
    /// Reclaims after something had been redirected.
    pub reclaims: u64,
    /// The client said Terminate, which did not go to the server.
    pub terminated: bool,
    pub server_reusable: bool,
}

/// Asks a relay to take one direction back, at once. It goes to the kernel again as any other.
#[derive(Debug)]
pub struct Take {
    pub direction: Direction,
    /// Told how many bytes the kernel had moved since it was armed.
    pub taken: oneshot::Sender<u64>,
}

enum Turn {
    Step(usize),
    Attend(Attention),
    Take(Take),
}

struct Half {
    direction: Direction,
    tracker: Tracker,
    pending: Vec<u8>,
    ended: bool,
}

impl Half {
    fn new(direction: Direction) -> Self {
        Self { direction, tracker: Tracker::default(), pending: Vec::new(), ended: false }
    }
}

struct Relay<'a> {
    client: &'a TcpStream,
    server: &'a TcpStream,
    flow: Option<Flow>,
    halves: [Half; 2],
    summary: Summary,
    takes: mpsc::Receiver<Take>,
}

/// Relays until both sides have ended or the client terminates.
pub async fn relay(flow: Flow, client: &TcpStream, server: &TcpStream) -> Result<Summary> {
    let (_, nobody) = mpsc::channel(1);
    relay_taking(flow, client, server, nobody).await
}

/// As [`relay`], and takes directions back when it is asked to.
pub async fn relay_taking(
    flow: Flow,
    client: &TcpStream,
    server: &TcpStream,
    takes: mpsc::Receiver<Take>,
) -> Result<Summary> {
    let relay = Relay {
        client,
        server,
        flow: Some(flow),
        halves: Direction::BOTH.map(Half::new),
        summary: Summary::default(),
        takes,
    };
    relay.run().await
}

impl<'a> Relay<'a> {
    fn sockets(&self) -> Sockets<'a> {
        Sockets { client: self.client.as_fd(), server: self.server.as_fd() }
    }

    async fn run(mut self) -> Result<Summary> {
        let mut buffer = vec![0; 64 * 1024];
        while !(self.halves[0].ended && self.halves[1].ended) {
            let [up, down] = &self.halves;
            let sockets = self.sockets();
            let flow = self.flow.as_mut().expect("the flow lives as long as the relay");
            let turn = tokio::select! {
                _ = self.client.readable(), if !up.ended && up.pending.is_empty() => Turn::Step(0),
                _ = self.server.writable(), if !up.pending.is_empty() => Turn::Step(0),
                _ = self.server.readable(), if !down.ended && down.pending.is_empty() => Turn::Step(1),
                _ = self.client.writable(), if !down.pending.is_empty() => Turn::Step(1),
                attention = flow.tend(sockets) => Turn::Attend(attention),
                Some(take) = self.takes.recv() => Turn::Take(take),
            };
            match turn {
                Turn::Step(which) => {
                    if self.step(which, &mut buffer).await? {
                        self.summary.terminated = true;
                        break;
                    }
                }
                Turn::Attend(Attention::Arm(direction)) => self.arm(direction as usize),
                Turn::Attend(Attention::Reclaim) => {
                    self.reclaim(0).await?;
                    self.reclaim(1).await?;
                }
                Turn::Take(Take { direction, taken }) => {
                    let redirected = self.reclaim(direction as usize).await?;
                    // Who asked may have gone.
                    let _ = taken.send(redirected);
                }
            }
        }
        self.finish().await
    }

    async fn finish(mut self) -> Result<Summary> {
        self.reclaim(0).await?;
        self.reclaim(1).await?;
        let sockets = self.sockets();
        if let Some(flow) = self.flow.take() {
            for direction in Direction::BOTH {
                self.summary.redirected[direction as usize] = flow.status(direction).redirected;
            }
            self.summary.server_reusable = flow.release(sockets).server_reusable;
        }
        Ok(self.summary)
    }

    /// Reads or writes one direction. Whether the client terminated.
    async fn step(&mut self, which: usize, buffer: &mut [u8]) -> Result<bool> {
        let (source, target) =
            if which == 0 { (self.client, self.server) } else { (self.server, self.client) };
        let mut terminated = false;
        if self.halves[which].pending.is_empty() {
            match source.try_read(buffer) {
                Ok(0) => {
                    self.reclaim(which).await?;
                    self.halves[which].ended = true;
                    shutdown(target);
                    return Ok(false);
                }
                Ok(bytes) => {
                    let flow = self.flow.as_mut().expect("the flow lives as long as the relay");
                    flow.read(self.halves[which].direction, bytes);
                    self.reclaim(which).await?;
                    let half = &mut self.halves[which];
                    terminated = half.tracker.feed(&buffer[..bytes]) && which == 0;
                    let forwarded = if terminated { bytes - 5 } else { bytes };
                    half.pending.extend(&buffer[..forwarded]);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(false),
                Err(_) => {
                    // A reset: both sides are done.
                    self.halves[0].ended = true;
                    self.halves[1].ended = true;
                    return Ok(false);
                }
            }
        }
        while !self.halves[which].pending.is_empty() {
            match target.try_write(&self.halves[which].pending) {
                Ok(bytes) => {
                    self.halves[which].pending.drain(..bytes);
                    self.summary.copied[which] += bytes as u64;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    if terminated {
                        target.writable().await?;
                        continue;
                    }
                    break;
                }
                Err(_) => {
                    self.halves[0].ended = true;
                    self.halves[1].ended = true;
                    return Ok(false);
                }
            }
        }
        if !terminated {
            // The target of the other direction has just sent.
            self.arm(1 - which);
            self.arm(which);
        }
        Ok(terminated)
    }

    fn arm(&mut self, which: usize) {
        let half = &self.halves[which];
        if half.ended || !half.pending.is_empty() || !half.tracker.at_boundary() {
            return;
        }
        let (direction, sockets) = (half.direction, self.sockets());
        let flow = self.flow.as_mut().expect("the flow lives as long as the relay");
        if !flow.is_armed(direction) && flow.arm(direction, sockets).is_ok() {
            self.summary.arms += 1;
        }
    }

    /// How many bytes the kernel had moved since it was armed.
    async fn reclaim(&mut self, which: usize) -> Result<u64> {
        let (direction, sockets) = (self.halves[which].direction, self.sockets());
        let flow = self.flow.as_mut().expect("the flow lives as long as the relay");
        if !flow.is_armed(direction) {
            return Ok(0);
        }
        let reclaimed = flow.reclaim(direction, sockets).await?;
        if reclaimed.redirected > 0 {
            self.summary.reclaims += 1;
        }
        self.halves[which].tracker.resume(&reclaimed.framing);
        Ok(reclaimed.redirected)
    }
}

fn shutdown(socket: &TcpStream) {
    // Already closed is as good.
    let _ = socket2::SockRef::from(socket).shutdown(std::net::Shutdown::Write);
}
