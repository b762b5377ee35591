//! sk_msg: what another process's socket sends.

use core::hint::black_box;

use aya_ebpf::bindings::sk_action::{SK_DROP, SK_PASS};
use aya_ebpf::bindings::{BPF_F_INGRESS, sk_msg_md};
use aya_ebpf::helpers::bpf_msg_pull_data;
use aya_ebpf::programs::SkMsgContext;
use halephant_common::address::FlowKey;
use halephant_common::flow::{Attachment, FlowEntry, TARGET_OWN, Target};
use halephant_common::framing::HEADER_BYTES;
use halephant_ebpf::walk::Chunk;

use crate::key;
use crate::maps::{BINDINGS, ENROLLED, ENROLLED_SOCKETS, OWN_SOCKETS};
use crate::run::{flow, run};

#[aya_ebpf::macros::sk_msg]
pub fn enrolled_msg(context: SkMsgContext) -> u32 {
    sent::<true>(context)
}

#[aya_ebpf::macros::sk_msg]
pub fn enrolled_msg_plain(context: SkMsgContext) -> u32 {
    sent::<false>(context)
}

#[inline(always)]
fn sent<const NETNS: bool>(context: SkMsgContext) -> u32 {
    let key = key::of_message::<NETNS>(context.msg);
    let Some(attachment) = ENROLLED.get_ptr_mut(&key) else { return SK_PASS };
    // SAFETY: only the program of this socket writes the value, and the socket's lock serialises it.
    let attachment = unsafe { &mut *attachment };
    let mut message = Message { context, windowed: false };
    match bound(attachment, &key) {
        Some(entry) => run(attachment, entry, &mut message, redirect),
        None => {
            attachment.passed += message.bytes() as u64;
            SK_PASS
        }
    }
}

/// The flow that the socket feeds, looked up again when it feeds none.
#[inline(always)]
fn bound(attachment: &mut Attachment, key: &FlowKey) -> Option<&'static FlowEntry> {
    if let Some(entry) = flow(attachment.flow, attachment.generation) {
        return Some(entry);
    }
    // SAFETY: the value is read at once; a binding that is being replaced names a generation that no flow has.
    let binding = unsafe { BINDINGS.get(key) }?;
    attachment.flow = binding.flow;
    attachment.generation = binding.generation;
    attachment.direction = binding.direction;
    flow(attachment.flow, attachment.generation)
}

#[inline(always)]
fn redirect(message: &Message, target: &Target) -> u32 {
    let verdict = if target.kind == TARGET_OWN {
        // SAFETY: the helper checks the slot.
        unsafe { OWN_SOCKETS.redirect_msg(&message.context, target.slot, 0) }
    } else {
        ENROLLED_SOCKETS.redirect_msg(&message.context, target.key, BPF_F_INGRESS as u64)
    };
    if verdict as u32 == SK_PASS { SK_PASS } else { SK_DROP }
}

struct Message {
    context: SkMsgContext,
    /// `data` shows a piece that was asked for, no longer the beginning.
    windowed: bool,
}

/// Offsets that are looked up where `data` points; the verifier wants to see the bound.
const DIRECT_MASK: u32 = 0x1fff;

impl Message {
    /// Address of `bytes` bytes from `at`.
    #[inline(always)]
    fn find(&mut self, at: u32, bytes: u32) -> Option<*const u8> {
        if !self.windowed && at <= DIRECT_MASK {
            let begin = self.context.data() + (black_box(at) & DIRECT_MASK) as usize;
            if begin + bytes as usize <= self.context.data_end() {
                return Some(begin as *const u8);
            }
        }
        self.windowed = true;
        // SAFETY: the helper checks the range.
        if unsafe { bpf_msg_pull_data(self.context.msg.cast::<sk_msg_md>(), at, at + bytes, 0) } != 0 {
            return None;
        }
        let begin = self.context.data();
        (begin + bytes as usize <= self.context.data_end()).then_some(begin as *const u8)
    }
}

impl Chunk for Message {
    #[inline(always)]
    fn bytes(&self) -> u32 {
        self.context.size()
    }

    #[inline(always)]
    fn byte(&mut self, at: u32) -> Option<u8> {
        // SAFETY: `find` compared the range with `data_end`.
        self.find(at, 1).map(|byte| unsafe { *byte })
    }

    #[inline(always)]
    fn header(&mut self, at: u32) -> Option<u64> {
        let begin = self.find(at, HEADER_BYTES)?;
        // SAFETY: `find` compared the range with `data_end`.
        unsafe {
            let tag = *begin as u64;
            let length = u32::from_be(begin.add(1).cast::<u32>().read_unaligned());
            Some((tag << 32) | length as u64)
        }
    }
}
