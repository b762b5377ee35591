//! The [`FlowKey`] of the socket a program runs for.

use aya_ebpf::bindings::{__sk_buff, bpf_sock_ops, sk_msg_md};
use aya_ebpf::helpers::bpf_get_netns_cookie;
use halephant_common::address::{AF_INET, FlowKey, mapped};

/// Every field is read, and each as itself: the verifier refuses a context pointer that was computed, which is what a
/// choice between two fields becomes.
macro_rules! read {
    ($context:ident . $field:ident) => {
        (&raw const (*$context).$field).read_volatile()
    };
    ($context:ident . $field:ident [4]) => {
        [
            (&raw const (*$context).$field[0]).read_volatile(),
            (&raw const (*$context).$field[1]).read_volatile(),
            (&raw const (*$context).$field[2]).read_volatile(),
            (&raw const (*$context).$field[3]).read_volatile(),
        ]
    };
}

macro_rules! key_of {
    ($name:ident, $context:ty) => {
        #[inline(always)]
        fn $name(context: *mut $context, netns: u64) -> FlowKey {
            // SAFETY: the kernel hands the program a valid context; the verifier checks every access.
            unsafe {
                let family = read!(context.family);
                let local_port = read!(context.local_port) as u16;
                let remote_port = u32::from_be(read!(context.remote_port)) as u16;
                let (local4, remote4) = (read!(context.local_ip4), read!(context.remote_ip4));
                let (local6, remote6) = (read!(context.local_ip6[4]), read!(context.remote_ip6[4]));
                let (local, remote) = if family == AF_INET as u32 {
                    (mapped(local4), mapped(remote4))
                } else {
                    (local6, remote6)
                };
                FlowKey::new(local, local_port, remote, remote_port, netns)
            }
        }
    };
}

key_of!(message, sk_msg_md);
key_of!(event, bpf_sock_ops);
key_of!(packet, __sk_buff);

/// `NETNS`: the kernel has the helper that tells the network namespace.
#[inline(always)]
pub fn of_message<const NETNS: bool>(context: *mut sk_msg_md) -> FlowKey {
    message(context, if NETNS { netns(context.cast()) } else { 0 })
}

#[inline(always)]
pub fn of_event<const NETNS: bool>(context: *mut bpf_sock_ops) -> FlowKey {
    event(context, if NETNS { netns(context.cast()) } else { 0 })
}

/// Without the network namespace, which these programs are not told.
#[inline(always)]
pub fn of_packet(context: *mut __sk_buff) -> FlowKey {
    packet(context, 0)
}

#[inline(always)]
fn netns(context: *mut core::ffi::c_void) -> u64 {
    // SAFETY: the context is the kernel's.
    unsafe { bpf_get_netns_cookie(context) }
}
