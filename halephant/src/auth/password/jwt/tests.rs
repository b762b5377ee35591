//! Claims and key sets; signatures are checked by the suite, with keys that it makes.

use super::keys::KeysError;
use super::*;
use serde_json::json;

fn names(claims: Value, claim: &str) -> Option<Vec<String>> {
    let Value::Object(claims) = claims else { panic!("no object") };
    identities(&claims, claim)
}

#[test]
fn a_claim_is_a_name_or_a_list_of_them() {
    let claims = json!({ "sub": "ann", "roles": ["a", "b"], "n": 1, "mixed": ["a", 1], "x": { "roles": ["c"] }, "x.y": "d" });
    assert_eq!(names(claims.clone(), "sub"), Some(vec!["ann".into()]));
    assert_eq!(names(claims.clone(), "roles"), Some(vec!["a".into(), "b".into()]));
    assert_eq!(names(claims.clone(), "x.roles"), Some(vec!["c".into()]));
    assert_eq!(names(claims.clone(), "x.y"), Some(vec!["d".into()]));
    for claim in ["n", "mixed", "x", "missing", "x.missing", "sub.x", "", "."] {
        assert_eq!(names(claims.clone(), claim), None, "{claim}");
    }
}

#[test]
fn a_set_without_public_keys_is_none() {
    let parse = |json: &str| Keys::parse(json.as_bytes());
    assert!(matches!(parse("{"), Err(KeysError::Json(_))));
    assert!(matches!(parse("[]"), Err(KeysError::NoList)));
    assert!(matches!(parse(r#"{"keys":[]}"#), Err(KeysError::Nothing)));
    // A shared secret, a key for encryption, a kind that nobody knows.
    let secret = r#"{"kty":"oct","k":"c2VjcmV0","alg":"HS256"}"#;
    let ed = r#""kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo""#;
    let other =
        format!(r#"{{"keys":[{secret},{{{ed},"use":"enc"}},{{"kty":"XYZ"}},{{{ed},"alg":"RS256"}}]}}"#);
    assert!(matches!(parse(&other), Err(KeysError::Nothing)));
    let keys = parse(&format!(r#"{{"keys":[{secret},{{{ed},"kid":"a"}}]}}"#)).expect("it has one key");
    let fitting = |algorithm, kid: Option<&str>| {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
        keys.fitting(&header).count()
    };
    assert_eq!(fitting(Algorithm::EdDSA, Some("a")), 1);
    assert_eq!(fitting(Algorithm::EdDSA, None), 1);
    assert_eq!(fitting(Algorithm::EdDSA, Some("b")), 0);
    assert_eq!(fitting(Algorithm::HS256, None), 0);
    assert_eq!(fitting(Algorithm::RS256, Some("a")), 0);
    let large = " ".repeat(keys::JWKS_BYTES_MAX + 1);
    assert!(matches!(parse(&large), Err(KeysError::TooLarge)));
}
