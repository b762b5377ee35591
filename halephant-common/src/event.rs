//! What the programs tell userspace through the ring buffer.

use crate::address::FlowKey;

/// Half the credit of a direction is used: extend it if the receiver has consumed.
pub const EVENT_CREDIT_LOW: u32 = 1;
/// The program gave a direction back; `detail` is the [`crate::flow::Reason`].
pub const EVENT_PASSED: u32 = 2;
/// A direction is in the kernel from here on.
pub const EVENT_SPLICED: u32 = 3;
/// A [`Broken`] socket.
pub const EVENT_BROKEN: u32 = 4;

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub kind: u32,
    pub flow: u32,
    pub generation: u32,
    /// 0 client to server, 1 server to client.
    pub direction: u32,
    pub detail: u32,
    pub reserved: u32,
}

const _: () = assert!(size_of::<Event>() == 24 && align_of::<Event>() == 4);

/// A packet could not be put into the socket's stream. The socket receives nothing more; its connection is to be closed.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// [`EVENT_BROKEN`], where an [`Event`] has its kind.
    pub kind: u32,
    pub reserved: u32,
    pub cookie: u64,
    /// Without the network namespace.
    pub key: FlowKey,
}

const _: () = assert!(size_of::<Broken>() == 64 && align_of::<Broken>() == 8);
