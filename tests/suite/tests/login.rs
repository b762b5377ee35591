//! Who gets in, who does not, and what they are told.

use halephant_harness::{Cluster, Login, psql, wait_for};
use halephant_suite::client::Refused;
use halephant_suite::{Client, Stage, encode, stage};
use std::sync::Barrier;
use std::time::Duration;

fn refusal(login: &Login) -> Refused {
    let error = Client::connect(login).expect_err("it is refused");
    error.downcast::<Refused>().expect("by an ErrorResponse")
}

fn as_user(login: &Login, user: &str) -> Login {
    Login { user: user.into(), ..login.clone() }
}

#[test]
fn the_right_password_lets_in_and_the_wrong_does_not() {
    let stage = Stage::new().expect("it starts");
    for login in [stage.transaction(), stage.session()] {
        let mut client = Client::connect(&login).expect("the password is right");
        assert_eq!(client.value("SELECT current_user").expect("it answers"), stage::ROLE);
        let error = refusal(&login.clone().password("wrong"));
        assert_eq!(error.sqlstate(), "28P01");
        assert_eq!(error.text(), "password authentication failed for user \"app\"");
        assert_eq!(error.0.field(b'S').as_deref(), Some("FATAL"));
        assert_eq!(refusal(&login.password("")).sqlstate(), "28P01");
    }
}

/// A user that does not exist is led through the same exchange as one with a wrong password.
#[test]
fn an_unknown_user_looks_like_a_wrong_password() {
    let builder = Cluster::builder().role("not_configured", "secret");
    let stage = Stage::with(builder, |config| config).expect("it starts");
    let known = refusal(&stage.transaction().password("wrong"));
    for user in ["nobody_by_this_name", "not_configured"] {
        let unknown = refusal(&as_user(&stage.transaction(), user));
        assert_eq!(unknown.sqlstate(), known.sqlstate(), "{user}");
        assert_eq!(unknown.text(), known.text().replace(stage::ROLE, user), "{user}");
    }
    // Nor do the messages before the end differ in kind or length.
    let steps = |user: &str| {
        let login = as_user(&stage.transaction().password("wrong"), user);
        let mut client = Client::open(&login).expect("it accepts");
        let parameters = [("user", user), ("database", stage::DATABASE)];
        client.send(&encode::startup(3, 0, &parameters)).expect("it reads");
        client.authenticate("wrong").expect_err("it is refused");
        client.greeting.iter().map(|message| (message.tag, message.body.len())).collect::<Vec<_>>()
    };
    let (known, unknown) = (steps("app"), steps("ape"));
    assert_eq!(known, unknown);
    // And a user's made-up salt is the same each time, as a true one is.
    let salt = |user: &str| {
        let login = as_user(&stage.transaction().password("wrong"), user);
        let mut client = Client::open(&login).expect("it accepts");
        client
            .send(&encode::startup(3, 0, &[("user", user), ("database", stage::DATABASE)]))
            .expect("it reads");
        client.authenticate("wrong").expect_err("it is refused");
        let first = client.greeting.iter().find(|message| message.body.starts_with(&[0, 0, 0, 11]));
        let first = first.expect("SASLContinue comes").body.clone();
        String::from_utf8_lossy(&first).split(',').nth(1).map(str::to_owned)
    };
    assert_eq!(salt("ape"), salt("ape"));
    assert_ne!(salt("ape"), salt("apf"));
    assert_eq!(salt("app"), salt("app"));
}

#[test]
fn an_unknown_database_is_named() {
    let stage = Stage::new().expect("it starts");
    let error = refusal(&stage.transaction().database("nowhere"));
    assert_eq!(error.sqlstate(), "3D000");
    assert!(error.text().contains("nowhere"), "{}", error.text());
}

/// The pool's key is what clients ask for; the server's database has another name.
#[test]
fn psql_connects_over_both_address_families() {
    let stage = Stage::new().expect("it starts");
    for host in ["127.0.0.1", "::1", "localhost"] {
        let login = Login { host: host.into(), ..stage.session() };
        let row = psql::query(stage.cluster.binaries(), &login, "SELECT current_user, current_database()");
        assert_eq!(row.expect("it answers"), "app|app", "{host}");
    }
}

