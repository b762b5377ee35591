//! [`Word`]: a number in memory that a kernel program and userspace touch at the same time.
#![allow(unsafe_code)]

#[cfg(not(target_arch = "bpf"))]
use core::sync::atomic::{AtomicU64, Ordering};

/// 64 bits, read and written whole. Userspace orders its accesses (acquire, release); the BPF back end has no atomic load,
/// and a program needs no order of its own: it runs to its end under its socket's lock.
#[repr(transparent)]
pub struct Word {
    #[cfg(not(target_arch = "bpf"))]
    cell: AtomicU64,
    #[cfg(target_arch = "bpf")]
    cell: core::cell::UnsafeCell<u64>,
}

const _: () = assert!(size_of::<Word>() == 8);

#[cfg(not(target_arch = "bpf"))]
impl Word {
    pub const fn new(value: u64) -> Self {
        Self { cell: AtomicU64::new(value) }
    }

    pub fn load(&self) -> u64 {
        self.cell.load(Ordering::Acquire)
    }

    pub fn store(&self, value: u64) {
        self.cell.store(value, Ordering::Release);
    }
}

#[cfg(target_arch = "bpf")]
impl Word {
    #[inline(always)]
    pub fn load(&self) -> u64 {
        // SAFETY: the cell is part of a map value, which outlives the program's run.
        unsafe { self.cell.get().read_volatile() }
    }

    #[inline(always)]
    pub fn store(&self, value: u64) {
        // SAFETY: the cell is part of a map value, which outlives the program's run.
        unsafe { self.cell.get().write_volatile(value) }
    }
}

#[cfg(target_arch = "bpf")]
// SAFETY: an aligned volatile access of 64 bits is one machine access in a BPF program.
unsafe impl Sync for Word {}
