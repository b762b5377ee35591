//! The thread that reads the programs' ring buffer and wakes the flows it speaks of.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::sync::Weak;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Waker;
use std::thread::{self, JoinHandle};

use atomic_waker::AtomicWaker;
use aya::maps::{MapData, RingBuf};
use halephant_common::event::{Broken, EVENT_BROKEN, EVENT_CREDIT_LOW, EVENT_PASSED, EVENT_SPLICED, Event};
use halephant_common::flow::Reason;

use super::core::Core;
use super::error::SpliceError;
use super::words::Words;

/// What a flow's task has to be told, and who it is.
#[derive(Default)]
pub struct Signals {
    bits: AtomicU32,
    waker: AtomicWaker,
}

/// Both directions shall be taken back.
pub const SIGNAL_RECLAIM: u32 = 1 << 2;

/// Half the credit of the direction is used.
pub const fn signal_low(direction: usize) -> u32 {
    1 << direction
}

impl Signals {
    pub fn raise(&self, bit: u32) {
        self.bits.fetch_or(bit, Ordering::AcqRel);
        self.waker.wake();
    }

    /// As [`Self::raise`], by the task itself.
    pub fn keep(&self, bit: u32) {
        self.bits.fetch_or(bit, Ordering::AcqRel);
    }

    pub fn raised(&self) -> u32 {
        self.bits.load(Ordering::Acquire)
    }

    pub fn clear(&self, bit: u32) {
        self.bits.fetch_and(!bit, Ordering::AcqRel);
    }

    /// Whom [`Self::raise`] wakes; to be called before [`Self::raised`].
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }
}

/// Ends the thread when it is dropped.
pub struct Reader {
    end: UnixStream,
    thread: JoinHandle<Read>,
}

/// What the thread reads.
struct Read {
    ring: RingBuf<MapData>,
    words: Option<Words>,
}

/// `core` is weak: the thread must not keep the programs alive.
pub fn start(ring: RingBuf<MapData>, words: Option<Words>, core: Weak<Core>) -> Result<Reader, SpliceError> {
    Reader::start(Read { ring, words }, core)
}

impl Reader {
    fn start(mut read: Read, core: Weak<Core>) -> Result<Self, SpliceError> {
        let failed = |source| SpliceError::System("starting a thread", source);
        let (end, ended) = UnixStream::pair().map_err(failed)?;
        let run = move || {
            read.until(&ended, &core);
            read
        };
        let thread = thread::Builder::new().name("splice-events".into()).spawn(run).map_err(failed)?;
        Ok(Self { end, thread })
    }

    /// Goes on in a new thread, which has the rights of the calling one. What comes in between stays in the ring buffer.
    pub fn restart(self, core: Weak<Core>) -> Result<Self, SpliceError> {
        drop(self.end);
        let panicked = |_| SpliceError::System("ending a thread", io::ErrorKind::Other.into());
        let read = self.thread.join().map_err(panicked)?;
        Self::start(read, core)
    }
}

impl Read {
    fn until(&mut self, ended: &UnixStream, core: &Weak<Core>) {
        while wait(&self.ring, self.words.as_ref(), ended).is_ok_and(|ended| !ended) {
            if let Some(words) = &mut self.words {
                words.flush();
            }
            while let Some(item) = self.ring.next() {
                let Some(core) = core.upgrade() else { continue };
                if let Some(broken) = parse_broken(&item) {
                    core.broken(&broken);
                } else if let Some(event) = parse(&item) {
                    tell(&core, event);
                }
            }
        }
    }
}

/// Whether the other end is gone.
fn wait(ring: &RingBuf<MapData>, words: Option<&Words>, ended: &UnixStream) -> io::Result<bool> {
    let poll = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // A negative descriptor is left out.
    let words = words.map_or(-1, std::os::fd::AsRawFd::as_raw_fd);
    let mut fds = [poll(ring.as_raw_fd()), poll(ended.as_raw_fd()), poll(words)];
    loop {
        // SAFETY: the array is as long as the length says.
        if unsafe { libc::poll(fds.as_mut_ptr(), 3, -1) } >= 0 {
            return Ok(fds[1].revents != 0);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.chunks_exact(4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
}

fn parse(bytes: &[u8]) -> Option<Event> {
    let mut words = words(bytes);
    Some(Event {
        kind: words.next()?,
        flow: words.next()?,
        generation: words.next()?,
        direction: words.next()?,
        detail: words.next()?,
        reserved: words.next()?,
    })
}

fn parse_broken(bytes: &[u8]) -> Option<Broken> {
    let kind = words(bytes).next()?;
    if kind != EVENT_BROKEN || bytes.len() < size_of::<Broken>() {
        return None;
    }
    // SAFETY: as many bytes as the structure has, of which any are a value of it.
    Some(unsafe { bytes.as_ptr().cast::<Broken>().read_unaligned() })
}

fn tell(core: &Core, event: Event) {
    match event.kind {
        EVENT_CREDIT_LOW => {
            if let Some(signals) = core.signals(event.flow, event.generation) {
                signals.raise(signal_low(event.direction as usize & 1));
            }
        }
        EVENT_SPLICED => tracing::debug!(flow = event.flow, direction = event.direction, "spliced"),
        EVENT_PASSED => {
            let reason = Reason::from_word(event.detail).map_or("unknown", Reason::name);
            tracing::debug!(flow = event.flow, direction = event.direction, reason, "passed");
        }
        _ => {}
    }
}
