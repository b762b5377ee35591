//! libpq, through psql: the system's, and the newest one in its place.

use super::{Attempt, Binding, End, Ended, Habits, Maker, Mode, Negotiation};
use crate::pki::text;
use anyhow::{Context, Result};
use halephant_harness::postgres::Binaries;
use halephant_harness::{Login, command};
use halephant_suite::stage;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
/// Processes at a time.
const AT_ONCE: usize = 4;

const HABITS: Habits =
    Habits { checks_below_verify: true, falls_back: true, knows_revoked: true, shows_by_issuer: false };

/// A libpq for psql.
pub struct Libpq {
    name: String,
    psql: PathBuf,
    /// Loaded ahead of psql's own.
    library: Option<PathBuf>,
}

impl Libpq {
    pub fn system() -> Self {
        let binaries = Binaries::find().expect("PostgreSQL is installed");
        let psql = binaries.tool("psql").expect("psql is installed");
        Self { name: format!("psql and libpq {}", binaries.version), psql, library: None }
    }

    /// The npm package of PostgreSQL 18 has libpq and no psql; the system's psql runs on either.
    pub fn newest() -> Option<Self> {
        let found = Binaries::major(18).and_then(|binaries| {
            let home = binaries.directory().parent().context("bin is in a directory")?.to_path_buf();
            let library = home.join("lib/libpq.so.5");
            anyhow::ensure!(library.is_file(), "{} is missing", library.display());
            Ok(library)
        });
        match found {
            Ok(library) => {
                Some(Self { name: "psql on libpq 18".into(), library: Some(library), ..Self::system() })
            }
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "libpq 18 is missing: {error:#}");
                eprintln!("libpq 18 is missing, left out: {error:#}");
                None
            }
        }
    }

    fn command(&self, attempt: &Attempt) -> Command {
        let mut psql = Command::new(&self.psql);
        psql.args(["--no-psqlrc", "--no-password", "--quiet"]);
        let login = Login {
            host: "localhost".into(),
            port: attempt.port,
            database: stage::DATABASE.into(),
            user: stage::ROLE.into(),
            password: stage::PASSWORD.into(),
        };
        login.apply(&mut psql);
        let nowhere = || "/nonexistent".to_owned();
        psql.envs(self.library.as_ref().map(|library| ("LD_PRELOAD", library)))
            .env("HOME", "/nonexistent")
            .env("PGGSSENCMODE", "disable")
            .env("PGSSLMODE", attempt.mode.as_str())
            .env("PGCHANNELBINDING", attempt.binding.name())
            .env("PGSSLROOTCERT", attempt.ca.as_deref().map_or_else(nowhere, text))
            .env("PGSSLCRL", attempt.crl.as_deref().map_or_else(nowhere, text));
        if attempt.negotiation == Negotiation::Direct {
            psql.env("PGSSLNEGOTIATION", "direct");
        }
        if let Some(files) = &attempt.identity {
            psql.env("PGSSLCERT", text(&files.certificate)).env("PGSSLKEY", text(&files.key));
        }
        psql.args(["--command", "\\conninfo", "--command", "SELECT 1"]);
        psql
    }

    fn make(&self, attempt: &Attempt) -> Result<Ended> {
        let output = command::run(&mut self.command(attempt), LIMIT)?;
        let is_encrypted = String::from_utf8_lossy(&output.stdout).contains("SSL connection");
        let end = match (output.status.success(), is_encrypted) {
            (true, true) => End::Tls,
            (true, false) => End::Clear,
            (false, _) => End::Refused,
        };
        Ok(Ended { end, said: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
    }
}

pub(super) fn maker(libpq: Libpq) -> Maker {
    let negotiations: &[Negotiation] = match libpq.library {
        Some(_) => &[Negotiation::Postgres, Negotiation::Direct],
        None => &[Negotiation::Postgres],
    };
    Maker {
        name: libpq.name.clone(),
        habits: HABITS,
        modes: &Mode::ALL,
        negotiations,
        bindings: &[Binding::Disable, Binding::Prefer, Binding::Require],
        make: Box::new(move |attempts| {
            let part = attempts.len().div_ceil(AT_ONCE).max(1);
            std::thread::scope(|scope| {
                let all = |part: &[Attempt]| part.iter().map(|attempt| libpq.make(attempt)).collect();
                let threads: Vec<_> =
                    attempts.chunks(part).map(|part| scope.spawn(move || all(part))).collect();
                let ended = threads.into_iter().map(|thread| thread.join().expect("it does not panic"));
                ended.collect::<Result<Vec<Vec<Ended>>>>().map(|parts| parts.concat())
            })
        }),
    }
}
