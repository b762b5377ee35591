//! [`FlowEntry`]: one client and one server connection, and who owns each direction between them.
//!
//! A word is written either by userspace or by the program of the direction's source socket, never by both; the source
//! socket's lock serialises the program with itself.

use crate::address::FlowKey;
use crate::framing::Framing;
use crate::word::Word;

pub const CLIENT_TO_SERVER: u32 = 0;
pub const SERVER_TO_CLIENT: u32 = 1;

/// Lowest bits of [`Direction::control`]: pass, and go back to it.
pub const ASK_PASS: u64 = 0;
/// Switch to the target as soon as `passed` is the number in the higher bits.
pub const ASK_ARM: u64 = 1;

#[inline(always)]
pub const fn control_word(arm_at: u64, ask: u64) -> u64 {
    (arm_at << 1) | ask
}

#[inline(always)]
pub const fn control_ask(word: u64) -> u64 {
    word & 1
}

#[inline(always)]
pub const fn control_arm_at(word: u64) -> u64 {
    word >> 1
}

/// Why a direction went back to userspace.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Userspace asked.
    Requested = 0,
    /// The kill switch.
    Killed = 1,
    /// A Terminate, or the beginning of one.
    Terminate = 2,
    /// The receiver has too much unread.
    Credit = 3,
    /// A header that cannot be.
    Framing = 4,
    /// More messages in one chunk than a run may walk.
    Dense = 5,
    /// The target is no longer there.
    Target = 6,
    /// A message that userspace has to see: [`Direction::watched`], or one whose answers it could not count.
    Watched = 7,
}

pub const REASONS: usize = 8;

impl Reason {
    pub const ALL: [Self; REASONS] = [
        Self::Requested,
        Self::Killed,
        Self::Terminate,
        Self::Credit,
        Self::Framing,
        Self::Dense,
        Self::Target,
        Self::Watched,
    ];

    pub const fn from_word(word: u32) -> Option<Self> {
        let mut i = 0;
        while i < REASONS {
            if Self::ALL[i] as u32 == word {
                return Some(Self::ALL[i]);
            }
            i += 1;
        }
        None
    }

    /// Metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Killed => "killed",
            Self::Terminate => "terminate",
            Self::Credit => "credit",
            Self::Framing => "framing",
            Self::Dense => "dense",
            Self::Target => "target",
            Self::Watched => "watched",
        }
    }
}

/// [`Target::kind`]: a slot of `OWN_SOCKETS`.
pub const TARGET_OWN: u32 = 1;
/// A key of `ENROLLED_SOCKETS`.
pub const TARGET_ENROLLED: u32 = 2;

/// Where a direction's bytes go; written by userspace before the flow's generation is set.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub kind: u32,
    pub slot: u32,
    pub key: FlowKey,
}

const _: () = assert!(size_of::<Target>() == 56);

/// [`Direction::flags`], by userspace: past the bound on headers in one run, go on without following the messages.
pub const MAY_LOSE_TRACK: u64 = 1;

/// The bit of a message's type byte in [`Direction::watched`].
#[inline(always)]
pub const fn watched_bit(tag: u8) -> u64 {
    1 << (tag & 63)
}

/// Where a direction stands, as its program wrote it: [`Direction::standing`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Bytes go to the target; otherwise to userspace.
    pub spliced: bool,
    /// Messages are no longer followed: the server connection cannot be reused.
    pub untracked: bool,
    /// The direction went back because of a Terminate.
    pub terminated: bool,
    /// Of the latest switch back: a [`Reason`].
    pub reason: u32,
}

impl Standing {
    #[inline(always)]
    pub const fn pack(self) -> u64 {
        self.spliced as u64
            | (self.untracked as u64) << 1
            | (self.terminated as u64) << 2
            | (self.reason as u64) << 32
    }

    #[inline(always)]
    pub const fn unpack(word: u64) -> Self {
        Self {
            spliced: word & 1 != 0,
            untracked: word & 2 != 0,
            terminated: word & 4 != 0,
            reason: (word >> 32) as u32,
        }
    }
}

