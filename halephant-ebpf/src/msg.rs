//! sk_msg: what another process's socket sends.

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
    let Some(entry) = bound(attachment, &key) else {
        attachment.passed += context.size() as u64;
        return SK_PASS;
    };
    run(attachment, entry, &mut Message(context), |message, target| redirect(&message.0, target))
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
fn redirect(context: &SkMsgContext, target: &Target) -> u32 {
    let verdict = if target.kind == TARGET_OWN {
        // SAFETY: the helper checks the slot.
        unsafe { OWN_SOCKETS.redirect_msg(context, target.slot, 0) }
    } else {
        ENROLLED_SOCKETS.redirect_msg(context, target.key, BPF_F_INGRESS as u64)
    };
    if verdict as u32 == SK_PASS { SK_PASS } else { SK_DROP }
}

/// Type byte and length at `begin`.
///
/// # Safety
/// The five bytes are within the message.
#[inline(always)]
unsafe fn header_at(begin: *const u8) -> u64 {
    // SAFETY: the caller compared the range with `data_end`.
    unsafe {
        let length = u32::from_be(begin.add(1).cast::<u32>().read_unaligned());
        ((*begin as u64) << 32) | length as u64
    }
}

/// A message that is being sent, in one or several pieces of memory. The kernel is asked for each header's bytes and moves
/// them together if need be; where they lie in one piece that is no more than finding them. Reading what `data` shows at
/// the beginning instead is beyond the verifier in a loop.
struct Message(SkMsgContext);

impl Message {
    #[inline(always)]
    fn find(&self, at: u32, bytes: u32) -> Option<*const u8> {
        // SAFETY: the helper checks the range.
        if unsafe { bpf_msg_pull_data(self.0.msg.cast::<sk_msg_md>(), at, at + bytes, 0) } != 0 {
            return None;
        }
        let begin = self.0.data();
        (begin + bytes as usize <= self.0.data_end()).then_some(begin as *const u8)
    }
}

impl Chunk for Message {
    #[inline(always)]
    fn bytes(&self) -> u32 {
        self.0.size()
    }

    #[inline(always)]
    fn byte(&mut self, at: u32) -> Option<u8> {
        // SAFETY: `find` compared the range with `data_end`.
        self.find(at, 1).map(|byte| unsafe { *byte })
    }

    #[inline(always)]
    fn header(&mut self, at: u32) -> Option<u64> {
        // SAFETY: `find` compared the range with `data_end`.
        self.find(at, HEADER_BYTES).map(|begin| unsafe { header_at(begin) })
    }
}
