//! sk_skb stream verdict: what one of our sockets, or an enrolled one, receives.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::BPF_F_INGRESS;
use aya_ebpf::bindings::sk_action::{SK_DROP, SK_PASS};
use aya_ebpf::helpers::bpf_get_socket_cookie;
use aya_ebpf::macros::stream_verdict;
use aya_ebpf::programs::SkBuffContext;
use halephant_common::flow::{TARGET_OWN, Target};
use halephant_ebpf::walk::Chunk;

use crate::maps::{ARRIVED, ENROLLED_SOCKETS, OWN, OWN_SOCKETS};
use crate::run::{flow, run};

#[stream_verdict]
pub fn own_verdict(context: SkBuffContext) -> u32 {
    // SAFETY: the context is the kernel's.
    let cookie = unsafe { bpf_get_socket_cookie(context.as_ptr()) };
    let Some(attachment) = OWN.get_ptr_mut(cookie) else { return SK_PASS };
    // SAFETY: only the program of this socket writes the value, and the socket's lock serialises it.
    let attachment = unsafe { &mut *attachment };
    let mut packet = Packet { context };
    match flow(attachment.flow, attachment.generation) {
        Some(entry) => run(attachment, entry, &mut packet, redirect),
        None => {
            attachment.passed += packet.bytes() as u64;
            SK_PASS
        }
    }
}

/// An enrolled socket's own TCP data: passing it here puts it into the queue that redirected data goes to,
/// and counting it shows userspace when all it wrote is there.
#[stream_verdict]
pub fn enrolled_verdict(context: SkBuffContext) -> u32 {
    // SAFETY: the context is the kernel's.
    let cookie = unsafe { bpf_get_socket_cookie(context.as_ptr()) };
    if let Some(arrived) = ARRIVED.get_ptr_mut(cookie) {
        // SAFETY: only this program writes the value, and the socket's lock serialises it.
        unsafe { *arrived += context.len() as u64 };
    }
    SK_PASS
}

#[inline(always)]
fn redirect(packet: &Packet, target: &Target) -> u32 {
    let verdict = if target.kind == TARGET_OWN {
        // SAFETY: the helper checks the slot.
        unsafe { OWN_SOCKETS.redirect_skb(&packet.context, target.slot, 0) }
    } else {
        ENROLLED_SOCKETS.redirect_skb(&packet.context, target.key, BPF_F_INGRESS as u64)
    };
    if verdict as u32 == SK_PASS { SK_PASS } else { SK_DROP }
}

struct Packet {
    context: SkBuffContext,
}

impl Chunk for Packet {
    #[inline(always)]
    fn bytes(&self) -> u32 {
        self.context.len()
    }

    #[inline(always)]
    fn byte(&mut self, at: u32) -> Option<u8> {
        self.context.load::<u8>(at as usize).ok()
    }

    #[inline(always)]
    fn header(&mut self, at: u32) -> Option<u64> {
        let bytes = self.context.load::<[u8; 5]>(at as usize).ok()?;
        let length = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
        Some(((bytes[0] as u64) << 32) | length as u64)
    }
}
