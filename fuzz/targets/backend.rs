//! Messages of a server, the first byte being the tag: what parses is written again as it was read.
#![no_main]

use bytes::BytesMut;
use halephant_protocol::backend::Message;
use halephant_protocol::frame::HEADER_BYTES;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&tag, body)) = data.split_first() else { return };
    match Message::parse(tag, body) {
        Ok(message) => {
            drop(format!("{message:?}"));
            let mut out = BytesMut::new();
            message.encode(&mut out).expect("it was parsed");
            assert_eq!(out[0], tag);
            assert_eq!(out[HEADER_BYTES..], *body);
        }
        Err(error) => drop(error.to_string()),
    }
});
