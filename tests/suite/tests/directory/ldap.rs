//! `ldap`, with slapd and with PostgreSQL as the referee.

use crate::pki::{LIMIT, Pki, reload};
use crate::slapd::{self, PASSWORD, Slapd, finder};
use crate::stage::{Ruled, as_user, outcome};
use crate::{config, failed, is_installed, patient};
use halephant_harness::postgres::cluster::Builder;
use halephant_harness::{Cluster, Login};
use halephant_suite::stage::ROLE;

/// Passwords that servers are logged in to with; the directory has others.
const PGPASS: &str = "*:*:*:app:app-password";
const AWKWARD: &str = "ann, lee (b)*";

fn ruled(rules: &str, builder: Builder) -> Ruled {
    Ruled::with(rules, builder, |config| patient(config).pgpass(PGPASS))
}

fn rule(options: &str) -> String {
    format!("host all all all ldap {options}\n")
}

/// Both ways, and every way to encrypt: the right password and no other.
#[test]
fn the_directory_decides() {
    if !is_installed(slapd::PROGRAM) {
        return;
    }
    let slapd = Slapd::start();
    let bind = "ldapprefix=\"uid=\" ldapsuffix=\",ou=people,dc=example,dc=net\"";
    let (plain, ca, finder) = (slapd.plain(), slapd.ca(), finder());
    let port = slapd.tls_port.number();
    let variants = [
        format!("{plain} {bind}"),
        format!("{plain} {finder}"),
        format!("{plain} {finder} ldapsearchattribute=mail"),
        format!(
            "{plain} {finder} ldapsearchfilter=\"(&(objectClass=inetOrgPerson)(|(uid=$username)(mail=$username)))\""
        ),
        format!("{plain} ldaptls=1 ldapca={ca} {finder}"),
        format!("{plain} ldaptls=1 ldapca={ca} {bind}"),
        format!("ldapserver=localhost ldapport={port} ldapscheme=ldaps ldapca={ca} {bind}"),
        format!(
            "ldapurl=\"ldaps://127.0.0.1:{port}/dc=example,dc=net?uid?sub\" ldapca={ca} ldapbinddn=\"{}\" ldapbindpasswd={}",
            slapd::FINDER,
            slapd::FINDER_PASSWORD
        ),
    ];
    let ruled = ruled(&rule(&variants[0]), Cluster::builder());
    let stage = &ruled.stage;
    for variant in &variants {
        ruled.write("pg_hba.conf", &rule(variant));
        assert!(reload(stage, &config(&ruled).pgpass(PGPASS)), "{variant}: {}", stage.proxy.log_tail());
        // By this attribute the user's name is another.
        let wanted = if variant.ends_with("mail") { failed("LDAP", ROLE) } else { Ok(()) };
        for login in [stage.transaction(), stage.session()] {
            assert_eq!(
                outcome(&login.clone().password(PASSWORD)),
                wanted,
                "{variant}: {}",
                stage.proxy.log_tail()
            );
            assert_eq!(outcome(&login.password("wrong")), failed("LDAP", ROLE), "{variant}");
        }
        assert_eq!(ruled.try_as("nobody", PASSWORD), failed("LDAP", "nobody"), "{variant}");
        assert_eq!(ruled.try_as(ROLE, "").expect_err("it is empty").0, "28P01", "{variant}");
    }
    assert!(!stage.proxy.log().contains(slapd::FINDER_PASSWORD) && !stage.proxy.log().contains(PASSWORD));
}

/// The same rules, asked of PostgreSQL itself.
#[test]
fn postgresql_says_the_same() {
    if !is_installed(slapd::PROGRAM) {
        return;
    }
    let slapd = Slapd::start();
    for options in [
        format!("{} {}", slapd.plain(), finder()),
        format!("{} ldapprefix=\"uid=\" ldapsuffix=\",ou=people,dc=example,dc=net\"", slapd.plain()),
    ] {
        let builder = ["app", "twin", "ghost"].iter().fold(Cluster::builder(), |builder, user| {
            builder.hba(&format!("host app {user} ::1/128 ldap {options}"))
        });
        let builder = builder.role("twin", "twin-password").role("ghost", "ghost-password");
        let ruled = Ruled::with(&rule(&options), builder, |config| {
            patient(config)
                .pool("app", "transaction", 5, &["app", "twin", "ghost"])
                .pgpass(PGPASS)
                .pgpass("*:*:*:twin:twin-password")
        });
        let stage = &ruled.stage;
        for (user, password) in
            [("app", PASSWORD), ("app", "wrong"), ("app", ""), ("twin", PASSWORD), ("ghost", PASSWORD)]
        {
            let direct = as_user(Login { host: "::1".into(), ..stage.direct() }, user, password);
            let told = outcome(&as_user(stage.transaction(), user, password));
            assert_eq!(told, outcome(&direct), "{user} {password:?}: {}", stage.proxy.log_tail());
        }
    }
}

