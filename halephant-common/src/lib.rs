//! Types that the proxy shares with its kernel programs.
#![no_std]
