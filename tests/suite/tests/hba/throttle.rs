//! Failed logins slow down whoever fails, and nobody else.

use super::stage::{Ruled, as_user, outcome};
use halephant_harness::port::Port;
use halephant_harness::{Cluster, Login, wait_for};
use halephant_suite::http;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

fn at(login: Login, host: &str) -> Login {
    Login { host: host.into(), ..login }
}

/// A sample of the metrics page.
fn metric(port: u16, name: &str) -> u64 {
    let page = http::get(port, "/metrics").expect("it answers").body;
    let line = page.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {page}"));
    let value = line.rsplit(' ').next().expect("a value");
    value.parse::<f64>().expect("a number") as u64
}

#[test]
fn who_fails_has_to_wait_and_nobody_else() {
    let port = Port::pick().expect("one is free");
    let admin = port.number();
    let builder = Cluster::builder().role("other", "other-password");
    let ruled = Ruled::with("host all all all scram-sha-256", builder, |config| {
        config
            .pool("app_session", "session", 10, &["app", "other"])
            .set("server.throttle.failures", 3)
            .set("server.throttle.delay", "1s")
            .set("admin.listen", format!("127.0.0.1:{admin}"))
    });
    let stage = &ruled.stage;
    let wrong = stage.session().password("wrong");
    let other = as_user(stage.session(), "other", "other-password");
    for _ in 0..3 {
        assert_eq!(outcome(&wrong).expect_err("it is wrong").0, "28P01");
    }
    // Also with the right password; a user that does not exist is told the same.
    let (state, text) = outcome(&stage.session()).expect_err("it has to wait");
    assert_eq!(state, "28000");
    assert!(text.starts_with("too many failed logins; try again in"), "{text}");
    for _ in 0..3 {
        let nobody = ruled.try_as("nobody", "wrong").expect_err("it is unknown");
        assert_eq!(nobody.0, "28P01");
    }
    assert_eq!(ruled.try_as("nobody", "wrong").expect_err("it has to wait").0, "28000");

    assert_eq!(outcome(&other), Ok(()), "another user at the same address");
    assert_eq!(outcome(&at(stage.session(), "::1")), Ok(()), "the same user from elsewhere");
    wait_for("the wait to be over", LIMIT, || Ok(outcome(&stage.session()).is_ok().then_some(())))
        .expect("it ends");
    assert_eq!(outcome(&stage.session()), Ok(()), "a success ends it");

    assert!(metric(admin, "halephant_client_login_failures_total{reason=\"password\"}") >= 6);
    assert!(metric(admin, "halephant_client_login_failures_total{reason=\"throttled\"}") >= 2);
    assert!(metric(admin, "halephant_client_logins_total") >= 4);
    assert!(metric(admin, "halephant_client_throttle_entries") > 0);
}

/// Many at the same time get no more tries than one after the other.
#[test]
fn failures_in_parallel_gain_nothing() {
    let ruled = Ruled::with("host all all all password", Cluster::builder(), |config| {
        config
            .set("server.throttle.failures", 1)
            .set("server.throttle.delay", "1h")
            .set("server.throttle.max_delay", "1h")
    });
    let wrong = ruled.stage.session().password("wrong");
    assert_eq!(outcome(&wrong).expect_err("it is wrong").0, "28P01");
    let tries: Vec<_> = (0..20)
        .map(|_| {
            let wrong = wrong.clone();
            std::thread::spawn(move || outcome(&wrong).expect_err("it is wrong").0)
        })
        .collect();
    let states: Vec<_> = tries.into_iter().map(|thread| thread.join().expect("it ends")).collect();
    assert!(states.iter().all(|state| state == "28000"), "{states:?}");
}

