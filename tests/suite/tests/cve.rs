//! What other poolers were caught at, one test per CVE record and named for it. A remark says what the record says of it, and
//! where that is little, what is tried instead. Each test ends with a client that is served as if nothing had been.

use halephant_harness::certificates::{Authority, Subject};
use halephant_harness::port::Port;
use halephant_harness::{Cluster, Login, ProxyConfig, psql, wait_for};
use halephant_suite::fake_server::{Connection, FakeServer};
use halephant_suite::http::get;
use halephant_suite::{Client, Message, Refused, Stage, encode, stage};
use std::io::{self, Read};
use std::time::Duration;
use toml::Table;

const LIMIT: Duration = Duration::from_secs(30);
/// Connections to a hostile server that are enough to show what becomes of them.
const CONNECTIONS: usize = 5;

#[track_caller]
fn assert_well(stage: &Stage) {
    assert!(!stage.proxy.log().contains("panicked"), "{}", stage.proxy.log_tail());
    let mut client = stage.client().expect("it logs in");
    assert_eq!(client.value("SELECT 'well'").expect("it answers"), "well");
}

/// Where each of many attempts is to be looked at as if it were the first.
fn stage_unthrottled() -> anyhow::Result<Stage> {
    Stage::with(Cluster::builder(), unthrottled)
}

fn unthrottled(config: ProxyConfig) -> ProxyConfig {
    config.set("server.throttle.failures", 0)
}

fn refusal(login: &Login) -> Refused {
    let error = Client::connect(login).expect_err("it is refused");
    error.downcast::<Refused>().expect("by an ErrorResponse")
}

fn as_user(login: &Login, user: &str) -> Login {
    Login { user: user.into(), ..login.clone() }
}

/// Sends `bytes` on a connection of their own, and gives what is said before the end: errors at most, and no way in.
#[track_caller]
fn told(stage: &Stage, bytes: &[u8]) -> Vec<Message> {
    let mut client = Client::open(&stage.transaction()).expect("it connects");
    client.send(bytes).expect("it is read");
    let socket = client.socket().expect("it is open");
    socket.shutdown(std::net::Shutdown::Write).expect("it is open");
    let messages = client.receive_rest().expect("it ends");
    let lets_in = |message: &Message| message.tag == b'Z' || message.body == [0, 0, 0, 0];
    assert!(!messages.iter().any(lets_in), "{messages:?}");
    messages
}

fn startup(user: &str) -> Vec<u8> {
    encode::startup(3, 0, &[("user", user), ("database", stage::DATABASE)])
}

/// SASLInitialResponse with a length that need not be the data's.
fn sasl_initial(length: u32, data: &[u8]) -> Vec<u8> {
    encode::message(b'p', &[b"SCRAM-SHA-256\0", &length.to_be_bytes()[..], data].concat())
}

/// A second cluster, `evil`, whose only node is `server`. It is asked what it is many times a second.
fn beside(server: &FakeServer, change: impl FnOnce(ProxyConfig) -> ProxyConfig) -> Stage {
    Stage::with(Cluster::builder(), |config| {
        change(
            config
                .set("cluster.evil.nodes", vec![server.address()])
                .set("cluster.evil.connect_timeout", "2s")
                .set("cluster.evil.topology.interval", "20ms")
                .set("cluster.evil.topology.timeout", "2s")
                .set("cluster.evil.pool.evil.user.app", Table::new()),
        )
    })
    .expect("it starts")
}

/// Runs beside a server that does what `serve` does, until it was connected to some times.
fn endure(serve: impl Fn(&mut Connection) -> io::Result<()> + Clone + Send + Sync + 'static) -> Stage {
    let server = FakeServer::start(serve).expect("it listens");
    let stage = beside(&server, |config| config);
    let enough = || Ok((server.connections() >= CONNECTIONS).then_some(()));
    wait_for("connections to the hostile server", LIMIT, enough).expect("they come");
    let refused = refusal(&stage.transaction().database("evil"));
    assert!(["08006", "28P01", "53300", "57P03"].contains(&refused.sqlstate().as_str()), "{refused}");
    assert_well(&stage);
    stage
}

