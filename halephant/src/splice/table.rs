//! [`Table`]: the flow entries, shared with the programs through memory, and which of them are free.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd as _;
use std::ptr::NonNull;

use aya::maps::MapData;
use halephant_common::flow::{FlowEntry, Switchboard, Target};

/// `count` values of a map, mapped into memory.
struct Mapping<T> {
    base: NonNull<T>,
    count: usize,
}

// SAFETY: the values are words with interior mutability, made to be shared.
unsafe impl<T: Sync> Send for Mapping<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Mapping<T> {}

impl<T> Mapping<T> {
    fn new(map: &MapData, count: usize) -> io::Result<Self> {
        use std::os::fd::AsFd as _;
        // SAFETY: a new mapping, as long as the map's values are; the kernel refuses a longer one.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                count * size_of::<T>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.fd().as_fd().as_raw_fd(),
                0,
            )
        };
        match NonNull::new(base.cast::<T>()) {
            Some(base) if base.as_ptr().cast() != libc::MAP_FAILED => Ok(Self { base, count }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn value(&self, index: usize) -> Option<&T> {
        // SAFETY: the index is within the mapping, which lives as long as `self`.
        (index < self.count).then(|| unsafe { self.base.add(index).as_ref() })
    }
}

impl<T> Drop for Mapping<T> {
    fn drop(&mut self) {
        // SAFETY: the very mapping that `new` made.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.count * size_of::<T>()) };
    }
}

pub struct Table {
    flows: Mapping<FlowEntry>,
    switchboard: Mapping<Switchboard>,
}

impl Table {
    pub fn new(flows: &MapData, switchboard: &MapData, count: u32) -> io::Result<Self> {
        Ok(Self { flows: Mapping::new(flows, count as usize)?, switchboard: Mapping::new(switchboard, 1)? })
    }

    pub fn entry(&self, index: u32) -> &FlowEntry {
        self.flows.value(index as usize).expect("flows are numbered by the table's free list")
    }

    pub fn switchboard(&self) -> &Switchboard {
        self.switchboard.value(0).expect("the map has one value")
    }

    /// Makes entry `index` a new flow's. Programs leave it alone until its generation is set.
    pub fn clear(&self, index: u32, node: u32, targets: [Target; 2]) {
        let entry = self.entry(index);
        entry.generation.store(0);
        entry.node.store(u64::from(node));
        for (direction, target) in entry.directions.iter().zip(targets) {
            for word in [
                &direction.control,
                &direction.limit,
                &direction.low,
                &direction.flags,
                &direction.watched,
                &direction.passed,
                &direction.redirected,
                &direction.messages,
                &direction.low_told,
                &direction.framing[0],
                &direction.framing[1],
                &direction.arms,
                &direction.cycles,
            ] {
                word.store(0);
            }
            direction.set_standing(Default::default());
            // SAFETY: the entry is free, so that nothing reads the target; it lies in writable shared memory.
            unsafe { (&raw const direction.target).cast_mut().write_volatile(target) };
        }
    }
}
