//! A relay of two sockets, the smallest one that uses the kernel path as a session does, and what tests put at its ends.
//!
//! These tests need root and a kernel with BPF and fail without them, on purpose: a machine that lacks either has not
//! tested the kernel path.

pub mod messages;
pub mod misplaced;
pub mod objects;
pub mod relay;
pub mod repeated;
pub mod rig;
pub mod segment;
pub mod volume;