/// PgBouncer before 1.25.2: an integer overflow in the parser of packets let a SCRAM packet's length pass the check of
/// bounds, and crashed the process, before any authentication.
#[test]
fn cve_2026_6664_the_length_in_a_scram_packet_wraps() {
    let stage = stage_unthrottled().expect("it starts");
    for length in [0xFFFF_FFFF_u32, 0xFFFF_FFFE, 0x8000_0000, 0x7FFF_FFFF, 0x1_0000, 5, 3] {
        let messages = told(&stage, &[startup(stage::ROLE), sasl_initial(length, b"n,,,")].concat());
        let last = messages.last().expect("it is told");
        assert_eq!((last.tag, last.sqlstate().as_deref()), (b'E', Some("08P01")), "{length:x}: {messages:?}");
    }
    assert_well(&stage);
}

/// PgBouncer before 1.25.2: a server's SCRAM message with a long nonce overflowed the stack where the client-final-message is
/// built.
#[test]
fn cve_2026_6665_a_long_nonce_from_the_server() {
    for bytes in [1000, 10_000, 60_000] {
        let stage = endure(move |connection| {
            let nonce = connection.ask_for_scram()?;
            let first = format!("r={nonce}{},s=c2FsdHNhbHQ=,i=4096", "x".repeat(bytes));
            connection.authentication(11, first.as_bytes())?;
            connection.drain().map(drop)
        });
        assert_well(&stage);
    }
}

/// PgBouncer before 1.25.2: an ErrorResponse of a server without SQLSTATE was a null pointer, and a crash.
#[test]
fn cve_2026_6666_an_error_without_sqlstate() {
    for body in [&b"\0"[..], b"", b"MNo state\0\0", b"SFATAL\0MNo state\0\0", b"C\0\0", b"Mno end"] {
        let at_login = move |connection: &mut Connection| {
            connection.read_packet()?;
            connection.message(b'E', body)
        };
        let at_query = move |connection: &mut Connection| {
            connection.welcome()?;
            connection.read_message()?;
            connection.message(b'E', body)?;
            connection.message(b'Z', b"I")?;
            connection.drain().map(drop)
        };
        let server = FakeServer::start(at_query).expect("it listens");
        let stage = beside(&server, |config| config);
        let enough = || Ok((server.connections() >= CONNECTIONS).then_some(()));
        wait_for("connections to the hostile server", LIMIT, enough).expect("they come");
        assert_well(&stage);
        drop((stage, server));
        endure(at_login);
    }
}

/// PgBouncer before 1.25.2: whoever may use the console at all could end clients by KILL_CLIENT.
#[test]
fn cve_2026_6667_kill_client_is_for_admins() {
    let builder = Cluster::builder().role("watcher", "watcher-password");
    let stage = Stage::with(builder, |config| {
        config.set("admin.users", vec![stage::ROLE]).set("admin.stats_users", vec!["watcher"])
    })
    .expect("it starts");
    let mut victim = stage.client().expect("it logs in");
    let console = stage.transaction().database("halephant");
    let watcher = Login { user: "watcher".into(), password: "watcher-password".into(), ..console.clone() };
    let kill = format!("KILL CLIENT {}", victim.process_id);
    let mut client = Client::connect(&watcher).expect("it may look");
    for command in [kill.as_str(), "PAUSE", "RELOAD", "SHUTDOWN", "SPLICE OFF"] {
        assert_eq!(client.error(command).expect("it is refused").sqlstate(), "42501", "{command}");
    }
    assert_eq!(victim.value("SELECT 1").expect("it lives"), "1");
    psql::query(stage.cluster.binaries(), &console, &kill).expect("an admin may");
    victim.receive_rest().expect("it is ended");
    assert_well(&stage);
}

