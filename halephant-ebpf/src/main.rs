//! The kernel programs, one file per program type.
#![no_std]
#![no_main]
#![allow(unsafe_code)]

mod key;
mod maps;
mod msg;
mod ops;
mod run;
mod skb;

/// Never reached: a program that could panic loops here in the verifier's eyes, and does not load.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
