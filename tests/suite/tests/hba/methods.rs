//! The methods with psql, and what servers are logged in to with afterwards.

use super::pki::{LIMIT, reload};
use super::stage::{Ruled, as_user, outcome};
use halephant_harness::{Cluster, Login, command, psql};
use halephant_suite::stage::{PASSWORD, ROLE};
use halephant_suite::{Client, Stage};

fn config(ruled: &Ruled) -> halephant_harness::ProxyConfig {
    let path = ruled.path("pg_hba.conf");
    Stage::config(&ruled.stage.cluster).set("server.hba", path.to_str().expect("it is UTF-8"))
}

fn psql_gives(stage: &Stage, login: &Login) -> Result<String, String> {
    let mut psql = psql::command(stage.cluster.binaries(), login).expect("psql is there");
    psql.args(["--no-align", "--tuples-only", "--command", "SELECT current_user"]);
    let output = command::run(&mut psql, psql::LIMIT).expect("psql ends");
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// In transaction mode, too: a connection is opened for the client, and again for the next.
#[test]
fn psql_logs_in_by_every_method_with_a_password() {
    let ruled = Ruled::new("host all all all scram-sha-256", Cluster::builder());
    let stage = &ruled.stage;
    for method in ["scram-sha-256", "md5", "password"] {
        ruled.write("pg_hba.conf", &format!("host all all all {method}\n"));
        assert!(reload(stage, &config(&ruled)), "{method}");
        for login in [stage.transaction(), stage.session()] {
            assert_eq!(psql_gives(stage, &login).as_deref(), Ok(ROLE), "{method}");
            let error =
                psql_gives(stage, &login.clone().password("wrong")).expect_err("the password is wrong");
            assert!(error.contains("password authentication failed for user \"app\""), "{method}: {error}");
        }
        let error = psql_gives(stage, &as_user(stage.session(), "nobody", "x")).expect_err("it is unknown");
        assert!(error.contains("password authentication failed for user \"nobody\""), "{method}: {error}");
    }
    // libpq can be told what to take.
    ruled.write("pg_hba.conf", "host all all all password\n");
    assert!(reload(stage, &config(&ruled)));
    let mut client = Client::connect(&stage.session()).expect("it may log in");
    let asked = client.greeting.iter().find(|message| message.tag == b'R').expect("it is asked");
    assert_eq!(asked.body, [0, 0, 0, 3], "AuthenticationCleartextPassword");
    assert_eq!(client.value("SELECT 1").expect("it answers"), "1");
}

/// What is stored decides between MD5 and SCRAM, and an MD5 hash opens the server's door as well.
#[test]
fn md5_is_for_hashes_and_scram_for_verifiers() {
    let builder = Cluster::builder().role("old", "old-password").hba("host all old all md5");
    let ruled = Ruled::with("host all all all md5", builder, |config| {
        config.pool("app_session", "session", 10, &["old", ROLE])
    });
    let stage = &ruled.stage;
    let sql = "SET password_encryption = md5; ALTER ROLE old PASSWORD 'old-password'";
    stage.cluster.query("postgres", sql).expect("it may be set");
    for (user, password, method) in [("old", "old-password", 5), (ROLE, PASSWORD, 10)] {
        let mut client =
            Client::connect(&as_user(stage.session(), user, password)).expect("the password is right");
        let asked = client.greeting.iter().find(|message| message.tag == b'R').expect("it is asked");
        assert_eq!(asked.body[..4], [0, 0, 0, method], "{user}");
        assert_eq!(client.value("SELECT current_user").expect("it answers"), user);
        let failed = ruled.try_as(user, "wrong").expect_err("the password is wrong");
        assert_eq!(failed.0, "28P01", "{user}");
        assert_eq!(ruled.try_as(user, "").expect_err("it is empty").0, "28P01", "{user}");
    }
}

/// A server that asks for the password itself gets it only where that is wanted.
#[test]
fn a_password_is_passed_on_where_it_may_be() {
    let builder = Cluster::builder().hba("host all app all password");
    let ruled = Ruled::new("host app all all password\nhost all all all trust\n", builder);
    let stage = &ruled.stage;
    let login = stage.transaction();
    let (state, _) = outcome(&login).expect_err("there is no password for the server");
    assert_eq!(state, "28P01");
    let passing = config(&ruled).set("cluster.main.auth.password_passthrough", true);
    assert!(reload(stage, &passing));
    assert_eq!(outcome(&login), Ok(()));
    assert_eq!(outcome(&login.clone().password("wrong")).expect_err("it is wrong").0, "28P01");
    assert_eq!(outcome(&login), Ok(()), "a wrong password has replaced nothing");
    // What was kept is forgotten with the permission.
    assert!(reload(stage, &config(&ruled)));
    stage.end_server_connections().expect("they end");
    assert_eq!(outcome(&login).expect_err("nothing was kept").0, "28P01");
}

#[test]
fn verifiers_can_stand_in_the_configuration() {
    let ruled = Ruled::new("host all all all scram-sha-256", Cluster::builder());
    let stage = &ruled.stage;
    let sql = "SELECT rolpassword FROM pg_authid WHERE rolname = 'app'";
    let verifier = stage.cluster.query("postgres", sql).expect("it is there");
    let config = config(&ruled)
        .set("cluster.main.auth.query", "SELECT 1/0, $1")
        .set("cluster.main.auth.verifiers.app", verifier.as_str());
    assert!(reload(stage, &config));
    assert_eq!(outcome(&stage.transaction()), Ok(()));
    assert_eq!(outcome(&stage.transaction().password("wrong")).expect_err("it is wrong").0, "28P01");
    assert!(!stage.proxy.log().contains("the auth query failed"), "{}", stage.proxy.log_tail());
    // Neither the log nor the error of a wrong one shows it.
    assert!(!reload(stage, &config.set("cluster.main.auth.verifiers.app", "SCRAM-SHA-256$hush")));
    stage.proxy.wait_for_log("is no verifier", 1, LIMIT).expect("it says so");
    assert!(!stage.proxy.log().contains("hush"));
}

/// Trust asks for nothing, and the server still wants to be logged in to.
#[test]
fn trust_opens_no_door_of_the_server() {
    let ruled = Ruled::new("host all all all trust", Cluster::builder());
    let stage = &ruled.stage;
    let (state, text) = outcome(&stage.session()).expect_err("nobody has a password for the server");
    assert_eq!(state, "28P01", "{text}");
    let nobody = ruled.try_as("nobody", "").expect_err("it is not a user");
    assert_eq!(nobody, ("28000".into(), "role \"nobody\" does not exist".into()));
}

#[test]
fn a_reload_takes_all_rules_or_none() {
    let ruled = Ruled::new("host all all all scram-sha-256", Cluster::builder());
    let stage = &ruled.stage;
    ruled.write("pg_hba.conf", "host all all all scram-sha-256\ninclude more.conf\n");
    ruled.write("more.conf", "\nhost all all 10.0.0.0/40 trust\nhost samerole all all trust\n");
    assert!(!reload(stage, &config(&ruled)));
    for place in ["more.conf:2: invalid CIDR mask", "more.conf:3: \"samerole\" stands for members"] {
        stage.proxy.wait_for_log(place, 1, LIMIT).expect("it says where");
    }
    assert_eq!(outcome(&stage.transaction()), Ok(()), "the old rules hold");
    ruled.write("pg_hba.conf", "include more.conf\n");
    ruled.write("more.conf", "host app_session all all reject\nhost all all all scram-sha-256\n");
    let mut open = Client::connect(&stage.session()).expect("the old rules hold");
    assert!(reload(stage, &config(&ruled)));
    let (state, text) = outcome(&stage.session()).expect_err("the new ones do now");
    assert_eq!(state, "28000");
    assert!(
        text.starts_with("pg_hba.conf rejects connection for host \"127.0.0.1\", user \"app\""),
        "{text}"
    );
    assert_eq!(outcome(&stage.transaction()), Ok(()));
    assert_eq!(open.value("SELECT 1").expect("its session goes on"), "1");
    ruled.write("more.conf", "host app app 10.0.0.0/8 trust\n");
    assert!(reload(stage, &config(&ruled)));
    let (state, text) = outcome(&stage.transaction()).expect_err("there is no rule for it");
    let expected =
        "no pg_hba.conf entry for host \"127.0.0.1\", user \"app\", database \"app\", no encryption";
    assert_eq!((state.as_str(), text.as_str()), ("28000", expected));
}

/// No entry that fits is no way in, and a start with a broken file is none.
#[test]
fn a_broken_file_is_an_error_at_the_start() {
    let cluster = Cluster::builder().role(ROLE, PASSWORD).start().expect("it starts");
    let path = cluster.scratch().path().join("pg_hba.conf");
    std::fs::write(&path, "# first\nhost all +admins all trust\n").expect("it is ours");
    let config = Stage::config(&cluster).set("server.hba", path.to_str().expect("it is UTF-8"));
    let error = halephant_harness::Proxy::start(&config).expect_err("it does not start");
    let error = format!("{error:#}");
    assert!(error.contains("pg_hba.conf:2: \"+admins\" stands for members of a role"), "{error}");
}

#[test]
fn the_console_follows_the_rules() {
    let rules =
        "host halephant all 127.0.0.1/32 password\nhost halephant all all reject\nhost all all all trust\n";
    let ruled = Ruled::with(rules, Cluster::builder(), |config| config.set("admin.users", vec![ROLE]));
    let login = ruled.stage.transaction().database("halephant");
    let mut console = Client::connect(&login).expect("the password is right");
    let asked = console.greeting.iter().find(|message| message.tag == b'R').expect("it is asked");
    assert_eq!(asked.body, [0, 0, 0, 3]);
    console.query("SHOW POOLS").expect("it answers");
    let wrong = Client::connect(&login.clone().password("wrong")).map(drop).expect_err("it is wrong");
    assert!(wrong.to_string().contains("28P01"), "{wrong}");
    let elsewhere = Login { host: "::1".into(), ..login };
    let refused = Client::connect(&elsewhere).map(drop).expect_err("it is rejected");
    let text = "pg_hba.conf rejects connection for host \"::1\", user \"app\", database \"halephant\", no encryption";
    assert!(refused.to_string().contains(text), "{refused}");
}

/// On a Unix socket the kernel says who is at the other end.
#[test]
fn peers_are_users_of_this_host() {
    let name =
        nix::unistd::User::from_uid(nix::unistd::getuid()).expect("it is known").expect("it is there").name;
    let directory = tempfile::tempdir().expect("there is room");
    let ident = directory.path().join("pg_ident.conf");
    std::fs::write(&ident, format!("m {name} app\nm nobody_else other\n")).expect("it is ours");
    let text = |path: &std::path::Path| path.to_str().expect("it is UTF-8").to_owned();
    let rules = "local app all peer map=m\nlocal all all peer\nhost all all all scram-sha-256\n";
    let builder = Cluster::builder().role("other", "other-password");
    let ruled = Ruled::with(rules, builder, |config| {
        config
            .pool("app", "transaction", 5, &[ROLE, "other"])
            .listen(&text(directory.path()))
            .set("server.ident", text(&ident))
            .pgpass("*:*:*:app:app-password")
            .pgpass("*:*:*:other:other-password")
    });
    let stage = &ruled.stage;
    let over = |login: Login| Login { host: text(directory.path()), ..login }.password("none is asked for");
    let login = over(stage.transaction());
    assert_eq!(psql_gives(stage, &login).as_deref(), Ok(ROLE));
    for (login, user) in
        [(as_user(login.clone(), "other", ""), "other"), (login.clone().database("app_session"), ROLE)]
    {
        let error = psql_gives(stage, &login).expect_err("it is another user");
        assert!(error.contains(&format!("Peer authentication failed for user \"{user}\"")), "{error}");
    }
    assert_eq!(outcome(&stage.transaction()), Ok(()), "over TCP there is a password");
}
