//! What the programs say (aya-log), as events of `tracing` at debug.

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};

/// The programs' constant with the most detailed level they write; checked by the verifier, so that what is above it is
/// not even part of the program that runs.
pub const LEVEL: &str = "AYA_LOG_LEVEL";

/// The value of [`LEVEL`]: debug (4) if anybody listens when the programs are loaded, else nothing.
pub fn level() -> u8 {
    if tracing::enabled!(tracing::Level::DEBUG) { 4 } else { 0 }
}

pub type Words = EbpfLogger<ToTracing>;

/// `None` where the object file has no log.
pub fn of(ebpf: &mut Ebpf) -> Option<Words> {
    EbpfLogger::init_with_logger(ebpf, ToTracing).ok()
}

pub struct ToTracing;

impl Log for ToTracing {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        tracing::debug!(program = record.module_path(), "{}", record.args());
    }

    fn flush(&self) {}
}
