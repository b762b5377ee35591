//! Framing: the messages and what is left add up to the input, and a second look finds the same.
#![no_main]

use halephant_protocol::frame::{self, HEADER_BYTES};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut messages = frame::split(data);
    let mut taken = 0;
    let mut failed = false;
    for message in messages.by_ref() {
        match message {
            Ok(message) => {
                assert_eq!(data[taken], message.tag);
                taken += HEADER_BYTES + message.body.len();
            }
            Err(_) => failed = true,
        }
    }
    assert_eq!(messages.rest(), &data[taken..]);
    assert!(messages.next().is_none());

    // What stopped the walk: a bad header, no header yet, or a body that is not all there.
    match frame::parse_header(messages.rest()) {
        Err(_) => assert!(failed),
        Ok(None) => assert!(!failed && messages.rest().len() < HEADER_BYTES),
        Ok(Some(header)) => {
            assert!(!failed && header.frame_bytes() > messages.rest().len());
            assert_eq!(header.encode(), messages.rest()[..HEADER_BYTES]);
        }
    }
    if let Ok(Some(header)) = frame::parse_frontend_header(data) {
        assert_eq!(frame::parse_header(data), Ok(Some(header)));
    }
});
