//! sock_ops on the cgroup: enrols the sockets at the far ends of our connections when they are born.
//!
//! The active end of a connection is established first. It leaves a birth under the connection's addresses and initial
//! sequence numbers, and the passive end finds it there, so that either end's process may be in any network namespace.

use aya_ebpf::bindings::{
    BPF_ANY, BPF_NOEXIST, BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB,
    BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_TCP_CLOSE,
};
use aya_ebpf::helpers::bpf_get_socket_cookie;
use aya_ebpf::programs::SockOpsContext;
use aya_log_ebpf::debug;
use halephant_common::address::{BIRTH_CLIENT, BIRTH_DIAL, Birth, FlowKey, PairKey, Peer};
use halephant_common::flow::{Arrival, Attachment, Position};

use crate::key;
use crate::maps::{ARRIVED, BIRTHS, DIALS, ENROLLED, ENROLLED_SOCKETS, LISTEN_PORTS, PEERS};

#[aya_ebpf::macros::sock_ops]
pub fn enrol(context: SockOpsContext) -> u32 {
    event::<true>(context)
}

#[aya_ebpf::macros::sock_ops]
pub fn enrol_plain(context: SockOpsContext) -> u32 {
    event::<false>(context)
}

#[inline(always)]
fn event<const NETNS: bool>(context: SockOpsContext) -> u32 {
    match context.op() {
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => connected::<NETNS>(&context),
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => accepted::<NETNS>(&context),
        BPF_SOCK_OPS_STATE_CB if context.arg(1) == BPF_TCP_CLOSE => {
            let _ = ENROLLED.remove(key::of_event::<NETNS>(context.ops));
            let _ = ARRIVED.remove(cookie(&context));
        }
        _ => {}
    }
    1
}

#[inline(always)]
fn sequences(context: &SockOpsContext) -> (u32, u32) {
    // SAFETY: the context is the kernel's.
    unsafe { ((*context.ops).snd_nxt, (*context.ops).rcv_nxt) }
}

#[inline(always)]
fn cookie(context: &SockOpsContext) -> u64 {
    // SAFETY: the context is the kernel's.
    unsafe { bpf_get_socket_cookie(context.ops.cast()) }
}

#[inline(always)]
fn connected<const NETNS: bool>(context: &SockOpsContext) {
    let cookie = cookie(context);
    let remote_port = u32::from_be(context.remote_port()) as u16;
    // SAFETY: only the presence of the value counts.
    let kind = if unsafe { DIALS.get(cookie) }.is_some() {
        let _ = DIALS.remove(cookie);
        BIRTH_DIAL
    } else if unsafe { LISTEN_PORTS.get(remote_port) }.is_some() {
        BIRTH_CLIENT
    } else {
        return;
    };
    let key = key::of_event::<NETNS>(context.ops);
    if kind == BIRTH_CLIENT && !take_in(context, &key) {
        return;
    }
    let (sent, received) = sequences(context);
    let birth = Birth { key, cookie, kind, reserved: 0 };
    let _ = BIRTHS.insert(PairKey::of_active(&key, sent, received), birth, BPF_ANY as u64);
}

#[inline(always)]
fn accepted<const NETNS: bool>(context: &SockOpsContext) {
    let key = key::of_event::<NETNS>(context.ops);
    let (sent, received) = sequences(context);
    let pair = PairKey::of_passive(&key, sent, received);
    // SAFETY: the value is copied at once; the key is that of one connection.
    let Some(birth) = (unsafe { BIRTHS.get(pair) }) else { return };
    let birth = *birth;
    let _ = BIRTHS.remove(pair);
    let cookie = cookie(context);
    if birth.kind == BIRTH_CLIENT {
        let _ = PEERS.insert(cookie, Peer { key: birth.key, cookie: birth.cookie }, BPF_ANY as u64);
    } else if take_in(context, &key) {
        let _ = PEERS.insert(birth.cookie, Peer { key, cookie }, BPF_ANY as u64);
    }
}

/// Puts the socket of this event among the enrolled ones.
#[inline(always)]
fn take_in(context: &SockOpsContext, key: &FlowKey) -> bool {
    let attachment =
        Attachment { flow: 0, generation: 0, direction: 0, reserved: 0, passed: 0, next: Position::UNKNOWN };
    if context.set_cb_flags(context.cb_flags() as i32 | BPF_SOCK_OPS_STATE_CB_FLAG as i32).is_err() {
        return false;
    }
    // The first socket of a key keeps it: where the kernel does not tell network namespaces apart, a second one with
    // the same addresses must not take its place.
    if ENROLLED.insert(key, attachment, BPF_NOEXIST as u64).is_err() {
        return false;
    }
    if ARRIVED.insert(cookie(context), Arrival { bytes: 0, next: Position::UNKNOWN }, BPF_ANY as u64).is_err()
    {
        let _ = ENROLLED.remove(key);
        return false;
    }
    // SAFETY: the kernel hands the program a valid context for as long as it runs.
    if ENROLLED_SOCKETS.update(*key, unsafe { &mut *context.ops }, BPF_NOEXIST as u64).is_err() {
        let _ = ENROLLED.remove(key);
        return false;
    }
    debug!(context, "enrolled: cookie {} port {} to {}", cookie(context), key.local_port, key.remote_port);
    true
}
