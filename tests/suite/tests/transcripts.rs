//! The same transcript, byte for byte, direct and through halephant.

use anyhow::Result;
use halephant_harness::{Binaries, Cluster, Login, psql};
use halephant_suite::script::{Cut, Script, Transcript};
use halephant_suite::{Client, Stage, scripts, stage};

/// Each may cost the wait for a message that does not come.
const FAILURES_SHOWN: usize = 8;

/// What else goes on in the database.
const OTHERS: &str = "SELECT concat_ws(' ', pid, state, wait_event, query) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()";
const END_OTHERS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()";

/// The scripts, and what each gives on a direct connection.
struct Expected {
    scripts: Vec<(Script, Transcript)>,
    owner: Client,
}

impl Expected {
    fn of(cluster: &Cluster) -> Self {
        let direct = cluster.login(stage::ROLE, stage::DATABASE);
        psql::query(cluster.binaries(), &direct, scripts::SCHEMA).expect("the schema is right");
        let mut owner = Client::connect(&direct).expect("the owner may log in");
        owner.query("SET lock_timeout = '5s'").expect("it may be set");
        let mut play = |script: Script| {
            let transcript =
                play(&script, &direct, Cut::Whole, &mut owner).expect("PostgreSQL itself plays it");
            (script, transcript)
        };
        let major = cluster.binaries().version.major;
        let scripts = scripts::all().into_iter().filter(|script| script.is_for(major));
        Self { scripts: scripts.map(&mut play).collect(), owner }
    }

    /// Every script by `login`, against what it gives direct.
    fn compare(&mut self, login: &Login, cut: Cut, session: bool) {
        let mut failures = Vec::new();
        for (script, expected) in self.scripts.iter().filter(|(script, _)| session || !script.session_only) {
            match play(script, login, cut, &mut self.owner) {
                Ok(found) => failures
                    .extend(expected.difference(&found).map(|text| format!("{}: {text}", script.name))),
                Err(error) => failures.push(format!("{}: {error:#}", script.name)),
            }
            if failures.len() > FAILURES_SHOWN {
                break;
            }
        }
        assert!(failures.is_empty(), "{} scripts\n{}", failures.len(), failures.join("\n"));
    }
}

/// Plays `script` from the same state of the tables each time. What a script leaves open would be in the way of the
/// next: that is this script's failure, and is ended.
fn play(script: &Script, login: &Login, cut: Cut, owner: &mut Client) -> Result<Transcript> {
    let played = script.play(login, cut, owner);
    let reset = owner.values(scripts::RESET).map_err(|error| {
        let others = owner.values(OTHERS).unwrap_or_default();
        error.context(format!("left behind: {}", others.join("; ")))
    });
    if played.is_err() || reset.is_err() {
        owner.values(END_OTHERS)?;
        owner.values(scripts::RESET)?;
    }
    reset.and(played)
}

/// What the comparison itself is worth: PostgreSQL against PostgreSQL.
#[test]
fn direct_and_direct() {
    let builder =
        Cluster::builder().role(stage::ROLE, stage::PASSWORD).database(stage::DATABASE, stage::ROLE);
    let cluster = builder.start().expect("it starts");
    Expected::of(&cluster).compare(&cluster.login(stage::ROLE, stage::DATABASE), Cut::Bytes, true);
}

fn stage() -> (Stage, Expected) {
    let stage = Stage::new().expect("it starts");
    let expected = Expected::of(&stage.cluster);
    (stage, expected)
}

#[test]
fn session_mode() {
    let (stage, mut expected) = stage();
    expected.compare(&stage.session(), Cut::Whole, true);
}

#[test]
fn session_mode_in_small_segments() {
    let (stage, mut expected) = stage();
    expected.compare(&stage.session(), Cut::Bytes, true);
}

#[test]
fn transaction_mode() {
    let (stage, mut expected) = stage();
    expected.compare(&stage.transaction(), Cut::Whole, false);
}

#[test]
fn transaction_mode_in_small_segments() {
    let (stage, mut expected) = stage();
    expected.compare(&stage.transaction(), Cut::Bytes, false);
}

/// From the first AuthenticationRequest to ReadyForQuery: what may differ is what the server chooses.
#[test]
fn logins() {
    compare_logins(&Stage::new().expect("it starts"));
}

fn compare_logins(stage: &Stage) {
    let parameters: [&[(&str, &str)]; 3] = [
        &[],
        &[("application_name", "transcript"), ("client_encoding", "UTF8")],
        &[("application_name", "Ünïcode"), ("datestyle", "German"), ("timezone", "Europe/Berlin")],
    ];
    for parameters in parameters {
        let greeting = |login: &Login| {
            let client = Client::connect_with(login, 0, parameters).expect("it may log in");
            Transcript::of_greeting(&client)
        };
        let direct = greeting(&stage.direct());
        for login in [stage.session(), stage.transaction()] {
            if let Some(difference) = direct.difference(&greeting(&login)) {
                panic!("{parameters:?}: {difference}");
            }
        }
    }
}

/// One test for each major version, so that they run beside one another and a failure names its version: the logins, and the
/// scripts in both modes.
macro_rules! versions {
    ($($name:ident: $major:literal,)*) => {
        mod versions {
            $(#[test] fn $name() { super::compare_version($major); })*

            #[test]
            fn all_that_there_are() {
                assert!(halephant_harness::postgres::embedded::majors().eq([$($major),*]));
            }
        }
    };
}

versions! { postgresql_13: 13, postgresql_14: 14, postgresql_15: 15, postgresql_16: 16, postgresql_17: 17, postgresql_18: 18, }

fn compare_version(major: u32) {
    let binaries = match Binaries::major(major) {
        Ok(binaries) => binaries,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "PostgreSQL {major} is missing: {error:#}");
            return eprintln!("PostgreSQL {major} is missing, left out: {error:#}");
        }
    };
    let stage = Stage::with(Cluster::builder().binaries(binaries), |config| config).expect("it starts");
    let mut expected = Expected::of(&stage.cluster);
    compare_logins(&stage);
    expected.compare(&stage.session(), Cut::Whole, true);
    expected.compare(&stage.transaction(), Cut::Whole, false);
}
