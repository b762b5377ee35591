//! SCRAM verifiers: PostgreSQL's, postgres-protocol's, and bad ones.

use halephant_protocol::scram::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::num::NonZeroU32;

const FEW: NonZeroU32 = NonZeroU32::new(5).unwrap();

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// postgres-protocol makes verifiers as PostgreSQL's clients do.
    #[test]
    fn their_verifiers(password in "[ -~]{1,20}") {
        let text = postgres_protocol::password::scram_sha_256(password.as_bytes());
        let verifier = Verifier::parse(&text).unwrap();
        prop_assert_eq!(&*verifier.encode(), &text);
        prop_assert_eq!(Verifier::derive(password.as_bytes(), verifier.salt(), verifier.iterations()), verifier);
    }

    #[test]
    fn verifiers_come_out_as_they_went_in(
        iterations in 1..=i32::MAX as u32,
        salt in vec(any::<u8>(), 1..40),
        (stored_key, server_key) in any::<([u8; KEY_BYTES], [u8; KEY_BYTES])>(),
    ) {
        let iterations = NonZeroU32::new(iterations).unwrap();
        let verifier = Verifier::from_keys(iterations, salt, stored_key, server_key);
        prop_assert_eq!(Verifier::parse(&verifier.encode()), Ok(verifier));
    }
}

/// Made by PostgreSQL 15 with `CREATE ROLE ... PASSWORD`, for passwords that SASLprep changes, leaves alone or
/// refuses, so that PostgreSQL uses them as they are.
#[test]
fn postgres_verifiers() {
    let made = include_str!("verifier/postgres.txt");
    let mut lines = 0;
    for line in made.lines().filter(|line| !line.starts_with('#')) {
        let (password, text) = line.split_once(' ').unwrap();
        let password: String = password
            .split('+')
            .map(|code| char::from_u32(u32::from_str_radix(code, 16).unwrap()).unwrap())
            .collect();
        let verifier = Verifier::parse(text).unwrap();
        assert_eq!(&*verifier.encode(), text);
        let derived = Verifier::derive(password.as_bytes(), verifier.salt(), verifier.iterations());
        assert_eq!(derived, verifier, "{password:?}");
        lines += 1;
    }
    assert!(lines > 10);
}

#[test]
fn malformed_verifiers() {
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let good = format!("SCRAM-SHA-256$4096:c2FsdA==${key}:{key}");
    assert!(Verifier::parse(&good).is_ok());
    for bad in ["", "md5d41d8cd98f00b204e9800998ecf8427e", "secret", "SCRAM-SHA-1$4096", "SCRAM-SHA-256"] {
        assert_eq!(Verifier::parse(bad), Err(VerifierError::Mechanism), "{bad}");
    }
    for (from, to) in [
        ("4096", "0"),
        ("4096", "-1"),
        ("4096", "2147483648"),
        ("4096", ""),
        ("4096", "4096 "),
        ("c2FsdA==", "c2Fsd"),
        ("c2FsdA==", ""),
        (":AAAA", ":BAAAA"),
        (":AAAA", "AAAA"),
        ("$AAAA", "$"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good);
        assert_eq!(Verifier::parse(&bad), Err(VerifierError::Malformed), "{bad}");
    }
    assert_eq!(Verifier::parse(&format!("{good}x")), Err(VerifierError::Malformed));
}

/// Debug output goes to logs.
#[test]
fn debug_shows_no_key() {
    let verifier = Verifier::derive(b"secret", b"salt", FEW);
    let keys = SaltedPassword::derive(b"secret", b"salt", FEW).client_keys();
    assert_eq!(format!("{verifier:?}"), "Verifier(SCRAM-SHA-256$5:***)");
    assert_eq!(format!("{keys:?}"), "ClientKeys(***)");
    assert_eq!(format!("{:?}", SaltedPassword::derive(b"secret", b"salt", FEW)), "SaltedPassword(***)");
}
