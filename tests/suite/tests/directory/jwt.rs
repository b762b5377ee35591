//! `jwt`: tokens in place of passwords.

use crate::jwks::{Server, Signer, now, nowhere, set};
use crate::pki::{LIMIT, Pki, reload};
use crate::stage::{Ruled, outcome};
use crate::{config, failed, patient};
use halephant_harness::{Cluster, Login, wait_for};
use halephant_suite::stage::ROLE;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

const PGPASS: &str = "*:*:*:app:app-password";
const ISSUER: &str = "https://issuer.example/";
const AUDIENCE: &str = "databases";

pub fn claims() -> Value {
    json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": ROLE, "exp": now() + 300 })
}

fn with(changes: Value) -> Value {
    let mut claims = claims();
    let (Value::Object(all), Value::Object(changes)) = (&mut claims, changes) else { panic!("no objects") };
    all.extend(changes);
    all.retain(|_, value| !value.is_null());
    claims
}

pub fn rule(jwks: &str) -> String {
    format!("host all all all jwt jwks={jwks} issuer={ISSUER} audience={AUDIENCE}")
}

fn start(rules: &str) -> Ruled {
    let ruled = Ruled::with("host all all all scram-sha-256", Cluster::builder(), |config| {
        patient(config).pgpass(PGPASS)
    });
    follow(&ruled, rules);
    ruled
}

fn follow(ruled: &Ruled, rules: &str) {
    ruled.write("pg_hba.conf", &format!("{rules}\n"));
    let ident = ruled.path("pg_ident.conf");
    let mut config = config(ruled).pgpass(PGPASS);
    if ident.exists() {
        config = config.set("server.ident", ident.to_str().expect("it is UTF-8"));
    }
    assert!(reload(&ruled.stage, &config), "{}", ruled.stage.proxy.log_tail());
}

fn login(ruled: &Ruled, token: &str) -> Login {
    ruled.stage.transaction().password(token)
}

fn in_file(signers: &[&Signer]) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().expect("there is room");
    let path = directory.path().join("keys.json");
    std::fs::write(&path, set(signers)).expect("it is ours");
    let path = path.to_str().expect("it is UTF-8").to_owned();
    (directory, path)
}

#[test]
fn a_token_of_every_kind_of_key_is_a_password() {
    let signers = [
        Signer::new("a", Algorithm::ES256),
        Signer::new("b", Algorithm::EdDSA),
        Signer::new("c", Algorithm::RS256),
    ];
    let (_directory, path) = in_file(&signers.iter().collect::<Vec<_>>());
    let ruled = start(&rule(&path));
    for signer in &signers {
        let token = signer.token(&claims());
        for login in [ruled.stage.transaction(), ruled.stage.session()] {
            let told = outcome(&login.password(&token));
            assert_eq!(told, Ok(()), "{:?}: {}", signer.algorithm, ruled.stage.proxy.log_tail());
        }
        // A key need not be named.
        let unnamed = signer.token_with(Header::new(signer.algorithm), &claims());
        assert_eq!(outcome(&login(&ruled, &unnamed)), Ok(()), "{:?}", signer.algorithm);
        assert!(!ruled.stage.proxy.log().contains(&token));
    }
    let list = signers[0].token(&with(json!({ "aud": ["others", AUDIENCE] })));
    assert_eq!(outcome(&login(&ruled, &list)), Ok(()));
    let nobody = signers[0].token(&with(json!({ "sub": "nobody" })));
    assert_eq!(
        ruled.try_as("nobody", &nobody),
        Err(("28000".into(), "role \"nobody\" does not exist".into()))
    );
}

