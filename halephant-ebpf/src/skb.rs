//! sk_skb stream verdict: what one of our sockets, or an enrolled one, receives.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::BPF_F_INGRESS;
use aya_ebpf::bindings::sk_action::{SK_DROP, SK_PASS};
use aya_ebpf::helpers::{bpf_get_socket_cookie, bpf_probe_read_kernel, bpf_skb_adjust_room};
use aya_ebpf::macros::stream_verdict;
use aya_ebpf::programs::SkBuffContext;
use halephant_common::event::{Broken, EVENT_BROKEN};
use halephant_common::flow::{Position, TARGET_OWN, Target};
use halephant_ebpf::place::{Span, repeated};
use halephant_ebpf::walk::Chunk;

use crate::key;
use crate::maps::{ARRIVED, ENROLLED_SOCKETS, EVENTS, OWN, OWN_SOCKETS};
use crate::run::{flow, run};

#[stream_verdict]
pub fn own_verdict(context: SkBuffContext) -> u32 {
    // SAFETY: the context is the kernel's.
    let cookie = unsafe { bpf_get_socket_cookie(context.as_ptr()) };
    let Some(attachment) = OWN.get_ptr_mut(cookie) else { return SK_PASS };
    // SAFETY: only the program of this socket writes the value, and the socket's lock serialises it.
    let attachment = unsafe { &mut *attachment };
    if !is_in_place(&context, cookie, &mut attachment.next) {
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
        if !is_in_place(&context, cookie, &mut arrived.next) {
            return SK_DROP;
        }
        arrived.bytes += context.len() as u64;
    }
    SK_PASS
}

/// Takes off what the socket has had before. `false`: the packet cannot be put into the stream, and nothing of the stream
/// may be handed on any more.
#[inline(always)]
fn is_in_place(context: &SkBuffContext, cookie: u64, next: &mut Position) -> bool {
    if next.is_broken() {
        return false;
    }
    if let Some(span) = span(context)
        && let Ok((bytes, after)) = repeated(*next, span, context.len())
        && (bytes == 0 || take_off(context, bytes))
    {
        *next = after;
        return true;
    }
    *next = Position::BROKEN;
    let key = key::of_packet(context.skb.skb);
    let _ = EVENTS.output::<Broken>(Broken { kind: EVENT_BROKEN, reserved: 0, cookie, key }, 0);
    false
}

/// Offset of `cb` in the kernel's `struct sk_buff`, where TCP keeps a packet's first and next sequence number. A kernel
/// that has something else there fails the self-test: numbers and length have to fit each other.
const CONTROL_BLOCK: usize = 40;

#[inline(always)]
fn span(context: &SkBuffContext) -> Option<Span> {
    // SAFETY: the helper checks the address.
    let block = unsafe { (context.as_ptr() as *const u8).add(CONTROL_BLOCK) };
    let [begin, end] = unsafe { bpf_probe_read_kernel(block.cast::<[u32; 2]>()) }.ok()?;
    Some(Span { begin, end })
}

/// Most that `bpf_skb_adjust_room` takes off at once, and how often it is called.
const TAKE_OFF_BYTES_MAX: u32 = 0xfff;
const TAKE_OFF_STEPS_MAX: u32 = 64;

#[inline(always)]
fn take_off(context: &SkBuffContext, bytes: u32) -> bool {
    let mut left = bytes;
    for _ in 0..TAKE_OFF_STEPS_MAX {
        if left == 0 {
            break;
        }
        let step = if left > TAKE_OFF_BYTES_MAX { TAKE_OFF_BYTES_MAX } else { left };
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
