//! Pins the layout that the committed object file was built with.

extern crate std;

use core::mem::offset_of;
use std::vec;

use crate::address::{FlowKey, Peer, mapped};
use crate::counters::NodeCounters;
use crate::flow::{Direction, FlowEntry, Reason, Standing, Target};
use crate::framing::{Framing, tag_of};

#[test]
fn offsets_are_those_of_the_object_file() {
    let offsets = vec![
        offset_of!(FlowKey, remote),
        offset_of!(FlowKey, local_port),
        offset_of!(FlowKey, netns),
        offset_of!(Peer, cookie),
        offset_of!(Target, key),
        offset_of!(Direction, limit),
        offset_of!(Direction, low),
        offset_of!(Direction, flags),
        offset_of!(Direction, target),
        offset_of!(Direction, watched),
        offset_of!(Direction, passed),
        offset_of!(Direction, redirected),
        offset_of!(Direction, framing),
        offset_of!(Direction, arms),
        offset_of!(Direction, cycles),
        offset_of!(FlowEntry, node),
        offset_of!(FlowEntry, directions),
        offset_of!(NodeCounters, ready),
        offset_of!(NodeCounters, reclaims),
        size_of::<NodeCounters>(),
    ];
    assert_eq!(offsets, [16, 32, 40, 48, 8, 8, 16, 24, 32, 88, 128, 136, 160, 184, 192, 8, 64, 32, 64, 136]);
}

#[test]
fn framing_survives_packing() {
    let framing =
        Framing { left: 0xdead_beef, header: 0x12_3456_789a, header_len: 4, tag: b'Z', status: b'I' };
    assert_eq!(Framing::unpack(framing.pack()), framing);
}

#[test]
fn standing_survives_packing() {
    for (spliced, untracked, terminated) in
        [(true, false, false), (false, true, false), (false, false, true), (true, true, true)]
    {
        let standing = Standing { spliced, untracked, terminated, reason: Reason::Target as u32 };
        assert_eq!(Standing::unpack(standing.pack()), standing);
    }
}

#[test]
fn partial_header_bytes_come_in_stream_order() {
    for (header, len, bytes) in
        [(0, 0, [0; 4]), (0x51, 1, [0x51, 0, 0, 0]), (0x5100_0007, 4, [0x51, 0, 0, 7])]
    {
        let framing = Framing { header, header_len: len, ..Framing::default() };
        assert_eq!(framing.header_bytes(), bytes);
    }
}

#[test]
fn the_type_byte_is_the_highest_of_a_header() {
    assert_eq!(tag_of(u64::from_be_bytes([0, 0, 0, b'Q', 0, 0, 0, 9])), b'Q');
}

#[test]
fn mapped_addresses_are_ipv4() {
    let key = FlowKey::new(mapped(1), 5, mapped(2), 6, 7);
    assert_eq!(key.family, crate::address::AF_INET);
    assert_eq!(mapped(0x0100_007f_u32.to_le())[2].to_ne_bytes(), [0, 0, 0xff, 0xff]);
}

#[test]
fn reasons_are_their_words() {
    for reason in Reason::ALL {
        assert_eq!(Reason::from_word(reason as u32), Some(reason));
    }
    assert_eq!(Reason::from_word(99), None);
}
