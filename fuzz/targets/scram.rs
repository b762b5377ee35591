//! SCRAM: a message from a hostile peer in each state, the first byte choosing the state. No peer gets in.
#![no_main]

use halephant_protocol::frontend::AuthenticationResponse;
use halephant_protocol::scram::{
    AwaitServerFirst, Client, ClientBinding, ClientKeys, ITERATIONS_MAX, KEY_BYTES, Nonce, SCRAM_SHA_256,
    SCRAM_SHA_256_PLUS, Server, Verifier,
};
use libfuzzer_sys::fuzz_target;
use std::num::NonZeroU32;

const CLIENT_FIRST: &[u8] = b"n,,n=,r=here";
const SERVER_FIRST: &[u8] = b"r=herethere,s=c2FsdA==,i=2";

fn nonce(text: &str) -> Nonce {
    Nonce::new(text).expect("it is printable")
}

fn server(end_point: Option<Vec<u8>>) -> Server {
    Server::new(Verifier::derive(b"secret", b"salt", NonZeroU32::new(2).expect("2 is not 0")), end_point)
}

fn client() -> AwaitServerFirst {
    Client::new(ClientBinding::Unsupported, nonce("here")).client_first().0
}

/// As a server: the client's first message, for each mechanism.
fn first_to_server(data: &[u8]) {
    for end_point in [None, Some(vec![7; 32])] {
        for mechanism in [SCRAM_SHA_256, SCRAM_SHA_256_PLUS] {
            if let Ok((_, first)) = server(end_point.clone()).client_first(mechanism, data, &nonce("there")) {
                // Our own client, had it sent this nonce, would understand.
                assert!(first.contains("there,s=c2FsdA==,i=2"));
            }
        }
    }
}

/// As a server: the client's last message.
fn last_to_server(data: &[u8]) {
    let state = server(None).client_first(SCRAM_SHA_256, CLIENT_FIRST, &nonce("there"));
    let (state, first) = state.expect("it is a good message");
    assert_eq!(first.as_bytes(), SERVER_FIRST);
    assert!(state.client_final(data).is_err(), "nobody guesses a proof");
}

/// As a client: the server's first and last messages.
fn to_client(first: &[u8], last: &[u8]) {
    let keys = ClientKeys::new([1; KEY_BYTES], [2; KEY_BYTES]);
    if let Ok(challenge) = client().server_first(first, ITERATIONS_MAX) {
        assert!(challenge.iterations().get() <= ITERATIONS_MAX);
        let (state, message) = challenge.respond(&keys);
        assert!(message.starts_with("c=biws,r=here"));
        assert!(state.server_final(last).is_err(), "nobody guesses a signature");
    }
}

fn verifier(data: &[u8]) {
    if let Ok(verifier) = Verifier::parse(&String::from_utf8_lossy(data)) {
        assert_eq!(Verifier::parse(&verifier.encode()), Ok(verifier));
    }
}

fn initial_response(data: &[u8]) {
    let Ok(answer) = AuthenticationResponse::parse(data) else { return };
    if let Ok(initial) = answer.sasl_initial() {
        let message = initial.data.unwrap_or_default();
        let _ = server(Some(vec![7; 32])).client_first(initial.mechanism, message, &nonce("there"));
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&state, data)) = data.split_first() else { return };
    match state {
        b'1' => first_to_server(data),
        b'2' => last_to_server(data),
        b'3' => to_client(data, b""),
        b'4' => to_client(SERVER_FIRST, data),
        b'v' => verifier(data),
        b'i' => initial_response(data),
        _ => {}
    }
});