#[test]
fn encryption_that_is_not_there_is_declined() {
    let stage = Stage::new().expect("it starts");
    let mut client = Client::open(&stage.transaction()).expect("it accepts");
    for request in [encode::ssl_request(), encode::gssenc_request()] {
        client.send(&request).expect("it reads");
        let mut answer = [0];
        std::io::Read::read_exact(&mut client.socket().expect("it is open"), &mut answer)
            .expect("it answers");
        assert_eq!(answer, *b"N");
    }
    let parameters = [("user", stage::ROLE), ("database", stage::DATABASE)];
    client.send(&encode::startup(3, 0, &parameters)).expect("it reads");
    client.authenticate(stage::PASSWORD).expect("it goes on in the clear");
    assert_eq!(client.value("SELECT 1").expect("it answers"), "1");
}

#[test]
fn newer_protocols_and_options_are_negotiated() {
    let stage = Stage::new().expect("it starts");
    let mut newest = Client::connect_with(&stage.transaction(), 2, &[]).expect("3.2 is a protocol");
    assert_eq!(newest.value("SELECT 1").expect("it answers"), "1");
    assert!((4..=256).contains(&newest.secret_key.len()), "{:?}", newest.secret_key);
    for (minor, option) in [(9999, None), (0, Some(("_pq_.unknown", "1")))] {
        let client = Client::connect_with(&stage.transaction(), minor, option.as_slice());
        let mut client = client.expect("what it does not know it says, and goes on");
        assert!(client.greeting.iter().any(|message| message.tag == b'v'), "{:?}", client.greeting);
        assert_eq!(client.value("SELECT 1").expect("it answers"), "1");
    }
    let mut old = Client::open(&stage.transaction()).expect("it accepts");
    old.send(&encode::startup(2, 0, &[("user", stage::ROLE)])).expect("it reads");
    let error = old.authenticate(stage::PASSWORD).expect_err("2.0 is long gone").downcast::<Refused>();
    assert_eq!(error.expect("an ErrorResponse").sqlstate(), "0A000");
}

#[test]
fn garbage_is_refused_and_the_connection_closed() {
    let stage = Stage::new().expect("it starts");
    let oversized = [&1_000_000_u32.to_be_bytes()[..], &[0, 3, 0, 0]].concat();
    let starts: [(&str, Vec<u8>); 6] = [
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("length 0", vec![0, 0, 0, 0]),
        ("negative length", vec![0xff, 0xff, 0xff, 0xff, 0, 3, 0, 0]),
        ("10 MB of parameters", oversized),
        ("no terminator", encode::untagged(b"\0\x03\0\0user\0app")),
        ("no user", encode::startup(3, 0, &[("database", stage::DATABASE)])),
    ];
    for (name, bytes) in starts {
        let mut client = Client::open(&stage.transaction()).expect("it accepts");
        client.send(&bytes).expect("it reads");
        let rest = client.receive_rest().unwrap_or_else(|error| panic!("{name}: {error:#}"));
        assert!(rest.len() <= 1 && rest.iter().all(|message| message.tag == b'E'), "{name}: {rest:?}");
    }
    stage.client().expect("others are not disturbed");
}

#[test]
fn a_message_of_an_unknown_type_ends_the_session() {
    let stage = Stage::new().expect("it starts");
    let mut client = stage.client().expect("it may log in");
    client.send(&encode::message(b'!', b"what")).expect("it reads");
    let rest = client.receive_rest().expect("it ends");
    let error = rest.iter().find(|message| message.tag == b'E').expect("with an ErrorResponse");
    assert_eq!(error.sqlstate().as_deref(), Some("08P01"));
}

#[test]
fn an_expired_password_is_refused_where_the_query_tells() {
    let builder = Cluster::builder().role_with("expired", "secret", "VALID UNTIL '2001-01-01'").role_with(
        "valid",
        "secret",
        "VALID UNTIL '2101-01-01'",
    );
    let query = "SELECT usename, passwd, valuntil FROM pg_shadow WHERE usename = $1";
    let stage = Stage::with(builder, |config| {
        config.set("cluster.main.auth.query", query).pool("postgres", "transaction", 5, &["expired", "valid"])
    });
    let stage = stage.expect("it starts");
    let login = stage.proxy.login(stage.cluster.login("valid", "postgres"));
    let mut client = Client::connect(&login).expect("its time has not come");
    assert_eq!(client.value("SELECT current_user").expect("it answers"), "valid");
    let error = refusal(&stage.proxy.login(stage.cluster.login("expired", "postgres")));
    assert_eq!(error.sqlstate(), "28P01");
    assert_eq!(error.text(), "password authentication failed for user \"expired\"");
}

