//! The same transcript, byte for byte, direct and through halephant.

use anyhow::Result;
use halephant_harness::{Cluster, Login, psql};
use halephant_suite::script::{Cut, Script, Transcript};
use halephant_suite::{Client, scripts, stage};

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
        let mut play = |script: Script| {
            let transcript =
                play(&script, &direct, Cut::Whole, &mut owner).expect("PostgreSQL itself plays it");
            (script, transcript)
        };
        Self { scripts: scripts::all().into_iter().map(&mut play).collect(), owner }
    }

    /// Every script by `login`, against what it gives direct.
    fn compare(&mut self, login: &Login, cut: Cut, session: bool) {
        let mut failures = Vec::new();
        for (script, expected) in self.scripts.iter().filter(|(script, _)| session || !script.session_only) {
            match play(script, login, cut, &mut self.owner) {
                Ok(found) => failures
                    .extend(expected.difference(&found).map(|text| format!("{}: {text}", script.name))),
                Err(error) => failures.push(format!("{error:#}")),
            }
        }
        assert!(failures.is_empty(), "{} scripts\n{}", failures.len(), failures.join("\n"));
    }
}

/// Plays `script` from the same state of the tables each time.
fn play(script: &Script, login: &Login, cut: Cut, owner: &mut Client) -> Result<Transcript> {
    owner.values(scripts::RESET)?;
    script.play(login, cut, owner)
}

/// What the comparison itself is worth: PostgreSQL against PostgreSQL.
#[test]
fn direct_and_direct() {
    let builder =
        Cluster::builder().role(stage::ROLE, stage::PASSWORD).database(stage::DATABASE, stage::ROLE);
    let cluster = builder.start().expect("it starts");
    Expected::of(&cluster).compare(&cluster.login(stage::ROLE, stage::DATABASE), Cut::Bytes, true);
}
