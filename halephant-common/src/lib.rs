//! Types that the proxy shares with its kernel programs.
//!
//! Everything here has the same layout on both sides: `repr(C)`, no padding that is not a named field, sizes asserted
//! where each type is declared and pinned by `layout`'s tests. Words that both sides touch at the same time are atomics,
//! and each has one writer.
#![no_std]

pub mod address;
pub mod counters;
pub mod event;
pub mod flow;
pub mod framing;
pub mod names;
#[cfg(feature = "user")]
mod pod;
pub mod word;

#[cfg(test)]
mod layout;