/// Logins that began together: all of them have been asked for their password before the first one answers.
#[test]
fn logins_that_began_together_gain_nothing() {
    const TRIES: usize = 12;
    for method in ["scram-sha-256", "password", "md5"] {
        let rules = format!("host all all all {method}");
        let ruled = Ruled::with(&rules, Cluster::builder(), |config| {
            config
                .set("server.throttle.failures", 3)
                .set("server.throttle.delay", "1h")
                .set("server.throttle.max_delay", "1h")
        });
        let together = std::sync::Barrier::new(TRIES);
        let attempt = || {
            let login = ruled.stage.session();
            let mut client = halephant_suite::Client::open(&login).expect("it accepts");
            let parameters = [("user", login.user.as_str()), ("database", login.database.as_str())];
            client.send(&halephant_suite::encode::startup(3, 0, &parameters)).expect("it reads");
            client.socket().and_then(|socket| Ok(socket.peek(&mut [0])?)).expect("it is asked");
            together.wait();
            let error = client.authenticate("wrong").expect_err("it is wrong");
            error.downcast::<halephant_suite::Refused>().expect("by an ErrorResponse").sqlstate()
        };
        let states: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..TRIES).map(|_| scope.spawn(attempt)).collect();
            threads.into_iter().map(|thread| thread.join().expect("it ends")).collect()
        });
        let looked_at = states.iter().filter(|state| *state == "28P01").count();
        assert_eq!(looked_at, 3, "{method}: {states:?}");
        assert!(
            states.iter().all(|state| matches!(state.as_str(), "28P01" | "28000")),
            "{method}: {states:?}"
        );
    }
}

/// An application that opens all of its connections at once.
#[test]
fn logins_that_began_together_and_are_right_get_in() {
    for method in ["scram-sha-256", "password"] {
        let rules = format!("host all all all {method}");
        let ruled = Ruled::with(&rules, Cluster::builder(), |config| {
            config
                .set("server.throttle.failures", 1)
                .set("server.throttle.delay", "1h")
                .set("server.throttle.max_delay", "1h")
        });
        let login = ruled.stage.transaction();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..12).map(|_| scope.spawn(|| outcome(&login))).collect();
            for thread in threads {
                assert_eq!(thread.join().expect("it ends"), Ok(()), "{method}");
            }
        });
    }
}

/// Users of one name in two clusters are two.
#[test]
fn who_fails_at_one_cluster_is_not_refused_at_another() {
    let second =
        Cluster::builder().role("app", "second-password").database("app", "app").start().expect("it starts");
    let address = second.primary().address();
    let ruled = Ruled::with("host all all all scram-sha-256", Cluster::builder(), |config| {
        config
            .set("server.throttle.failures", 2)
            .set("server.throttle.delay", "1h")
            .set("server.throttle.max_delay", "1h")
            .set("cluster.second.nodes", vec![address])
            .set("cluster.second.admin_user", "halephant")
            .set("cluster.second.pool.second.database", "app")
            .set("cluster.second.pool.second.user.app.max_connections.primary", 5)
    });
    let first = ruled.stage.transaction();
    let other = first.clone().database("second").password("second-password");
    let wrong = first.clone().password("wrong");
    for _ in 0..2 {
        assert_eq!(outcome(&wrong).expect_err("it is wrong").0, "28P01");
    }
    assert_eq!(outcome(&first).expect_err("it has to wait").0, "28000");
    assert_eq!(outcome(&ruled.stage.session()).expect_err("in each of the cluster's pools").0, "28000");
    assert_eq!(outcome(&other), Ok(()), "another user of the same name");
    assert_eq!(outcome(&first).expect_err("which helps nobody here").0, "28000");
}

/// Who asks and goes away has not failed: psql does so before it asks its user.
#[test]
fn a_client_that_leaves_has_not_failed() {
    let ruled = Ruled::with("host all all all scram-sha-256", Cluster::builder(), |config| {
        config
            .set("server.throttle.failures", 1)
            .set("server.throttle.delay", "1h")
            .set("server.throttle.max_delay", "1h")
    });
    let stage = &ruled.stage;
    for _ in 0..5 {
        let mut client = halephant_suite::Client::open(&stage.session()).expect("it accepts");
        let parameters = [("user", "app"), ("database", "app_session")];
        client.send(&halephant_suite::encode::startup(3, 0, &parameters)).expect("it reads");
        assert_eq!(client.receive().expect("it is asked").tag, b'R');
        client.cut();
    }
    assert_eq!(outcome(&stage.session()), Ok(()));
}