/// PgBouncer before 1.25.1: a search_path in the StartupMessage was applied to the connection of the auth query, so that
/// somebody who is not logged in could have it run other functions and operators.
#[test]
fn cve_2025_12819_search_path_does_not_reach_the_auth_query() {
    let stage = Stage::with(Cluster::builder(), |config| config.set("cluster.main.auth.cache_ttl", "0s"));
    let stage = stage.expect("it starts");
    let trap = [
        "CREATE SCHEMA trap".to_owned(),
        "CREATE TABLE trap.pg_shadow AS SELECT * FROM pg_catalog.pg_shadow".to_owned(),
        "CREATE ROLE decoy PASSWORD 'stolen'".to_owned(),
        "UPDATE trap.pg_shadow SET passwd =
            (SELECT rolpassword FROM pg_authid WHERE rolname = 'decoy') WHERE usename = 'app'"
            .to_owned(),
        "GRANT USAGE ON SCHEMA trap TO PUBLIC".to_owned(),
        "GRANT SELECT ON trap.pg_shadow TO PUBLIC".to_owned(),
        // Nor does the role's own setting.
        "ALTER ROLE halephant SET search_path = trap, pg_catalog".to_owned(),
    ];
    stage.cluster.primary().script("postgres", &trap).expect("the superuser may");
    for parameter in [("search_path", "trap, pg_catalog"), ("options", "-c search_path=trap,pg_catalog")] {
        let stolen = stage.transaction().password("stolen");
        let refused = Client::connect_with(&stolen, 0, &[parameter]).expect_err("it is not app's");
        let refused = refused.downcast::<Refused>().expect("by an ErrorResponse");
        assert_eq!(refused.sqlstate(), "28P01", "{parameter:?}");
        let mut client = Client::connect_with(&stage.transaction(), 0, &[parameter]).expect("this one is");
        assert_eq!(client.value("SHOW search_path").expect("it answers").replace(' ', ""), "trap,pg_catalog");
    }
    assert_well(&stage);
}

/// PgBouncer before 1.24.1: the default auth_query did not look at VALID UNTIL, and an expired password went on being good.
#[test]
fn cve_2025_2291_an_expired_password_is_refused() {
    let builder = Cluster::builder().role_with("expired", "secret", "VALID UNTIL '2001-01-01'").role_with(
        "valid",
        "secret",
        "VALID UNTIL '2101-01-01'",
    );
    let stage = Stage::with(builder, |config| {
        config
            .set("cluster.main.pool.app.user.expired", Table::new())
            .set("cluster.main.pool.app.user.valid", Table::new())
    })
    .expect("it starts");
    let with = |user: &str| Login { password: "secret".into(), ..as_user(&stage.transaction(), user) };
    assert_eq!(refusal(&with("expired")).sqlstate(), "28P01");
    let mut client = Client::connect(&with("valid")).expect("its time has not come");
    assert_eq!(client.value("SELECT current_user").expect("it answers"), "valid");
    assert_well(&stage);
}

/// A proxy that asks clients for certificates.
fn with_certificates(directory: &std::path::Path) -> Stage {
    let authority = Authority::new("root").expect("it is made");
    let identity = authority.issue(&Subject::new("localhost", &["localhost"])).expect("it is made");
    let files = identity.write(directory, "server").expect("there is room");
    let root = directory.join("root.crt");
    halephant_harness::certificates::write(&root, &authority.certificate).expect("there is room");
    let text = |path: &std::path::Path| path.to_str().expect("it is text").to_owned();
    Stage::with(Cluster::builder(), |config| {
        config
            .set("server.tls.mode", "verify-full")
            .set("server.tls.certificate", text(&files.certificate))
            .set("server.tls.key", text(&files.key))
            .set("server.tls.ca", text(&root))
    })
    .expect("it starts")
}

/// Puts statements where somebody in the middle could: behind an SSLRequest, before the handshake.
fn statements_before_the_handshake() {
    let directory = tempfile::tempdir().expect("there is room");
    let stage = with_certificates(directory.path());
    stage.prepare("CREATE TABLE victim (n int)").expect("the owner may");
    let statement = encode::query("INSERT INTO victim VALUES (1)");
    for injected in [[startup(stage::ROLE), statement.clone()].concat(), statement] {
        let mut client = Client::open(&stage.transaction()).expect("it connects");
        client.send(&[encode::ssl_request(), injected].concat()).expect("it is read");
        let mut answer = Vec::new();
        // Closed with unread input: a reset is an end.
        let _ = client.socket().expect("it is open").read_to_end(&mut answer);
        assert_ne!(answer.first(), Some(&b'S'), "the handshake must not begin");
        assert!(answer.is_empty() || answer.starts_with(b"E"), "{}", answer.escape_ascii());
    }
    stage.proxy.wait_for_log("unencrypted data after SSLRequest", 2, LIMIT).expect("it says why");
    assert_eq!(stage.prepare("SELECT count(*) FROM victim").expect("the owner may"), "0");
    assert!(!stage.proxy.log().contains("panicked"));
}

