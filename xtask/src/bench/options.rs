//! The command line, and what it asks for.

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

use super::lane::{self, Lane};
use super::measure::Pace;
use super::program::Program;
use crate::cargo;

#[derive(Args)]
pub struct Options {
    /// A set of lanes and programs; without it, everything
    preset: Option<Preset>,
    /// Show the lanes and leave
    #[arg(long)]
    pub list: bool,
    /// A lane, or several by `*`; may be repeated
    #[arg(long, value_name = "PATTERN")]
    lane: Vec<String>,
    /// A program; may be repeated. Without it, all that are here
    #[arg(long, value_enum)]
    program: Vec<Program>,
    /// How often each program is measured on each lane, in another order each time
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Of each measurement by pgbench
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// Only show that it works: a second each, little data, once. Nothing is judged
    #[arg(long)]
    quick: bool,
    /// Leave out the runs under strace that count system calls
    #[arg(long)]
    no_syscalls: bool,
    /// PgBouncer's program file; else it is looked for on PATH
    #[arg(long, value_name = "FILE")]
    pgbouncer: Option<PathBuf>,
    /// Odyssey's program file
    #[arg(long, value_name = "FILE")]
    odyssey: Option<PathBuf>,
    /// PgDog's program file
    #[arg(long, value_name = "FILE")]
    pgdog: Option<PathBuf>,
    /// PgCat's program file
    #[arg(long, value_name = "FILE")]
    pgcat: Option<PathBuf>,
    /// halephant's program file; else it is built, in release
    #[arg(long, value_name = "FILE")]
    halephant: Option<PathBuf>,
    /// Another program file of halephant, measured beside the first: before and after
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// A key of halephant's configuration, as in server.workers=1; may be repeated. Not for --baseline
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Where results go; else `bench` in the target directory
    #[arg(long, value_name = "DIRECTORY")]
    pub output: Option<PathBuf>,
    /// Measure nothing: report these earlier results.json as one
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub from: Vec<PathBuf>,
    /// Renew docs/performance.md
    #[arg(long)]
    pub save: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Preset {
    /// The kernel path against userspace: session mode
    Splice,
}

/// What is to be measured, with what.
pub struct Plan {
    pub lanes: Vec<Lane>,
    pub programs: Vec<Program>,
    pub pace: Pace,
    pub quick: bool,
    pub syscalls: bool,
    pub halephant: PathBuf,
    /// Program files beside halephant's, by name.
    pub peers: BTreeMap<&'static str, PathBuf>,
    /// Of halephant's configuration, beyond what the benchmark needs.
    pub settings: Vec<(String, toml::Value)>,
    /// As a reader would type it.
    pub command: String,
}

const SPLICE_LANES: [&str; 6] = [
    "session-prepared-*",
    "session-simple-*",
    "session-select-1gb",
    "session-copy-out-1gb",
    "session-copy-in-1gb",
    "session-*-remote-*",
];

/// One of each kind, with few clients.
const QUICK_LANES: [&str; 10] = [
    "session-prepared-8",
    "transaction-simple-8",
    "transaction-connect-8",
    "transaction-tls-8",
    "session-select-1gb",
    "session-copy-in-1gb",
    "session-prepared-8-remote-client",
    "session-prepared-8-remote-server",
    "transaction-idle",
    "transaction-storm",
];

const SPLICE_PROGRAMS: [Program; 7] = [
    Program::Direct,
    Program::Pgbouncer,
    Program::Halephant,
    Program::HalephantOwn,
    Program::HalephantColocated,
    Program::HalephantServerLocal,
    Program::HalephantClientLocal,
];

impl Options {
    pub fn plan(&self) -> Result<Plan> {
        if self.rounds == 0 || self.seconds == 0 {
            bail!("--rounds and --seconds are at least 1");
        }
        let peers = self.peers()?;
        let programs = self.programs(&peers);
        Ok(Plan {
            lanes: self.lanes()?,
            programs,
            pace: self.pace(),
            quick: self.quick,
            syscalls: !self.no_syscalls,
            halephant: match &self.halephant {
                Some(file) => absolute(file)?,
                // A quick run judges nothing, so it need not wait for the optimiser.
                None => cargo::build_halephant(!self.quick)?,
            },
            peers,
            settings: self.set.iter().map(|text| setting(text)).collect::<Result<_>>()?,
            command: command_line(),
        })
    }