/// Names are names, whatever they look like in a filter or a distinguished name.
#[test]
fn a_name_cannot_change_the_question() {
    if !is_installed(slapd::PROGRAM) {
        return;
    }
    let slapd = Slapd::start();
    let search = format!("{} {}", slapd.plain(), finder());
    let ruled = ruled(&rule(&search), Cluster::builder());
    let stage = &ruled.stage;
    for (user, shown) in [("*", "(uid=\\2a)"), ("app)(uid=*", "(uid=app\\29\\28uid=\\2a)")] {
        assert_eq!(ruled.try_as(user, PASSWORD), failed("LDAP", user));
        let told = format!("the directory has no entry with {shown}");
        stage.proxy.wait_for_log(&told, 1, LIMIT).expect("it says so");
    }
    // The directory knows this one: its password is right, and it is no user of ours.
    for options in
        [search, format!("{} ldapprefix=\"uid=\" ldapsuffix=\",ou=people,dc=example,dc=net\"", slapd.plain())]
    {
        ruled.write("pg_hba.conf", &rule(&options));
        assert!(reload(stage, &config(&ruled).pgpass(PGPASS)));
        let told = ruled.try_as(AWKWARD, PASSWORD).expect_err("it is not configured");
        assert_eq!(told, ("28000".into(), format!("role \"{AWKWARD}\" does not exist")), "{options}");
        assert_eq!(ruled.try_as(AWKWARD, "wrong"), failed("LDAP", AWKWARD), "{options}");
    }
    assert_eq!(ruled.try_as("app,ou=people", PASSWORD), failed("LDAP", "app,ou=people"));
}

/// Who cannot be asked has not said no: it is logged, the client learns nothing, and it is not counted against it.
#[test]
fn a_server_that_is_down_is_nobodys_fault() {
    if !is_installed(slapd::PROGRAM) {
        return;
    }
    let mut slapd = Slapd::start();
    let rules = rule(&format!("{} {}", slapd.plain(), finder()));
    let ruled = Ruled::with(&rules, Cluster::builder(), |config| {
        config
            .pgpass(PGPASS)
            .set("server.throttle.failures", 2)
            .set("server.throttle.delay", "1h")
            .set("server.throttle.max_delay", "1h")
    });
    let stage = &ruled.stage;
    let login = stage.transaction().password(PASSWORD);
    slapd.stop();
    for _ in 0..5 {
        assert_eq!(outcome(&login), failed("LDAP", ROLE));
    }
    stage.proxy.wait_for_log("no LDAP server can be asked: 127.0.0.1", 5, LIMIT).expect("it says why");
    slapd.run();
    assert_eq!(outcome(&login), Ok(()));
    // What is wrong with who searches is not the client's fault either; a wrong password is.
    for _ in 0..2 {
        assert_eq!(outcome(&login.clone().password("wrong")), failed("LDAP", ROLE));
    }
    let told = outcome(&login).expect_err("it has to wait");
    assert!(told.1.starts_with("too many failed logins"), "{told:?}");
}

/// The second server is asked where the first is gone, and a wrong search login is told as what it is.
#[test]
fn servers_are_asked_in_turn() {
    if !is_installed(slapd::PROGRAM) {
        return;
    }
    let slapd = Slapd::start();
    let options = slapd.plain().replace("127.0.0.1", "\"127.0.0.9 127.0.0.1\"");
    let ruled = ruled(&rule(&format!("{options} {}", finder())), Cluster::builder());
    let stage = &ruled.stage;
    let login = stage.transaction().password(PASSWORD);
    assert_eq!(outcome(&login), Ok(()), "{}", stage.proxy.log_tail());
    let wrong = finder().replace(slapd::FINDER_PASSWORD, "hush");
    ruled.write("pg_hba.conf", &rule(&format!("{options} {wrong}")));
    assert!(reload(stage, &config(&ruled).pgpass(PGPASS)));
    assert_eq!(outcome(&login), failed("LDAP", ROLE));
    stage.proxy.wait_for_log("the login for the search failed with code 49", 1, LIMIT).expect("it says so");
    assert!(!stage.proxy.log().contains("hush"));
}

