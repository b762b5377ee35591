//! What the programs tell userspace through the ring buffer.

/// Half the credit of a direction is used: extend it if the receiver has consumed.
pub const EVENT_CREDIT_LOW: u32 = 1;
/// The program gave a direction back; `detail` is the [`crate::flow::Reason`].
pub const EVENT_PASSED: u32 = 2;
/// A direction is in the kernel from here on.
pub const EVENT_SPLICED: u32 = 3;

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