    fn pace(&self) -> Pace {
        if self.quick {
            return Pace { rounds: 1, seconds: 1, bulk_share: 100, idle: [20, 40], storm_logins: 50 };
        }
        Pace {
            rounds: self.rounds,
            seconds: self.seconds,
            bulk_share: 1,
            idle: [1000, 10_000],
            storm_logins: 2000,
        }
    }

    fn lanes(&self) -> Result<Vec<Lane>> {
        let default: &[&str] = match self.preset {
            Some(Preset::Splice) => &SPLICE_LANES,
            None if self.quick => &QUICK_LANES,
            None => &["*"],
        };
        if self.lane.is_empty() {
            return lane::select(&default.iter().map(|&pattern| pattern.to_owned()).collect::<Vec<_>>());
        }
        lane::select(&self.lane)
    }

    /// Those asked for, or all: of the other poolers PgBouncer always, so that its absence shows, the rest where their
    /// program files are known.
    fn programs(&self, peers: &BTreeMap<&'static str, PathBuf>) -> Vec<Program> {
        let is_here = |program: &Program| program.peer().is_none_or(|name| peers.contains_key(name));
        match self.preset {
            _ if !self.program.is_empty() => self.program.clone(),
            Some(Preset::Splice) => SPLICE_PROGRAMS.to_vec(),
            None => Program::value_variants()
                .iter()
                .copied()
                .filter(|program| *program == Program::Pgbouncer || is_here(program))
                .collect(),
        }
    }

    fn peers(&self) -> Result<BTreeMap<&'static str, PathBuf>> {
        let given = [
            ("pgbouncer", self.pgbouncer.clone().or_else(|| on_path("pgbouncer"))),
            ("odyssey", self.odyssey.clone()),
            ("pgdog", self.pgdog.clone()),
            ("pgcat", self.pgcat.clone()),
            ("baseline", self.baseline.clone()),
        ];
        let given = given.into_iter().filter_map(|(name, file)| Some((name, file?)));
        given.map(|(name, file)| Ok((name, absolute(&file)?))).collect()
    }
}

/// A value as TOML has it; what is none is a string.
fn setting(text: &str) -> Result<(String, toml::Value)> {
    let (key, value) = text.split_once('=').with_context(|| format!("--set {text:?} has no ="))?;
    let table: std::result::Result<toml::Table, _> = format!("value = {value}").parse();
    let value = table.ok().and_then(|mut table| table.remove("value"));
    let string = || text[key.len() + 1..].into();
    Ok((key.to_owned(), value.unwrap_or_else(string)))
}

/// Programs are started in a directory of their own.
fn absolute(file: &Path) -> Result<PathBuf> {
    file.canonicalize().with_context(|| format!("there is no program {}", file.display()))
}

/// On PATH, or where Debian keeps what it thinks is for root alone.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let more = [PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")];
    env::split_paths(&path).chain(more).map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// This command with no path of this machine: a program file is shown by its name.
fn command_line() -> String {
    let shorten = |word: String| match word.split_once('=') {
        Some((option, value)) if value.contains('/') => format!("{option}={}", base(value)),
        None if word.contains('/') => base(&word),
        _ if word.contains('*') => format!("'{word}'"),
        _ => word,
    };
    let words: Vec<String> =
        env::args_os().skip(1).map(|word| shorten(word.to_string_lossy().into_owned())).collect();
    format!("cargo xtask {}", words.join(" "))
}

fn base(path: &str) -> String {
    Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