#[test]
fn everything_else_is_refused() {
    let signer = Signer::new("a", Algorithm::ES256);
    let stranger = Signer::new("a", Algorithm::ES256);
    let (_directory, path) = in_file(&[&signer]);
    let ruled = start(&rule(&path));
    let good = signer.token(&claims());
    let mut parts = good.split('.');
    let (head, body) = (parts.next().expect("a header"), parts.next().expect("claims"));
    let public = set(&[&signer]);
    let confused = encode(
        &Header { kid: Some("a".into()), ..Header::new(Algorithm::HS256) },
        &claims(),
        &EncodingKey::from_secret(public.as_bytes()),
    )
    .expect("it is signed");
    let critical =
        Header { kid: Some("a".into()), crit: Some(vec!["b64".into()]), ..Header::new(Algorithm::ES256) };
    let tokens = [
        ("no token", "secret".to_owned()),
        ("a stranger's", stranger.token(&claims())),
        ("without a signature", format!("{head}.{body}.")),
        ("that says it needs none", format!("eyJhbGciOiJub25lIn0.{body}.")),
        ("signed with the public key", confused),
        ("with a critical extension", signer.token_with(critical, &claims())),
        ("out of date", signer.token(&with(json!({ "exp": now() - 60 })))),
        ("without an end", signer.token(&with(json!({ "exp": null })))),
        ("not valid yet", signer.token(&with(json!({ "nbf": now() + 300 })))),
        ("for somebody else", signer.token(&with(json!({ "aud": "others" })))),
        ("for nobody", signer.token(&with(json!({ "aud": null })))),
        ("of another issuer", signer.token(&with(json!({ "iss": "https://other.example/" })))),
        ("of two issuers", signer.token(&with(json!({ "iss": [ISSUER, "https://other.example/"] })))),
        ("of no issuer", signer.token(&with(json!({ "iss": null })))),
        ("of another user", signer.token(&with(json!({ "sub": "other" })))),
        ("of no user", signer.token(&with(json!({ "sub": null })))),
        ("of a number", signer.token(&with(json!({ "sub": 1 })))),
    ];
    for (what, token) in &tokens {
        assert_eq!(outcome(&login(&ruled, token)), failed("JWT", ROLE), "a token {what}");
        assert!(!ruled.stage.proxy.log().contains(token.as_str()) || token == "secret", "a token {what}");
    }
    // Clocks may be apart.
    assert_eq!(outcome(&login(&ruled, &signer.token(&with(json!({ "exp": now() - 5 }))))), Ok(()));
    assert_eq!(outcome(&login(&ruled, &good)), Ok(()));
    assert_eq!(outcome(&login(&ruled, "")).expect_err("it is empty").0, "28P01");
}

#[test]
fn a_claim_leads_to_users_by_a_map() {
    let signer = Signer::new("a", Algorithm::EdDSA);
    let (_directory, path) = in_file(&[&signer]);
    let ruled = start("host all all all scram-sha-256");
    ruled.write("pg_ident.conf", "roles  database-writer  app\nroles  /^team-(.*)$  \\1\n");
    follow(&ruled, &format!("{} claim=realm.roles map=roles", rule(&path)));
    let told =
        |roles: Value| outcome(&login(&ruled, &signer.token(&with(json!({ "realm": { "roles": roles } })))));
    assert_eq!(told(json!(["reader", "database-writer"])), Ok(()), "{}", ruled.stage.proxy.log_tail());
    assert_eq!(told(json!("team-app")), Ok(()));
    for roles in [json!(["reader"]), json!([]), json!(["team-other"]), json!("app"), json!(7)] {
        assert_eq!(told(roles.clone()), failed("JWT", ROLE), "{roles}");
    }
}

#[test]
fn keys_come_by_https_and_change() {
    let pki = Pki::new();
    let server = Server::start(Some(&pki.server()));
    let [first, second, unknown] = ["a", "b", "c"].map(|id| Signer::new(id, Algorithm::ES256));
    server.answer("200 OK", set(&[&first]));
    let ruled = start(&format!("{} jwksca={}", rule(&server.url), pki.file("root.crt")));
    assert_eq!(server.asked(), 0, "nobody has logged in");
    let token = first.token(&claims());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(outcome(&login(&ruled, &token)), Ok(())));
        }
    });
    assert_eq!(server.asked(), 1, "one asks for all");
    for _ in 0..3 {
        assert_eq!(
            outcome(&login(&ruled, &first.token(&claims()))),
            Ok(()),
            "{}",
            ruled.stage.proxy.log_tail()
        );
    }
    assert_eq!(server.asked(), 1, "the keys are kept");
    server.answer("200 OK", set(&[&first, &second]));
    let token = second.token(&claims());
    wait_for("the new key to count", LIMIT, || Ok(outcome(&login(&ruled, &token)).is_ok().then_some(())))
        .expect("it is fetched");
    assert_eq!(server.asked(), 2);
    // Keys that nobody has do not make us ask all the time.
    for _ in 0..20 {
        assert_eq!(outcome(&login(&ruled, &unknown.token(&claims()))), failed("JWT", ROLE));
    }
    assert!(server.asked() <= 4, "{}", server.asked());
    assert_eq!(outcome(&login(&ruled, &first.token(&claims()))), Ok(()));
}