/// PgBouncer before 1.16.1: with certificates for clients, somebody in the middle could have statements run that it sent
/// before the handshake.
#[test]
fn cve_2021_3935_statements_before_the_handshake() {
    statements_before_the_handshake();
}

/// Odyssey 1.1: the same, where the certificate's common name is the user.
#[test]
fn cve_2021_43766_statements_before_the_handshake() {
    statements_before_the_handshake();
}

/// Odyssey 1.1: answers that somebody in the middle sent before the handshake with the server went to the client, as if they
/// were the server's.
#[test]
fn cve_2021_43767_answers_before_the_handshake() {
    let server = FakeServer::start(|connection| {
        connection.read_packet()?;
        let answers = [
            &b"S"[..],
            &encode::message(b'R', &[0; 4]),
            &encode::message(b'K', &[0, 0, 0, 1, 0, 0, 0, 2]),
            &encode::message(b'Z', b"I"),
        ];
        connection.send(&answers.concat())?;
        connection.drain().map(drop)
    })
    .expect("it listens");
    let stage = beside(&server, |config| config.set("cluster.evil.tls.mode", "require"));
    let enough = || Ok((server.connections() >= CONNECTIONS).then_some(()));
    wait_for("connections to the hostile server", LIMIT, enough).expect("they come");
    refusal(&stage.transaction().database("evil"));
    assert_well(&stage);
}

/// PgBouncer 1.6.0: with an unknown user name, one was logged in as the auth_user.
#[test]
fn cve_2015_6817_an_unknown_user_is_nobody() {
    let stage = stage_unthrottled().expect("it starts");
    for user in ["nobody_at_all", "halephant", "postgres"] {
        for password in ["", "halephant-password", stage::PASSWORD] {
            let login = as_user(&stage.transaction().password(password), user);
            assert_eq!(refusal(&login).sqlstate(), "28P01", "{user}");
        }
    }
    assert_well(&stage);
}

/// PgBouncer before 1.5.5: a password before the startup packet was a null pointer, and a crash.
#[test]
fn cve_2015_4054_a_password_before_the_startup_packet() {
    let stage = stage_unthrottled().expect("it starts");
    let password = encode::message(b'p', b"secret\0");
    for bytes in [password.clone(), [password.clone(), startup(stage::ROLE)].concat()] {
        let messages = told(&stage, &bytes);
        assert_eq!(messages.iter().filter_map(Message::sqlstate).collect::<Vec<_>>(), ["08P01"]);
    }
    // Too many of them is no better.
    told(&stage, &[startup(stage::ROLE), password.clone(), password].concat());
    assert_well(&stage);
}

/// PgBouncer 1.5.2: a long database name ended the process.
#[test]
fn cve_2012_4575_a_long_database_name() {
    let stage = stage_unthrottled().expect("it starts");
    for length in [63, 64, 1000, 9000] {
        let refused = refusal(&stage.transaction().database(&"d".repeat(length)));
        assert_eq!(refused.sqlstate(), "3D000", "{length}");
    }
    told(&stage, &encode::startup(3, 0, &[("user", "app"), ("database", &"d".repeat(100_000))]));
    assert_well(&stage);
}

