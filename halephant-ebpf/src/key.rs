//! The [`FlowKey`] of the socket a program runs for.

use aya_ebpf::bindings::{bpf_sock_ops, sk_msg_md};
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
        /// `NETNS`: the kernel has the helper that tells the network namespace.
        #[inline(always)]
        pub fn $name<const NETNS: bool>(context: *mut $context) -> FlowKey {
            // SAFETY: the kernel hands the program a valid context; the verifier checks every access.
            unsafe {
                let netns = if NETNS { bpf_get_netns_cookie(context.cast()) } else { 0 };
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

key_of!(of_message, sk_msg_md);
key_of!(of_event, bpf_sock_ops);