/// The log says why; the client learns nothing, and it is not counted against it.
#[test]
fn keys_that_cannot_be_had_let_nobody_in() {
    let pki = Pki::new();
    let signer = Signer::new("a", Algorithm::ES256);
    let token = signer.token(&claims());
    let ruled = start(&rule(&nowhere()));
    let proxy = &ruled.stage.proxy;
    for _ in 0..3 {
        assert_eq!(outcome(&login(&ruled, &token)), failed("JWT", ROLE));
    }
    proxy.wait_for_log("the keys of tokens cannot be fetched", 1, LIMIT).expect("it says so");
    proxy.wait_for_log("Connection refused", 1, LIMIT).expect("it says why");
    let secret = Server::start(Some(&pki.server()));
    secret.answer("200 OK", set(&[&signer]));
    let stranger = Pki::new();
    let refuse = |options: String, words: &str| {
        follow(&ruled, &options);
        assert_eq!(outcome(&login(&ruled, &token)), failed("JWT", ROLE), "{words}");
        proxy.wait_for_log(words, 1, LIMIT).unwrap_or_else(|error| panic!("{words}: {error:#}"));
    };
    refuse(format!("{} jwksca={}", rule(&secret.url), stranger.file("root.crt")), "invalid peer certificate");
    let plain = Server::start(None);
    for (status, body, words) in [
        ("404 Not Found", set(&[&signer]), "status 404"),
        ("302 Found\r\nLocation: http://127.0.0.1:1/", String::new(), "status 302"),
        ("200 OK", "<html>".to_owned(), "not a JSON Web Key Set"),
        ("200 OK", format!("{}{}", set(&[&signer]), " ".repeat(600_000)), "bytes are no key set"),
        ("200 OK", r#"{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"a"}]}"#.to_owned(), "no public key"),
    ] {
        plain.answer(status, body);
        refuse(rule(&plain.url), words);
    }
    plain.answer("200 OK", set(&[&signer]));
    follow(&ruled, &rule(&plain.url));
    assert_eq!(outcome(&login(&ruled, &token)), Ok(()), "by HTTP from this host: {}", proxy.log_tail());
}

#[test]
fn what_cannot_work_is_an_error_of_the_file() {
    let ruled = start("host all all all scram-sha-256");
    let stage = &ruled.stage;
    let none = ruled.path("none.json");
    std::fs::write(&none, r#"{"keys":[]}"#).expect("it is ours");
    for (jwks, words) in [
        ("http://issuer.example/keys", "http:// is for this host alone"),
        ("https://a:hunter2@issuer.example/keys", "it has a user name or a password in it"),
        ("/nowhere/keys.json", "cannot be read"),
        (none.to_str().expect("it is UTF-8"), "the set has no public key"),
    ] {
        ruled.write("pg_hba.conf", &rule(jwks));
        assert!(!reload(stage, &config(&ruled)), "{jwks}");
        stage.proxy.wait_for_log(words, 1, LIMIT).unwrap_or_else(|error| panic!("{words}: {error:#}"));
    }
    assert!(!stage.proxy.log().contains("hunter2"));
}

/// A server that takes the client's own token.
#[test]
fn the_token_is_passed_on_where_it_may_be() {
    let signer = Signer::new("a", Algorithm::EdDSA);
    let (_directory, path) = in_file(&[&signer]);
    let token = signer.token(&claims());
    let builder = Cluster::builder().hba("host app app all password");
    let ruled = Ruled::with(&rule(&path), builder, patient);
    let sql = format!("ALTER ROLE app PASSWORD '{token}'");
    ruled.stage.cluster.query("postgres", &sql).expect("it may be set");
    assert_eq!(outcome(&login(&ruled, &token)).expect_err("there is no password for the server").0, "28P01");
    let passing = config(&ruled).set("cluster.main.auth.password_passthrough", true);
    assert!(reload(&ruled.stage, &passing));
    assert_eq!(outcome(&login(&ruled, &token)), Ok(()), "{}", ruled.stage.proxy.log_tail());
}