/// Pgpool-II up to 4.6.0. The record says that somebody may log in as any user, an "authentication bypass by primary
/// weakness", and not how. So every step that a login could leave out is left out, beside one that is complete.
#[test]
fn cve_2025_46801_no_step_of_a_login_can_be_left_out() {
    let stage = Stage::with(Cluster::builder().role("other", "other-password"), |config| {
        unthrottled(config).set("cluster.main.pool.app.user.other", Table::new())
    })
    .expect("it starts");
    let mut witness = stage.client().expect("it logs in, and its keys are known from now on");
    let first = sasl_initial(8 + 18, b"n,,n=,r=abcdefghijklmnopqr");
    let query = encode::query("SELECT 1");
    for bytes in [
        [startup("other"), query.clone()].concat(),
        [startup("other"), first.clone(), query.clone()].concat(),
        [startup("other"), encode::message(b'p', b"c=biws,r=,p="), query.clone()].concat(),
        [startup("other"), encode::message(b'p', b"other-password\0"), query.clone()].concat(),
        [startup("other"), encode::message(b'p', b""), query.clone()].concat(),
        [startup("other"), sasl_initial(u32::MAX, b""), query.clone()].concat(),
        // The login of one, for another.
        [startup(stage::ROLE), first, startup("other"), query].concat(),
    ] {
        told(&stage, &bytes);
    }
    assert_eq!(refusal(&as_user(&stage.transaction(), "other")).sqlstate(), "28P01");
    assert_eq!(refusal(&as_user(&stage.transaction().password(""), "other")).sqlstate(), "28P01");
    assert_eq!(witness.value("SELECT current_user").expect("it answers"), stage::ROLE);
    assert_well(&stage);
}

/// Pgpool-II up to 4.5.3: the query cache gave a user rows of tables that the user may not read. halephant keeps no rows; it
/// shares prepared statements, which must not carry a right from one user to another either.
#[test]
fn cve_2024_45624_what_one_user_read_is_not_for_another() {
    let stage = Stage::with(Cluster::builder().role("other", "other-password"), |config| {
        config.set("cluster.main.pool.app.user.other", Table::new())
    })
    .expect("it starts");
    stage.prepare("CREATE TABLE secret AS SELECT 'mine' AS whose").expect("the owner may");
    let sql = "SELECT whose FROM public.secret";
    let other = Login { password: "other-password".into(), ..as_user(&stage.transaction(), "other") };
    let mut owner = stage.client().expect("it logs in");
    let mut other = Client::connect(&other).expect("it logs in");
    let exchange =
        [encode::parse("s", sql), encode::bind("", "s", &[]), encode::execute("", 0), encode::sync()]
            .concat();
    for _ in 0..3 {
        assert_eq!(owner.value(sql).expect("it may"), "mine");
        assert_eq!(other.error(sql).expect("it may not").sqlstate(), "42501");
        owner.send(&exchange).expect("it is sent");
        let answer = owner.receive_until(b'Z').expect("it answers");
        assert_eq!(halephant_suite::message::values(&answer), ["mine"]);
        owner.send(&[encode::close_statement("s"), encode::sync()].concat()).expect("it is sent");
        owner.receive_until(b'Z').expect("it answers");
        other.send(&exchange).expect("it is sent");
        let answer = other.receive_until(b'Z').expect("it answers");
        let error = halephant_suite::message::error(&answer).and_then(Message::sqlstate);
        assert_eq!(error.as_deref(), Some("42501"), "{answer:?}");
        other.send(&[encode::close_statement("s"), encode::sync()].concat()).expect("it is sent");
        other.receive_until(b'Z').expect("it answers");
    }
    assert_well(&stage);
}

/// Pgpool-II up to 4.4.1: one database user could obtain the authentication information of another. The record does not say
/// where from; so nothing that is shown anywhere may hold any.
#[test]
fn cve_2023_22332_no_credentials_in_what_is_shown() {
    let admin = Port::pick().expect("there is a free one");
    let number = admin.number();
    let stage = Stage::with(Cluster::builder().role("watcher", "watcher-password"), |config| {
        config
            .set("admin.listen", format!("127.0.0.1:{number}"))
            .set("admin.stats_users", vec!["watcher"])
            .set("logging.level", "trace")
    })
    .expect("it starts");
    let mut client = stage.client().expect("it logs in");
    assert_eq!(client.value("SELECT 1").expect("it answers"), "1");
    let console = Login {
        user: "watcher".into(),
        password: "watcher-password".into(),
        ..stage.transaction().database("halephant")
    };
    let show = |command: &str| psql::query(stage.cluster.binaries(), &console, command).expect("it answers");
    let help = show("SHOW HELP");
    let commands = help.lines().filter_map(|line| line.split('|').next());
    let mut shown: Vec<String> = commands.filter(|text| text.starts_with("SHOW ")).map(show).collect();
    assert!(shown.len() > 5, "{help}");
    for path in ["/admin/config", "/admin/clients", "/admin/servers", "/admin/pools", "/metrics"] {
        shown.push(get(number, path).expect("it answers").body);
    }
    shown.push(stage.proxy.log());
    let verifiers = stage.cluster.query("postgres", "SELECT passwd FROM pg_shadow WHERE passwd IS NOT NULL");
    let verifiers = verifiers.expect("the superuser may");
    let secrets = verifiers.lines().chain([stage::PASSWORD, "watcher-password", "halephant-password"]);
    for secret in secrets.chain(["SCRAM-SHA-256$"]) {
        let holder = shown.iter().find(|text| text.contains(secret));
        assert!(holder.is_none(), "{secret} is in {}", holder.map_or("", String::as_str));
    }
    assert_well(&stage);
}

