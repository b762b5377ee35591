//! Whole SCRAM exchanges with other people's clients, servers and verifiers.

use ::scram as their_scram;
use halephant_protocol::scram::*;
use postgres_protocol::authentication::sasl;
use proptest::collection::vec;
use proptest::prelude::*;
use std::num::NonZeroU32;
use their_scram::server::{AuthenticationProvider, AuthenticationStatus, PasswordInfo};

const FEW: NonZeroU32 = NonZeroU32::new(5).unwrap();

fn nonce() -> Nonce {
    Nonce::generate().unwrap()
}

fn keys(password: &str, challenge: &Challenge) -> ClientKeys {
    SaltedPassword::derive(password.as_bytes(), challenge.salt(), challenge.iterations()).client_keys()
}

/// RFC 7677, section 3.
#[test]
fn rfc_7677() {
    let iterations = NonZeroU32::new(4096).unwrap();
    let salt = b"\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81";
    let server = Server::new(Verifier::derive(b"pencil", salt, iterations), None);
    let nonce = Nonce::new("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0").unwrap();
    let first = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    let (server, server_first) = server.client_first(SCRAM_SHA_256, first, &nonce).unwrap();
    assert_eq!(
        server_first,
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let last = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let authenticated = server.client_final(last).unwrap();
    assert_eq!(authenticated.server_final, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    assert_eq!(authenticated.keys, SaltedPassword::derive(b"pencil", salt, iterations).client_keys());
}

/// A client of postgres-protocol, with each kind of channel binding.
fn their_client_logs_in(
    password: &str,
    binding: sasl::ChannelBinding,
    server: Server,
) -> Result<(), ScramError> {
    let mechanism = server.mechanisms()[0];
    let mut client = sasl::ScramSha256::new(password.as_bytes(), binding);
    let (server, first) = server.client_first(mechanism, client.message(), &nonce())?;
    client.update(first.as_bytes()).unwrap();
    let authenticated = server.client_final(client.message())?;
    client.finish(authenticated.server_final.as_bytes()).unwrap();
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// With passwords that it prepares as PostgreSQL does; it does not for all, see `saslprep`.
    #[test]
    fn postgres_protocols_client(password in "[ -~¡-¬®-ſ]{1,20}", salt in vec(any::<u8>(), 1..30), other: bool) {
        let typed = if other { format!("{password}x") } else { password.clone() };
        let verifier = Verifier::derive(password.as_bytes(), &salt, FEW);
        let end_point = vec![7; 32];
        for (binding, end_point) in [
            (sasl::ChannelBinding::unsupported(), None),
            (sasl::ChannelBinding::unrequested(), None),
            (sasl::ChannelBinding::tls_server_end_point(end_point.clone()), Some(end_point)),
        ] {
            let outcome = their_client_logs_in(&typed, binding, Server::new(verifier.clone(), end_point));
            prop_assert_eq!(outcome, if other { Err(ScramError::Proof) } else { Ok(()) });
        }
    }

    #[test]
    fn crate_scrams_client(password in "[ -~]{1,20}", other: bool) {
        let typed = if other { format!("{password}x") } else { password.clone() };
        let server = Server::new(Verifier::derive(password.as_bytes(), b"salt", FEW), None);
        let client = their_scram::ScramClient::new("alice", &typed, None);
        let (client, first) = client.client_first();
        let (server, server_first) = server.client_first(SCRAM_SHA_256, first.as_bytes(), &nonce()).unwrap();
        let (client, last) = client.handle_server_first(&server_first).unwrap().client_final();
        match server.client_final(last.as_bytes()) {
            Ok(authenticated) => {
                prop_assert!(!other);
                prop_assert!(client.handle_server_final(&authenticated.server_final).is_ok());
            }
            Err(error) => prop_assert!(other && error == ScramError::Proof),
        }
    }

    #[test]
    fn crate_scrams_server(password in "[ -~]{1,20}", other: bool) {
        let typed = if other { format!("{password}x") } else { password.clone() };
        let server = their_scram::ScramServer::new(OneUser(password));
        let (client, first) = Client::new(ClientBinding::Unsupported, nonce()).client_first();
        let (server, server_first) = server.handle_client_first(&first).unwrap().server_first();
        let challenge = client.server_first(server_first.as_bytes(), 10).unwrap();
        prop_assert_eq!((challenge.salt(), challenge.iterations()), (&b"salt"[..], FEW));
        let keys = keys(&typed, &challenge);
        let (client, last) = challenge.respond(&keys);
        let (status, server_final) = server.handle_client_final(&last).unwrap().server_final();
        prop_assert_eq!(status == AuthenticationStatus::Authenticated, !other);
        let outcome = client.server_final(server_final.as_bytes());
        prop_assert_eq!(outcome, if other { Err(ScramError::Rejected) } else { Ok(()) });
    }

    /// Whatever a peer sends in whichever state: an error, never a panic.
    #[test]
    fn hostile_peers(at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>()) {
        let damage = |message: &str| {
            let mut bytes = message.as_bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let cut = cut.index(bytes.len());
            [bytes[..cut].to_vec(), bytes]
        };
        let exchange = Exchange::new();
        let unchanged = |bytes: &[u8], message: &str| bytes == message.as_bytes();
        for bytes in damage(&exchange.client_first) {
            let _ = Exchange::server().client_first(SCRAM_SHA_256, &bytes, &nonce());
        }
        for bytes in damage(&exchange.server_first) {
            let _ = exchange.client().server_first(&bytes, ITERATIONS_MAX);
        }
        for bytes in damage(&exchange.client_final) {
            let accepted = exchange.server_at_final().client_final(&bytes).is_ok();
            prop_assert_eq!(accepted, unchanged(&bytes, &exchange.client_final));
        }
        for bytes in damage(&exchange.server_final) {
            let accepted = exchange.client_at_final().server_final(&bytes).is_ok();
            prop_assert_eq!(accepted, unchanged(&bytes, &exchange.server_final));
        }
    }

    #[test]
    fn arbitrary_messages(bytes in vec(any::<u8>(), 0..60)) {
        let exchange = Exchange::new();
        prop_assert!(Exchange::server().client_first(SCRAM_SHA_256, &bytes, &nonce()).is_err());
        prop_assert!(exchange.client().server_first(&bytes, ITERATIONS_MAX).is_err());
        prop_assert!(exchange.server_at_final().client_final(&bytes).is_err());
        prop_assert!(exchange.client_at_final().server_final(&bytes).is_err());
        prop_assert!(Verifier::parse(&String::from_utf8_lossy(&bytes)).is_err());
    }
}

struct OneUser(String);

impl AuthenticationProvider for OneUser {
    fn get_password_for(&self, _: &str) -> Option<PasswordInfo> {
        let hash = their_scram::hash_password(&self.0, FEW, b"salt").to_vec();
        Some(PasswordInfo::new(hash, FEW.get() as u16, b"salt".to_vec()))
    }
}

/// A good exchange with fixed nonces, which can be taken up at any of its states.
struct Exchange {
    client_first: String,
    server_first: String,
    client_final: String,
    server_final: String,
}

impl Exchange {
    fn new() -> Self {
        let (client, client_first) = Self::fresh_client().client_first();
        let (server, server_first) = Self::server()
            .client_first(SCRAM_SHA_256, client_first.as_bytes(), &Self::nonce("there"))
            .unwrap();
        let challenge = client.server_first(server_first.as_bytes(), ITERATIONS_MAX).unwrap();
        let keys = keys("secret", &challenge);
        let (_, client_final) = challenge.respond(&keys);
        let server_final = server.client_final(client_final.as_bytes()).unwrap().server_final;
        Self { client_first, server_first, client_final, server_final }
    }

    fn nonce(text: &str) -> Nonce {
        Nonce::new(text).unwrap()
    }

    fn fresh_client() -> Client {
        Client::new(ClientBinding::Unsupported, Self::nonce("here"))
    }

    fn server() -> Server {
        Server::new(Verifier::derive(b"secret", b"salt", FEW), None)
    }

    fn client(&self) -> AwaitServerFirst {
        Self::fresh_client().client_first().0
    }

    fn server_at_final(&self) -> AwaitClientFinal {
        let first = self.client_first.as_bytes();
        Self::server().client_first(SCRAM_SHA_256, first, &Self::nonce("there")).unwrap().0
    }

    fn client_at_final(&self) -> AwaitServerFinal {
        let challenge = self.client().server_first(self.server_first.as_bytes(), ITERATIONS_MAX).unwrap();
        let keys = keys("secret", &challenge);
        challenge.respond(&keys).0
    }
}

/// What a pooler is for: the keys that a client's login leaves behind log in upstream, where the verifier is the
/// same, and do no longer, once the password has been changed.
#[test]
fn learned_keys_log_in_upstream() {
    let exchange = Exchange::new();
    let learned = exchange.server_at_final().client_final(exchange.client_final.as_bytes()).unwrap().keys;
    let log_in = |verifier: Verifier| {
        let (client, first) = Client::new(ClientBinding::Unsupported, nonce()).client_first();
        let (server, server_first) =
            Server::new(verifier, None).client_first(SCRAM_SHA_256, first.as_bytes(), &nonce()).unwrap();
        let challenge = client.server_first(server_first.as_bytes(), ITERATIONS_MAX).unwrap();
        let (client, last) = challenge.respond(&learned);
        let authenticated = server.client_final(last.as_bytes())?;
        client.server_final(authenticated.server_final.as_bytes())
    };
    let same = Verifier::derive(b"secret", b"salt", FEW);
    let resalted = Verifier::derive(b"secret", b"pepper", FEW);
    assert!(learned.fit(&same) && !learned.fit(&resalted));
    assert_eq!(log_in(same), Ok(()));
    assert_eq!(log_in(resalted), Err(ScramError::Proof));
}

#[test]
fn channel_binding_is_checked() {
    let verifier = || Verifier::derive(b"secret", b"salt", FEW);
    let first = |end_point: Option<&[u8]>, mechanism: &str, message: &str| {
        let server = Server::new(verifier(), end_point.map(<[u8]>::to_vec));
        server.client_first(mechanism, message.as_bytes(), &nonce()).map(|_| ()).unwrap_err()
    };
    let tls = Some(&b"certificate"[..]);
    let plus = SCRAM_SHA_256_PLUS;
    assert_eq!(first(tls, SCRAM_SHA_256, "y,,n=,r=x"), ScramError::BindingDowngrade);
    assert_eq!(first(tls, SCRAM_SHA_256, "p=tls-server-end-point,,n=,r=x"), ScramError::BindingUnexpected);
    assert_eq!(first(tls, plus, "n,,n=,r=x"), ScramError::BindingMissing);
    assert_eq!(first(tls, plus, "y,,n=,r=x"), ScramError::BindingMissing);
    assert_eq!(first(tls, plus, "p=tls-unique,,n=,r=x"), ScramError::BindingType);
    assert_eq!(first(None, plus, "p=tls-server-end-point,,n=,r=x"), ScramError::Mechanism);
    assert_eq!(first(None, "PLAIN", "n,,n=,r=x"), ScramError::Mechanism);

    // A man in the middle has a certificate of his own.
    let login = |seen: &[u8]| {
        let server = Server::new(verifier(), Some(b"certificate".to_vec()));
        let client =
            Client::choose(server.mechanisms().iter().copied(), Some(seen.to_vec()), nonce()).unwrap();
        assert_eq!(client.mechanism(), plus);
        let (client, first) = client.client_first();
        let (server, first) = server.client_first(plus, first.as_bytes(), &nonce()).unwrap();
        let challenge = client.server_first(first.as_bytes(), ITERATIONS_MAX).unwrap();
        let keys = keys("secret", &challenge);
        let (client, last) = challenge.respond(&keys);
        let authenticated = server.client_final(last.as_bytes())?;
        client.server_final(authenticated.server_final.as_bytes())
    };
    assert_eq!(login(b"certificate"), Ok(()));
    assert_eq!(login(b"another"), Err(ScramError::Binding));
}

#[test]
fn a_client_picks_the_strongest_mechanism() {
    let choose = |offered: &[&str], end_point: Option<Vec<u8>>| {
        let client = Client::choose(offered.iter().copied(), end_point, nonce())?;
        let mechanism = client.mechanism();
        Some((mechanism, client.client_first().1.chars().next()?))
    };
    let both = [SCRAM_SHA_256, SCRAM_SHA_256_PLUS];
    assert_eq!(choose(&both, Some(vec![1])), Some((SCRAM_SHA_256_PLUS, 'p')));
    assert_eq!(choose(&both, None), Some((SCRAM_SHA_256, 'n')));
    assert_eq!(choose(&[SCRAM_SHA_256], Some(vec![1])), Some((SCRAM_SHA_256, 'y')));
    assert_eq!(choose(&[SCRAM_SHA_256_PLUS], None), None);
    assert_eq!(choose(&["OAUTHBEARER"], Some(vec![1])), None);
}

#[test]
fn hostile_servers() {
    let answer = |message: &str| {
        let (client, _) = Client::new(ClientBinding::Unsupported, Nonce::new("here").unwrap()).client_first();
        client.server_first(message.as_bytes(), 10_000).map(|_| ())
    };
    let first = |message: &str| answer(message).unwrap_err();
    let accepts = |message: &str| answer(message).is_ok();
    assert_eq!(first("r=elsewhere,s=c2FsdA==,i=4096"), ScramError::Nonce);
    assert_eq!(first("r=here,s=c2FsdA==,i=4096"), ScramError::Nonce);
    assert_eq!(first("r=herethere,s=c2FsdA==,i=0"), ScramError::Malformed);
    assert_eq!(first("r=herethere,s=c2FsdA==,i=-1"), ScramError::Malformed);
    assert_eq!(first("r=herethere,s=c2FsdA==,i=99999999999"), ScramError::Malformed);
    assert!(accepts("r=herethere,s=c2FsdA==,i=10000"));
    let too_many = ScramError::Iterations { iterations: 10_001, iterations_max: 10_000 };
    assert_eq!(first("r=herethere,s=c2FsdA==,i=10001"), too_many);
    assert_eq!(first("r=herethere,s=c2Fsd,i=4096"), ScramError::Malformed);
    assert_eq!(first("m=x,r=herethere,s=c2FsdA==,i=4096"), ScramError::Extension);
    assert_eq!(first("e=other-error"), ScramError::Malformed);
    assert_eq!(
        first(&format!("r=here{},s=c2FsdA==,i=1", "x".repeat(1020))),
        ScramError::TooLong { bytes: 1041 }
    );

    let exchange = Exchange::new();
    let last = |message: &str| exchange.client_at_final().server_final(message.as_bytes()).unwrap_err();
    let forged = "v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert_eq!(last(forged), ScramError::ServerSignature);
    assert_eq!(last("e=invalid-proof"), ScramError::Rejected);
}

#[test]
fn hostile_clients() {
    let first = |message: &str| {
        Exchange::server().client_first(SCRAM_SHA_256, message.as_bytes(), &nonce()).map(|_| ()).unwrap_err()
    };
    assert_eq!(first(""), ScramError::Malformed);
    assert_eq!(first("n,,"), ScramError::Malformed);
    assert_eq!(first("n,a=alice,n=,r=x"), ScramError::AuthorizationIdentity);
    assert_eq!(first("n,alice,n=,r=x"), ScramError::Malformed);
    assert_eq!(first("n,,m=x,n=,r=x"), ScramError::Extension);
    assert_eq!(first("n,,n=,r="), ScramError::Malformed);
    assert_eq!(first("n,,n=,r=a b"), ScramError::Malformed);
    assert_eq!(first("x,,n=,r=x"), ScramError::Malformed);
    assert_eq!(first("n,,n=,r=x,"), ScramError::Malformed);
    assert_eq!(first("n,,n=\0,r=x"), ScramError::Malformed);
    let longest = format!("n,,n=,r={}", "x".repeat(1016));
    assert!(Exchange::server().client_first(SCRAM_SHA_256, longest.as_bytes(), &nonce()).is_ok());
    assert_eq!(first(&format!("{longest}x")), ScramError::TooLong { bytes: 1025 });

    let exchange = Exchange::new();
    let last = |message: &str| exchange.server_at_final().client_final(message.as_bytes()).unwrap_err();
    let proof = "p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert_eq!(last(&format!("c=biws,r=herethere,{proof}")), ScramError::Proof);
    assert_eq!(last(&format!("c=biws,r=here,{proof}")), ScramError::Nonce);
    assert_eq!(last(&format!("c=eSws,r=herethere,{proof}")), ScramError::Binding);
    assert_eq!(last("c=biws,r=herethere,p=AAAA"), ScramError::Malformed);
    assert_eq!(last("c=biws,r=herethere"), ScramError::Malformed);
    assert_eq!(last(&format!("{},x=y", exchange.client_final)), ScramError::Malformed);
}

/// An unknown user is asked what a known one is, every time the same, and is refused at the same point.
#[test]
fn unknown_users_cannot_be_told_apart() {
    let iterations = NonZeroU32::new(4096).unwrap();
    let mock = Verifier::mock(&[1; KEY_BYTES], "nobody", iterations);
    assert_eq!(mock, Verifier::mock(&[1; KEY_BYTES], "nobody", iterations));
    assert_eq!((mock.salt().len(), mock.iterations()), (MOCK_SALT_BYTES, iterations));
    assert_ne!(mock.salt(), Verifier::mock(&[1; KEY_BYTES], "nobody2", iterations).salt());
    assert_ne!(mock.salt(), Verifier::mock(&[2; KEY_BYTES], "nobody", iterations).salt());
    let server = Server::new(mock, None);
    let outcome = their_client_logs_in("secret", sasl::ChannelBinding::unsupported(), server);
    assert_eq!(outcome, Err(ScramError::Proof));
}
