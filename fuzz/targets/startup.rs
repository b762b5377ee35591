//! First packets: whole, and one byte at a time; what parses is written again as it was read.
#![no_main]

use bytes::BytesMut;
use halephant_protocol::startup::{self, FirstPacket, PACKET_BYTES_MAX};
use libfuzzer_sys::fuzz_target;

fn encode(packet: &FirstPacket<'_>, out: &mut BytesMut) {
    match packet {
        FirstPacket::SslRequest => startup::encode_ssl_request(out),
        FirstPacket::GssEncRequest => startup::encode_gssenc_request(out),
        FirstPacket::CancelRequest(request) => request.encode(out).expect("it was parsed"),
        FirstPacket::StartupMessage(message) => message.encode(out).expect("it was parsed"),
    }
}

fuzz_target!(|data: &[u8]| {
    let whole = startup::parse(data);
    let by_byte = (0..=data.len()).map(|end| startup::parse(&data[..end])).find(|step| *step != Ok(None));
    assert_eq!(whole, by_byte.unwrap_or(Ok(None)));
    match whole {
        Ok(Some((packet, taken))) => {
            assert!(taken <= PACKET_BYTES_MAX);
            let mut out = BytesMut::new();
            encode(&packet, &mut out);
            assert_eq!(out, data[..taken]);
            if let FirstPacket::StartupMessage(message) = packet {
                assert!(!message.user().is_empty() && !message.database().is_empty());
                if let Some(negotiation) = message.negotiate(2) {
                    negotiation.message().encode(&mut out).expect("names were parsed");
                }
            }
        }
        Ok(None) => assert!(data.len() < PACKET_BYTES_MAX),
        Err(error) => drop(error.to_string()),
    }
});