#[repr(C, align(64))]
pub struct Direction {
    // Written by userspace.
    pub control: Word,
    /// `redirected` may not pass this.
    pub limit: Word,
    /// Reaching this sends an event, once per value.
    pub low: Word,
    pub flags: Word,
    pub target: Target,
    /// Messages that go to userspace, with all that comes behind them: a bit for each, by the six low bits of its type
    /// byte.
    pub watched: Word,
    reserved1: [u64; 4],
    // Written by the program; a cache line of its own.
    /// Bytes of the source that went to userspace, since the source was enrolled or inserted.
    pub passed: Word,
    /// Bytes that went to the target in this flow.
    pub redirected: Word,
    pub messages: Word,
    /// The value of `low` that an event was sent for.
    pub low_told: Word,
    pub framing: [Word; 2],
    standing: Word,
    /// Counts switches to the target.
    pub arms: Word,
    /// Messages that ask for a ReadyForQuery (client to server), or ReadyForQuery (server to client).
    pub cycles: Word,
    reserved2: [u64; 7],
}

const _: () = assert!(size_of::<Direction>() == 256 && align_of::<Direction>() == 64);

impl Direction {
    #[inline(always)]
    pub fn framing(&self) -> Framing {
        Framing::unpack([self.framing[0].load(), self.framing[1].load()])
    }

    #[inline(always)]
    pub fn set_framing(&self, framing: &Framing) {
        let words = framing.pack();
        self.framing[0].store(words[0]);
        self.framing[1].store(words[1]);
    }

    #[inline(always)]
    pub fn standing(&self) -> Standing {
        Standing::unpack(self.standing.load())
    }

    #[inline(always)]
    pub fn set_standing(&self, standing: Standing) {
        self.standing.store(standing.pack());
    }
}

#[repr(C, align(64))]
pub struct FlowEntry {
    /// 0 while free. A program whose attachment names another generation leaves the entry alone.
    pub generation: Word,
    /// Index into the counters.
    pub node: Word,
    reserved: [u64; 6],
    pub directions: [Direction; 2],
}

const _: () = assert!(size_of::<FlowEntry>() == 576);

/// What a source socket's program keeps with the socket. Written by the program (an enrolled socket) or once, before the
/// socket is inserted, by userspace (one of ours).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub flow: u32,
    /// 0 while bound to no flow.
    pub generation: u32,
    pub direction: u32,
    pub reserved: u32,
    /// Bytes that went to userspace since the beginning.
    pub passed: u64,
    /// What one of our sockets receives next.
    pub next: Position,
}

const _: () = assert!(size_of::<Attachment>() == 32);

/// A place in a socket's incoming stream, by TCP's sequence numbers.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position(u64);

impl Position {
    pub const UNKNOWN: Self = Self(0);
    /// A packet was not where it had to be; nothing that follows can be trusted.
    pub const BROKEN: Self = Self(1 << 33);
    const KNOWN: u64 = 1 << 32;

    #[inline(always)]
    pub const fn at(sequence: u32) -> Self {
        Self(Self::KNOWN | sequence as u64)
    }

    #[inline(always)]
    pub const fn sequence(self) -> Option<u32> {
        if self.0 & Self::KNOWN != 0 { Some(self.0 as u32) } else { None }
    }

    #[inline(always)]
    pub const fn is_broken(self) -> bool {
        self.0 == Self::BROKEN.0
    }
}

/// What TCP has brought to an enrolled socket. Written by its program.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    pub bytes: u64,
    pub next: Position,
}

const _: () = assert!(size_of::<Arrival>() == 16);

/// Which flow an enrolled socket feeds, and in which direction.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    pub flow: u32,
    pub generation: u32,
    pub direction: u32,
    pub reserved: u32,
}

const _: () = assert!(size_of::<Binding>() == 16);

/// Switches for all flows at once.
#[repr(C)]
pub struct Switchboard {
    /// Not 0: every direction goes back to userspace.
    pub killed: Word,
}

const _: () = assert!(size_of::<Switchboard>() == 8);
