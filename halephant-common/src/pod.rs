//! aya's permission to copy these types to and from maps.
#![allow(unsafe_code)]

use crate::address::{Birth, FlowKey, PairKey, Peer};
use crate::counters::NodeCounters;
use crate::flow::{Arrival, Attachment, Binding};

macro_rules! pod {
    ($($type:ty),* $(,)?) => {
        $(
            // SAFETY: `repr(C)` of integers only, without padding (asserted where the type is declared).
            unsafe impl aya::Pod for $type {}
        )*
    };
}

pod!(Birth, FlowKey, PairKey, Peer, NodeCounters, Arrival, Attachment, Binding);