#[test]
fn a_changed_password_is_noticed_when_the_cache_has_expired() {
    let stage = Stage::with(Cluster::builder(), |config| config.set("cluster.main.auth.cache_ttl", "1s"));
    let stage = stage.expect("it starts");
    stage.client().expect("the old one is right");
    stage.cluster.query("postgres", "ALTER ROLE app PASSWORD 'new'").expect("the superuser may");
    let login = stage.transaction().password("new");
    let connect = || Ok(Client::connect(&login).ok());
    let mut client =
        wait_for("the new password to be right", Duration::from_secs(20), connect).expect("it is");
    assert_eq!(refusal(&stage.transaction()).sqlstate(), "28P01");
    stage.end_server_connections().expect("the superuser may");
    // A new server connection needs the new key.
    assert_eq!(client.value("SELECT 1").expect("it was learned"), "1");
}

#[test]
fn an_alias_is_another_role() {
    let stage = Stage::with(Cluster::builder(), |config| {
        config.set("cluster.main.pool.app.user.front.alias", stage::ROLE)
    });
    let stage = stage.expect("it starts");
    let mut client =
        Client::connect(&as_user(&stage.transaction(), "front")).expect("with the role's password");
    assert_eq!(client.value("SELECT current_user").expect("it answers"), stage::ROLE);
    assert_eq!(refusal(&as_user(&stage.transaction().password("wrong"), "front")).sqlstate(), "28P01");
}

/// Upstream, halephant answers what the server asks for, from its password file where there is a line.
#[test]
fn upstream_takes_cleartext_and_md5() {
    let builder = Cluster::builder()
        .hba("host app app 127.0.0.1/32 password")
        .hba("host postgres halephant 127.0.0.1/32 md5");
    let cluster = builder.role(stage::ROLE, stage::PASSWORD).database(stage::DATABASE, stage::ROLE).start();
    let cluster = cluster.expect("it starts");
    let statements =
        ["SET password_encryption = 'md5'", "ALTER ROLE halephant PASSWORD 'halephant-password'"];
    cluster.primary().script("postgres", &statements.map(str::to_owned)).expect("the superuser may");
    let verifier = cluster.query("postgres", "SELECT passwd FROM pg_shadow WHERE usename = 'halephant'");
    assert!(verifier.expect("the superuser may").starts_with("md5"));

    let line = format!("127.0.0.1:{}:app:app:{}", cluster.primary().port(), stage::PASSWORD);
    let proxy = halephant_harness::Proxy::start(&Stage::config(&cluster).pgpass(&line)).expect("it starts");
    let login = proxy.login(cluster.login(stage::ROLE, stage::DATABASE));
    let mut client = Client::connect(&login).expect("it may log in");
    assert_eq!(client.value("SELECT current_user").expect("it answers"), stage::ROLE);
}

#[test]
fn a_thousand_connect_at_once() {
    const COUNT: usize = 1000;
    let stage = Stage::with(Cluster::builder(), |config| config.set("server.checkout_timeout", "2m"));
    let stage = stage.expect("it starts");
    let login = stage.transaction();
    let start = Barrier::new(COUNT);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let connect = |number: usize| {
            start.wait();
            let mut client = Client::connect(&login)?;
            client.set_limit(Duration::from_secs(120));
            let value = client.value(&format!("SELECT {number}"))?;
            anyhow::ensure!(value == number.to_string(), "{number} got {value}");
            Ok(())
        };
        let spawn = |number| {
            let builder = std::thread::Builder::new().stack_size(256 << 10);
            builder.spawn_scoped(scope, move || connect(number)).expect("a thread starts")
        };
        let threads: Vec<_> = (0..COUNT).map(spawn).collect();
        let outcomes = threads.into_iter().map(|thread| thread.join().expect("no thread panics"));
        outcomes.filter_map(|outcome| outcome.err().map(|error| format!("{error:#}"))).collect()
    });
    assert!(failures.is_empty(), "{} of {COUNT} failed, first {:?}", failures.len(), failures.first());
    assert!(stage.server_connections().expect("the server answers") <= 10);
}
