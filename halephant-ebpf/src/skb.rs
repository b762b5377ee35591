//! sk_skb stream verdict: what one of our sockets, or an enrolled one, receives.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::BPF_F_INGRESS;
use aya_ebpf::bindings::sk_action::{SK_DROP, SK_PASS};
use aya_ebpf::helpers::{bpf_get_socket_cookie, bpf_probe_read_kernel, bpf_skb_adjust_room};
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
    if !trim_repeated(&context, &mut attachment.next) {
        return SK_DROP;
    }
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
        let arrived = unsafe { &mut *arrived };
        let mut next = arrived.next as u32;
        let whole = trim_repeated(&context, &mut next);
        arrived.next = next as u64;
        if !whole {
            return SK_DROP;
        }
        arrived.bytes += context.len() as u64;
    }
    SK_PASS
}

/// Offset of `cb` in the kernel's `struct sk_buff`, behind which TCP keeps the first and the next sequence number of a packet.
const CONTROL_BLOCK: usize = 40;
/// Most that `bpf_skb_adjust_room` takes off at once, and how often it is called.
const TRIM_BYTES_MAX: u32 = 0xfff;
const TRIMS_MAX: u32 = 64;

/// Takes off what the socket has had already. A retransmitted segment that is merged with the next one, in the socket's
/// backlog or by a retransmission, comes as one packet: TCP's own readers skip its beginning, a verdict is handed all of it.
/// `false`: it could not be taken off.
#[inline(always)]
fn trim_repeated(context: &SkBuffContext, next: &mut u32) -> bool {
    // SAFETY: the helper checks the address.
    let block = unsafe { (context.as_ptr() as *const u8).add(CONTROL_BLOCK) };
    let Ok(numbers) = (unsafe { bpf_probe_read_kernel(block.cast::<[u32; 2]>()) }) else { return false };
    let before = *next;
    *next = numbers[1];
    let repeated = before.wrapping_sub(numbers[0]) as i32;
    if before == 0 || repeated <= 0 {
        return true;
    }
    let mut left = repeated as u32;
    let mut trims = 0;
    while trims < TRIMS_MAX {
        trims += 1;
        if left == 0 {
            break;
        }
        let step = if left > TRIM_BYTES_MAX { TRIM_BYTES_MAX } else { left };
        // SAFETY: the context is the kernel's.
        if unsafe { bpf_skb_adjust_room(context.as_ptr().cast(), -(step as i32), 0, 0) } != 0 {
            return false;
        }
        left -= step;
    }
    left == 0
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
