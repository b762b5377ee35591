//! The kernel programs; an empty skeleton that builds on the host.
#![no_std]
