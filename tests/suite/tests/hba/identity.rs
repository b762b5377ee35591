//! What is known of one user of one database of one cluster is used for nobody else.

use super::stage::{Ruled, as_user, outcome};
use halephant_harness::{Cluster, Login, ProxyConfig};
use halephant_protocol::scram::Verifier;
use halephant_suite::{Client, Stage, encode};

/// Two clusters with users of the same name and other passwords.
fn two_clusters(rules: &str) -> (Ruled, Cluster) {
    let second =
        Cluster::builder().role("app", "second-password").database("app", "app").start().expect("it starts");
    let address = second.primary().address();
    let ruled = Ruled::with(rules, Cluster::builder(), |config: ProxyConfig| {
        config
            .set("cluster.second.nodes", vec![address])
            .set("cluster.second.admin_user", "halephant")
            .set("cluster.second.pool.second.database", "app")
            .set("cluster.second.pool.second.user.app.max_connections.primary", 5)
    });
    (ruled, second)
}

#[test]
fn a_verifier_of_one_cluster_is_not_used_for_another() {
    let (ruled, _second) = two_clusters("host all all all scram-sha-256");
    let first = ruled.stage.transaction();
    let second = first.clone().database("second").password("second-password");
    for _ in 0..2 {
        assert_eq!(outcome(&first), Ok(()));
        assert_eq!(outcome(&second), Ok(()));
        assert_eq!(outcome(&first.clone().password("second-password")).expect_err("another's").0, "28P01");
        assert_eq!(outcome(&second.clone().password(&first.password)).expect_err("another's").0, "28P01");
    }
}

/// The console takes a role's password on the first cluster that knows it. One that cannot be asked may be that one.
#[test]
fn the_console_takes_nobody_for_a_namesake() {
    let second = Cluster::builder()
        .role("app", "second-password")
        .role("watcher", "watching")
        .database("app", "app")
        .start()
        .expect("it starts");
    let address = second.primary().address();
    let mut ruled = Ruled::with("host all all all scram-sha-256", Cluster::builder(), |config| {
        config
            .set("admin.users", vec!["app", "watcher"])
            .set("cluster.main.auth.cache_ttl", "0s")
            .set("cluster.second.nodes", vec![address])
            .set("cluster.second.admin_user", "halephant")
            .set("cluster.second.pool.second.database", "app")
            .set("cluster.second.pool.second.user.app.max_connections.primary", 5)
    });
    let first = ruled.stage.transaction().database("halephant");
    let namesake = first.clone().password("second-password");
    let watcher = as_user(first.clone(), "watcher", "watching");
    let enters = |login: &Login| Client::connect(login).map(drop);
    enters(&first).expect("the first cluster knows it");
    enters(&watcher).expect("the first cluster does not know it, the second does");
    enters(&namesake).expect_err("it is another one's password");
    ruled.stage.cluster.node_mut(0).kill().expect("it is ours");
    for login in [&namesake, &watcher] {
        let error = enters(login).expect_err("nobody can say that the first cluster does not know it");
        assert!(error.to_string().contains("28P01"), "{error}");
    }
    enters(&as_user(first, "watcher", "second-password")).expect_err("and it is wrong in any case");
}

/// A client that only trust lets in must not get a connection by what another one has proved elsewhere.
#[test]
fn keys_of_one_cluster_or_database_open_no_other() {
    let (ruled, _second) = two_clusters("host second,third all all trust\nhost all all all scram-sha-256");
    let stage = &ruled.stage;
    let path = ruled.path("pg_hba.conf");
    stage.cluster.query("postgres", "CREATE DATABASE third OWNER app").expect("it is made");
    let address = _second.primary().address();
    let config = Stage::config(&stage.cluster)
        .set("server.hba", path.to_str().expect("it is UTF-8"))
        .set("cluster.second.nodes", vec![address])
        .set("cluster.second.admin_user", "halephant")
        .set("cluster.second.pool.second.database", "app")
        .set("cluster.second.pool.second.user.app.max_connections.primary", 5)
        .pool("third", "transaction", 5, &["app"]);
    assert!(super::pki::reload(stage, &config));
    let first = stage.transaction();
    assert_eq!(outcome(&first), Ok(()), "its keys are known now");
    for database in ["second", "third"] {
        let (state, text) =
            outcome(&first.clone().database(database)).expect_err("nobody has proved anything there");
        assert_eq!(state, "28P01", "{database}: {text}");
    }
}

/// CVE-2025-12819 of PgBouncer: the auth query ran with what a client's startup packet had set.
#[test]
fn the_auth_query_has_its_own_search_path_and_user() {
    let query = "SELECT usename, CASE WHEN session_user = 'halephant' AND current_user = 'halephant' AND \
                 current_setting('search_path') = 'pg_catalog, pg_temp' THEN passwd END FROM pg_shadow WHERE usename = $1";
    let ruled = Ruled::with("host all all all scram-sha-256", Cluster::builder(), |config| {
        config.set("cluster.main.auth.query", query).set("cluster.main.auth.cache_ttl", "0s")
    });
    let stage = &ruled.stage;
    // A pg_shadow of somebody else's, first in the path that the role or a client asks for.
    let fake = "CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO PUBLIC; \
                CREATE VIEW evil.pg_shadow AS SELECT 'app'::name AS usename, 'md5' || md5('evilapp') AS passwd; \
                GRANT SELECT ON evil.pg_shadow TO PUBLIC; \
                ALTER ROLE halephant SET search_path = evil, pg_catalog";
    stage.cluster.query("postgres", fake).expect("it is made");
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'halephant'";
    stage.cluster.query("postgres", end).expect("they end");
    let connect =
        |login: &Login, parameters: &[(&str, &str)]| Client::connect_with(login, 0, parameters).map(drop);
    for parameters in [&[][..], &[("search_path", "evil")], &[("options", "-c search_path=evil")]] {
        connect(&stage.transaction(), parameters).unwrap_or_else(|error| panic!("{parameters:?}: {error:#}"));
        let error = connect(&stage.transaction().password("evil"), parameters).expect_err("it is another's");
        assert!(error.to_string().contains("28P01"), "{parameters:?}: {error}");
    }
}

