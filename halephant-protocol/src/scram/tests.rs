//! Whole exchanges.

use super::*;
use std::num::NonZeroU32;

#[test]
fn own_client_and_server_agree() {
    let salt = b"0123456789abcdef";
    let iterations = NonZeroU32::new(17).unwrap();
    let verifier = Verifier::derive(b"pencil", salt, iterations);
    let server = Server::new(verifier.clone(), None);
    let client =
        Client::choose(server.mechanisms().iter().copied(), None, Nonce::generate().unwrap()).unwrap();
    let mechanism = client.mechanism();
    let (client, first) = client.client_first();
    let (server, server_first) =
        server.client_first(mechanism, first.as_bytes(), &Nonce::generate().unwrap()).unwrap();
    let challenge = client.server_first(server_first.as_bytes(), ITERATIONS_MAX).unwrap();
    let keys = SaltedPassword::derive(b"pencil", challenge.salt(), challenge.iterations()).client_keys();
    let (client, last) = challenge.respond(&keys);
    let authenticated = server.client_final(last.as_bytes()).unwrap();
    assert_eq!(authenticated.keys, keys);
    client.server_final(authenticated.server_final.as_bytes()).unwrap();
}
