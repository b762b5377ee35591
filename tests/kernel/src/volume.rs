//! A gigabyte of messages with random bodies, sent and received without being held, and compared by hash.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use halephant::splice::diag::{Diag, Memory, key_of};
use rand::rngs::SmallRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::time::Instant;

const BODY_BYTES_MAX: usize = 64 * 1024;
const WRITE_BYTES_MAX: usize = 128 * 1024;
const HEADER_BYTES: usize = 5;
const LOOK: Duration = Duration::from_millis(50);

/// One direction's bytes.
pub struct Volume {
    pub tag: u8,
    pub seed: u64,
    pub bytes: u64,
    /// Up to here the sender waits for the receiver, so that the kernel's credit lasts.
    pub paced_until: u64,
    /// Bytes that may be on their way while it does.
    pub window: u64,
    arrived: AtomicU64,
    moved: Notify,
}

pub type Hash = [u8; 32];

impl Volume {
    pub fn new(tag: u8, seed: u64, bytes: u64, paced_until: u64, window: u64) -> Self {
        Self { tag, seed, bytes, paced_until, window, arrived: AtomicU64::new(0), moved: Notify::new() }
    }

    /// Sends all of it in writes of random lengths.
    pub async fn send(&self, socket: &mut OwnedWriteHalf) -> Result<Hash> {
        let mut random = SmallRng::seed_from_u64(self.seed);
        let (mut hash, mut buffer) = (Sha256::new(), Vec::with_capacity(BODY_BYTES_MAX + WRITE_BYTES_MAX));
        let (mut made, mut sent) = (0, 0);
        while sent < self.bytes {
            while made < self.bytes && buffer.len() < WRITE_BYTES_MAX {
                made += self.add_message(&mut random, &mut buffer, self.bytes - made);
            }
            let length = random.random_range(1..=WRITE_BYTES_MAX).min(buffer.len());
            if sent < self.paced_until {
                self.wait_for(sent.saturating_sub(self.window)).await;
            }
            socket.write_all(&buffer[..length]).await?;
            hash.update(&buffer[..length]);
            buffer.drain(..length);
            sent += length as u64;
        }
        Ok(hash.finalize().into())
    }

    async fn wait_for(&self, bytes: u64) {
        while self.arrived.load(Ordering::Acquire) < bytes {
            self.moved.notified().await;
        }
    }

    /// Adds one message that leaves nothing or room for another; its length.
    fn add_message(&self, random: &mut SmallRng, buffer: &mut Vec<u8>, left: u64) -> u64 {
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let mut body = random.random_range(0..=BODY_BYTES_MAX);
        if body + 2 * HEADER_BYTES > left {
            body = left.saturating_sub(HEADER_BYTES);
        }
        buffer.push(self.tag);
        buffer.extend((body as u32 + 4).to_be_bytes());
        let start = buffer.len();
        buffer.resize(start + body, 0);
        random.fill_bytes(&mut buffer[start..]);
        (HEADER_BYTES + body) as u64
    }

    /// Receives all of it. `stop`: after so many bytes, not to read until the future is done.
    pub async fn receive(
        &self,
        socket: &mut OwnedReadHalf,
        stop: Option<(u64, impl Future<Output = Result<()>>)>,
    ) -> Result<Hash> {
        let (mut hash, mut buffer, mut arrived) = (Sha256::new(), vec![0; 256 * 1024], 0);
        let mut stop = stop;
        while arrived < self.bytes {
            if let Some((_, pause)) = stop.take_if(|(after, _)| *after <= arrived) {
                pause.await?;
            }
            let read = socket.read(&mut buffer).await?;
            anyhow::ensure!(read > 0, "the stream ends after {arrived} bytes");
            hash.update(&buffer[..read]);
            arrived += read as u64;
            self.arrived.store(arrived, Ordering::Release);
            self.moved.notify_one();
        }
        Ok(hash.finalize().into())
    }
}

/// The four sockets of a session, as the kernel's own accounting knows them.
pub struct Watch {
    diag: Diag,
    pairs: [(std::net::SocketAddr, std::net::SocketAddr); 2],
}

impl Watch {
    pub fn new(client: &TcpStream, server: &TcpStream) -> Result<Self> {
        let pair = |socket: &TcpStream| anyhow::Ok((socket.local_addr()?, socket.peer_addr()?));
        Ok(Self { diag: Diag::open()?, pairs: [pair(client)?, pair(server)?] })
    }

    fn sockets(&self) -> Result<Vec<Memory>> {
        let ends = self.pairs.iter().flat_map(|(near, far)| [(*near, *far), (*far, *near)]);
        ends.map(|(local, remote)| self.diag.memory(&key_of(local, remote))?.context("a socket is gone"))
            .collect()
    }

    /// The most that the sockets held over `time`: in all, and beyond what their buffers are meant to hold.
    pub async fn most_held(&self, time: Duration) -> Result<(u64, u64)> {
        let (end, mut most) = (Instant::now() + time, (0, 0));
        while Instant::now() < end {
            let sockets = self.sockets()?;
            let all = sockets.iter().map(|socket| socket.unread + socket.unsent).sum();
            let beyond = sockets.iter().map(|socket| {
                socket.unread.saturating_sub(socket.receive_buffer)
                    + socket.unsent.saturating_sub(socket.send_buffer)
            });
            most = (most.0.max(all), most.1.max(beyond.sum()));
            tokio::time::sleep(LOOK).await;
        }
        Ok(most)
    }
}