/// Nothing that a startup packet asks for happens before its sender has proved who it is.
#[test]
fn startup_parameters_wait_for_the_password() {
    let ruled = Ruled::with("host all all all scram-sha-256", Cluster::builder(), |config| {
        config.set("server.throttle.failures", 0)
    });
    let stage = &ruled.stage;
    let wrong = stage.transaction().password("wrong");
    for (name, value) in [
        ("options", "-c no_such_parameter=1"),
        ("client_encoding", "nonsense"),
        ("search_path", "a, b"),
        ("default_transaction_read_only", "maybe"),
        ("options", &"x".repeat(4096)),
    ] {
        let mut client = Client::open(&wrong).expect("it accepts");
        let parameters = [("user", "app"), ("database", "app"), (name, value)];
        client.send(&encode::startup(3, 0, &parameters)).expect("it reads");
        let error = client.authenticate("wrong").expect_err("it is wrong").to_string();
        assert!(error.contains("28P01"), "{name}: {error}");
    }
    assert_eq!(stage.server_connections().expect("it answers"), 0, "nothing was opened for it");
    assert_eq!(outcome(&stage.transaction()), Ok(()));
}

/// The iterations that a client is told of.
fn iterations(login: &Login) -> String {
    let mut client = Client::open(login).expect("it accepts");
    let parameters = [("user", login.user.as_str()), ("database", login.database.as_str())];
    client.send(&encode::startup(3, 0, &parameters)).expect("it reads");
    client.authenticate("wrong").expect_err("it is refused");
    let challenge = &client.greeting[1];
    let text = String::from_utf8_lossy(&challenge.body[4..]).into_owned();
    text.rsplit(",i=").next().expect("it has iterations").to_owned()
}

/// A verifier of PostgreSQL's form with so many iterations.
fn verifier(password: &str, iterations: u32) -> String {
    let iterations = std::num::NonZeroU32::new(iterations).expect("not zero");
    Verifier::derive(password.as_bytes(), b"sixteen bytes...", iterations).encode().to_string()
}

/// Where users of a cluster have more iterations than PostgreSQL's default, so do those that there are not, from the first on.
#[test]
fn unknown_users_have_the_iterations_of_their_cluster() {
    let (ruled, second) = two_clusters("host all all all scram-sha-256");
    let change = format!("ALTER ROLE app PASSWORD '{}'", verifier("second-password", 9000));
    second.query("postgres", &change).expect("it is stored as it is");
    let first = ruled.stage.transaction();
    let other = first.clone().database("second");
    for _ in 0..2 {
        assert_eq!(iterations(&as_user(other.clone(), "nobody", "")), "9000");
        assert_eq!(iterations(&as_user(first.clone(), "nobody", "")), "4096");
        assert_eq!((iterations(&first), iterations(&other)), ("4096".to_owned(), "9000".to_owned()));
    }
}

/// Nobody can be asked about users, whether there are any of that name or not: it is not counted against either.
#[test]
fn unknown_users_fail_like_known_ones_where_nobody_can_be_asked() {
    let mut ruled = Ruled::with("host all all all scram-sha-256", Cluster::builder(), |config| {
        config
            .set("cluster.main.auth.cache_ttl", "0s")
            .set("server.throttle.failures", 1)
            .set("server.throttle.delay", "1h")
            .set("server.throttle.max_delay", "1h")
    });
    ruled.stage.cluster.node_mut(0).kill().expect("it is ours");
    for _ in 0..3 {
        for user in ["app", "nobody"] {
            let login = as_user(ruled.stage.transaction(), user, "wrong");
            assert_eq!(outcome(&login).expect_err("nobody can be asked").0, "28P01", "{user}");
        }
    }
}

/// Unknown users are led through the same steps, by every method.
#[test]
fn unknown_users_see_what_known_ones_see() {
    let ruled = Ruled::new("host all all all scram-sha-256", Cluster::builder());
    let stage = &ruled.stage;
    let path = ruled.path("pg_hba.conf");
    for method in ["scram-sha-256", "password", "md5"] {
        ruled.write("pg_hba.conf", &format!("host all all all {method}\n"));
        let config = Stage::config(&stage.cluster).set("server.hba", path.to_str().expect("it is UTF-8"));
        assert!(super::pki::reload(stage, &config), "{method}");
        let steps = |user: &str| {
            let login = as_user(stage.session(), user, "wrong");
            let mut client = Client::open(&login).expect("it accepts");
            let parameters = [("user", user), ("database", "app_session")];
            client.send(&encode::startup(3, 0, &parameters)).expect("it reads");
            client.authenticate("wrong").expect_err("it is refused");
            client.greeting.iter().map(|message| (message.tag, message.body.len())).collect::<Vec<_>>()
        };
        assert_eq!(steps("app"), steps("ape"), "{method}");
    }
}
