//! What the kernel programs decide, apart from the programs: pure functions that are tested on the host.
#![no_std]

pub mod place;
pub mod verdict;
pub mod walk;

#[cfg(test)]
mod tests;