/// One that takes connections and says nothing is left alone after a while.
#[test]
fn a_silent_server_does_not_hold_up_the_next() {
    if !is_installed(slapd::PROGRAM) {
        return;
    }
    let slapd = Slapd::start();
    let port = slapd.tls_port.number();
    let _silent = std::net::TcpListener::bind(("127.0.0.9", port)).expect("it is free");
    let ruled = ruled(
        &rule(&format!(
            "ldapserver=\"127.0.0.9 127.0.0.1\" ldapport={port} ldapscheme=ldaps ldapca={} {}",
            slapd.ca(),
            finder()
        )),
        Cluster::builder(),
    );
    let login = ruled.stage.transaction().password(PASSWORD);
    assert_eq!(outcome(&login), Ok(()), "{}", ruled.stage.proxy.log_tail());
}

/// Passwords are sent to nobody whose certificate is not from the authority, or has another name.
#[test]
fn a_server_has_to_be_who_it_is() {
    if !is_installed(slapd::PROGRAM) {
        return;
    }
    let slapd = Slapd::start();
    let stranger = Pki::new();
    let other = stranger.file("root.crt");
    let (plain, tls) = (slapd.port.number(), slapd.tls_port.number());
    let bind = "ldapprefix=\"uid=\" ldapsuffix=\",ou=people,dc=example,dc=net\"";
    let ruled = ruled(
        &rule(&format!("ldapserver=127.0.0.1 ldapport={tls} ldapscheme=ldaps ldapca={other} {bind}")),
        Cluster::builder(),
    );
    let stage = &ruled.stage;
    let login = stage.transaction().password(PASSWORD);
    assert_eq!(outcome(&login), failed("LDAP", ROLE));
    let refused = "TLS handshake failed: invalid peer certificate";
    stage.proxy.wait_for_log(refused, 1, LIMIT).expect("it says why");
    for (options, count) in [
        (format!("ldapserver=127.0.0.1 ldapport={plain} ldaptls=1 ldapca={other} {bind}"), 2),
        // The certificate has no such name.
        (format!("ldapserver=127.0.0.2 ldapport={tls} ldapscheme=ldaps ldapca={} {bind}", slapd.ca()), 2),
    ] {
        ruled.write("pg_hba.conf", &rule(&options));
        assert!(reload(stage, &config(&ruled).pgpass(PGPASS)));
        assert_eq!(outcome(&login), failed("LDAP", ROLE), "{options}");
        stage.proxy.wait_for_log(refused, count, LIMIT).expect("it says why");
    }
}

/// A server that asks the same directory is logged in to with the client's own password.
#[test]
fn the_password_is_passed_on_where_it_may_be() {
    if !is_installed(slapd::PROGRAM) {
        return;
    }
    let slapd = Slapd::start();
    let options = format!("{} {}", slapd.plain(), finder());
    let builder = Cluster::builder().hba(&format!("host app app all ldap {options}"));
    let ruled = Ruled::with(&rule(&options), builder, patient);
    let stage = &ruled.stage;
    let login = stage.transaction().password(PASSWORD);
    assert_eq!(outcome(&login).expect_err("there is no password for the server").0, "28P01");
    assert!(reload(stage, &config(&ruled).set("cluster.main.auth.password_passthrough", true)));
    assert_eq!(outcome(&login), Ok(()), "{}", stage.proxy.log_tail());
    assert_eq!(outcome(&login.clone().password("wrong")), failed("LDAP", ROLE));
    assert_eq!(outcome(&login), Ok(()), "a wrong password has replaced nothing");
}

#[test]
fn what_cannot_work_is_an_error_of_the_file() {
    let ruled = Ruled::with("host all all all scram-sha-256", Cluster::builder(), patient);
    let stage = &ruled.stage;
    for (options, words) in [
        (
            "ldapserver=h ldapbasedn=b ldapsearchfilter=\"(uid=$username\"",
            "pg_hba.conf:1: \"(uid=$username\" is not an LDAP filter",
        ),
        (
            "ldapserver=h ldapprefix=u ldaptls=1 ldapca=/nowhere/ca.crt",
            "pg_hba.conf:1: \"/nowhere/ca.crt\" cannot be read",
        ),
        (
            "ldapserver=h ldapbasedn=b ldapbinddn=c ldapbindpasswd hunter2",
            "pg_hba.conf:1: authentication option",
        ),
    ] {
        ruled.write("pg_hba.conf", &rule(options));
        assert!(!reload(stage, &config(&ruled)), "{options}");
        stage.proxy.wait_for_log(words, 1, LIMIT).unwrap_or_else(|error| panic!("{words}: {error:#}"));
    }
    assert!(!stage.proxy.log().contains("hunter2"));
    assert_eq!(outcome(&stage.transaction()), Ok(()), "the old rules hold");
}
