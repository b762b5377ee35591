//! The [`FlowKey`] of the socket a program runs for.

use aya_ebpf::bindings::{bpf_sock_ops, sk_msg_md};
use aya_ebpf::helpers::bpf_get_netns_cookie;
use halephant_common::address::{AF_INET, FlowKey, mapped};

macro_rules! key_of {
    ($name:ident, $context:ty) => {
        /// `NETNS`: the kernel has the helper that tells the network namespace.
        #[inline(always)]
        pub fn $name<const NETNS: bool>(context: *mut $context) -> FlowKey {
            // SAFETY: the kernel hands the program a valid context; the verifier checks every access.
            unsafe {
                let netns = if NETNS { bpf_get_netns_cookie(context.cast()) } else { 0 };
                let local_port = (*context).local_port as u16;
                let remote_port = u32::from_be((*context).remote_port) as u16;
                let (local, remote) = if (*context).family == AF_INET as u32 {
                    (mapped((*context).local_ip4), mapped((*context).remote_ip4))
                } else {
                    ((*context).local_ip6, (*context).remote_ip6)
                };
                FlowKey::new(local, local_port, remote, remote_port, netns)
            }
        }
    };
}

key_of!(of_message, sk_msg_md);
key_of!(of_event, bpf_sock_ops);
