//! What the verdict programs share: decide, redirect, write down, count.

use aya_ebpf::bindings::sk_action::{SK_DROP, SK_PASS};
use halephant_common::counters::NodeCounters;
use halephant_common::event::{EVENT_CREDIT_LOW, EVENT_PASSED, EVENT_SPLICED, Event};
use halephant_common::flow::{Attachment, Direction, FlowEntry, Reason, Target};
use halephant_common::names::NODES_MAX;
use halephant_ebpf::verdict::{Decision, Taken, commit, decide, reclaim};
use halephant_ebpf::walk::Chunk;

use crate::maps::{COUNTERS, EVENTS, FLOWS, SWITCHBOARD};

/// The flow an attachment names, if it is still that flow.
#[inline(always)]
pub fn flow(index: u32, generation: u32) -> Option<&'static FlowEntry> {
    if generation == 0 {
        return None;
    }
    let entry = FLOWS.get(index)?;
    (entry.generation.load() == generation as u64).then_some(entry)
}

/// Runs the verdict for one chunk of `attachment`'s socket. `redirect` answers whether the kernel took the target.
#[inline(always)]
pub fn run<C: Chunk>(
    attachment: &mut Attachment,
    entry: &FlowEntry,
    chunk: &mut C,
    redirect: impl FnOnce(&C, &Target) -> u32,
) -> u32 {
    let direction = if attachment.direction == 0 { &entry.directions[0] } else { &entry.directions[1] };
    let killed = SWITCHBOARD.get(0).is_none_or(|board| board.killed.load() != 0);
    let reason = match decide(direction, killed, attachment.passed, chunk) {
        Decision::Redirect(taken) => {
            if redirect(chunk, &direction.target) != SK_DROP {
                redirected(attachment, entry, direction, &taken);
                return SK_PASS;
            }
            (!taken.arming).then_some(Reason::Target)
        }
        Decision::Reclaim(reason) => Some(reason),
        Decision::Pass => None,
    };
    if let Some(reason) = reason {
        reclaim(direction, reason);
        if let Some(counters) = counters(entry)
            && let Some(cell) = counters.reclaims.get_mut(reason as usize)
        {
            *cell += 1;
        }
        tell(attachment, entry, EVENT_PASSED, reason as u32);
    }
    pass(attachment, direction, chunk.bytes());
    SK_PASS
}

#[inline(always)]
fn pass(attachment: &mut Attachment, direction: &Direction, bytes: u32) {
    attachment.passed += bytes as u64;
    direction.passed.store(attachment.passed);
}

#[inline(always)]
fn redirected(attachment: &Attachment, entry: &FlowEntry, direction: &Direction, taken: &Taken) {
    let low = commit(direction, attachment.direction, taken);
    if let Some(counters) = counters(entry) {
        if attachment.direction == 0 {
            counters.bytes[0] += taken.bytes as u64;
            counters.messages[0] += taken.tally.messages as u64;
        } else {
            counters.bytes[1] += taken.bytes as u64;
            counters.messages[1] += taken.tally.messages as u64;
            let [idle, open, failed] = taken.tally.ready();
            counters.ready[0] += idle as u64;
            counters.ready[1] += open as u64;
            counters.ready[2] += failed as u64;
        }
        if taken.arming {
            counters.arms += 1;
        }
    }
    if taken.arming {
        tell(attachment, entry, EVENT_SPLICED, 0);
    }
    if low && tell(attachment, entry, EVENT_CREDIT_LOW, 0) {
        direction.low_told.store(direction.low.load());
    }
}

#[inline(always)]
fn counters(entry: &FlowEntry) -> Option<&'static mut NodeCounters> {
    let node = entry.node.load() as u32;
    let node = if node < NODES_MAX { node } else { NODES_MAX - 1 };
    // SAFETY: a per-CPU value; nothing else writes it while the program runs on this CPU.
    COUNTERS.get_ptr_mut(node).map(|counters| unsafe { &mut *counters })
}

/// Whether the event found room.
#[inline(always)]
fn tell(attachment: &Attachment, entry: &FlowEntry, kind: u32, detail: u32) -> bool {
    let event = Event {
        kind,
        flow: attachment.flow,
        generation: attachment.generation,
        direction: attachment.direction,
        detail,
        reserved: 0,
    };
    let told = EVENTS.output::<Event>(event, 0).is_ok();
    if !told && let Some(counters) = counters(entry) {
        counters.events_lost += 1;
    }
    told
}
