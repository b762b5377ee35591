//! The crate's promises, checked from outside: property tests, and other people's code as the referee.

#![allow(clippy::unwrap_used, reason = "tests, whose shared functions the lint does not know for such")]

mod backend;
mod frontend;
mod parts;
mod referee;
mod scram;
mod startup;
mod verifier;