/// A peer crashes on it.
#[test]
fn options_of_four_kilobytes() {
    let stage = stage_unthrottled().expect("it starts");
    let long = format!("-c work_mem={}MB", "1".repeat(4096));
    let many = "-c work_mem=4MB ".repeat(256);
    let escaped = "\\".repeat(4096);
    let names = format!("-c {}=1", "a".repeat(4090));
    for options in
        [long.as_str(), &many, &escaped, &names, &" ".repeat(4096), "-c", "-", "-c=", "--=", "-c a"]
    {
        match Client::connect_with(&stage.transaction(), 0, &[("options", options)]) {
            Ok(mut client) => assert_eq!(client.value("SELECT 1").expect("it answers"), "1"),
            Err(error) => {
                let refused = error.downcast::<Refused>().expect("by an ErrorResponse");
                assert_ne!(refused.sqlstate(), "XX000", "{refused}");
            }
        }
    }
    assert_well(&stage);
}

/// PgBouncer 1.17.0 to 1.26.0: a second StartupMessage during the SCRAM exchange, after a database that does not exist, made
/// the login somebody else's.
#[test]
fn cve_2026_107350_a_second_startup_message_is_refused() {
    let stage = stage_unthrottled().expect("it starts");
    let nowhere = encode::startup(3, 0, &[("user", stage::ROLE), ("database", "nowhere")]);
    let first = sasl_initial(26, b"n,,n=,r=abcdefghijklmnopqr");
    let other = startup("halephant");
    for bytes in [[nowhere.clone(), other.clone()].concat(), [nowhere, first, other].concat()] {
        let messages = told(&stage, &bytes);
        assert!(messages.iter().all(|message| matches!(message.tag, b'R' | b'E')), "{messages:?}");
    }
    assert_well(&stage);
}

/// PgBouncer up to 1.25.2: a server could ask for any number of iterations, and the process computed them.
#[test]
fn cve_2026_6669_iterations_without_end() {
    endure(|connection| {
        let nonce = connection.ask_for_scram()?;
        let first = format!("r={nonce}more,s=c2FsdHNhbHQ=,i=2147483647");
        connection.authentication(11, first.as_bytes())?;
        connection.drain().map(drop)
    });
}

/// PgBouncer up to 1.25.2: a client-final-message without one of its attributes was a null pointer, and a crash.
#[test]
fn cve_2026_19888_a_final_message_without_an_attribute() {
    let stage = stage_unthrottled().expect("it starts");
    for last in [
        "",
        "c=biws",
        "c=biws,r=x",
        "r=x,p=eA==",
        "c=biws,p=eA==",
        "c=,r=,p=",
        "p=eA==",
        ",,,",
        "c=biws,r=x,p=",
    ] {
        let first = sasl_initial(26, b"n,,n=,r=abcdefghijklmnopqr");
        let bytes = [startup(stage::ROLE), first, encode::message(b'p', last.as_bytes())].concat();
        let messages = told(&stage, &bytes);
        let state = messages.last().and_then(Message::sqlstate);
        assert!(matches!(state.as_deref(), Some("08P01" | "28P01")), "{last}: {messages:?}");
    }
    assert_well(&stage);
}
