//! What runs the suites: interpreters and compilers of the system, and drivers from PyPI and npm that are kept under the
//! target directory.

use anyhow::{Context, Result, ensure};
use halephant_harness::{command, target};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(300);

/// Where the suites are, and what those in Python share.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers")
}

pub const PYTHON: [&str; 5] = [
    "psycopg[binary]==3.3.9",
    "asyncpg==0.32.0",
    "psycopg2-binary==2.9.13",
    "SQLAlchemy[asyncio]==2.1.9",
    "Django==5.2.19",
];
pub const NODE: [&str; 5] =
    ["pg@8.23.1", "pg-cursor@2.22.0", "pg-copy-streams@7.0.0", "pg-query-stream@4.17.0", "postgres@3.4.9"];
const JDBC: &str = "/usr/share/java/postgresql.jar";
/// Where Debian has the sources of Go's libraries.
const GOPATH: &str = "/usr/share/gocode";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Runtime {
    Python,
    Node,
    Java,
    Go,
    Ruby,
    Perl,
    Php,
}

/// A runtime that has its drivers.
#[derive(Clone, Debug)]
pub struct Installed {
    runtime: Runtime,
    program: PathBuf,
    /// Where its drivers are, for those that have to be told.
    drivers: PathBuf,
}

impl Runtime {
    /// `None`: it is not there, and nobody counts on it. `.ci/run` installs all of them.
    pub fn installed(self) -> Option<Installed> {
        // Tests of one process share it. Errors are kept, too, or each test would wait for the same one.
        static KNOWN: Mutex<Option<HashMap<Runtime, Result<Installed, String>>>> = Mutex::new(None);
        let mut known = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let found = known
            .get_or_insert_default()
            .entry(self)
            .or_insert_with(|| self.find().map_err(|error| format!("{error:#}")));
        match found {
            Ok(installed) => Some(installed.clone()),
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "{self:?} or its drivers are missing: {error}");
                eprintln!("{self:?} or its drivers are missing, left out: {error}");
                None
            }
        }
    }

    fn find(self) -> Result<Installed> {
        let installed =
            |program: &str| Installed { runtime: self, program: program.into(), drivers: PathBuf::new() };
        match self {
            Self::Python => python(),
            Self::Node => node(),
            Self::Java => {
                ensure!(Path::new(JDBC).exists(), "{JDBC} is missing (libpostgresql-jdbc-java)");
                command::succeed(Command::new("javac").arg("-version"), LIMIT)?;
                Ok(Installed { drivers: JDBC.into(), ..installed("java") })
            }
            Self::Go => {
                command::succeed(Command::new("go").arg("version"), LIMIT)?;
                for library in ["jackc/pgx/v4", "lib/pq"] {
                    let source = Path::new(GOPATH).join("src/github.com").join(library);
                    ensure!(source.exists(), "{} is missing", source.display());
                }
                Ok(Installed { drivers: GOPATH.into(), ..installed("go") })
            }
            Self::Ruby => probe(installed("ruby"), &["-e", "require 'pg'"]),
            Self::Perl => probe(installed("perl"), &["-e", "use DBD::Pg"]),
            Self::Php => probe(installed("php"), &["-r", "new ReflectionExtension('pdo_pgsql');"]),
        }
    }
}

fn probe(installed: Installed, arguments: &[&str]) -> Result<Installed> {
    command::succeed(Command::new(&installed.program).args(arguments), LIMIT)?;
    Ok(installed)
}

/// Held by whoever installs: tests are processes of their own under nextest.
fn lock() -> Result<std::fs::File> {
    let file = std::fs::File::create(target::cache("")?.join("drivers.lock"))?;
    file.lock()?;
    Ok(file)
}

/// The name of a directory that has exactly these, so that other versions get another one.
fn versions(packages: &[&str]) -> String {
    packages.join("-").replace(['[', ']', '=', '@'], "")
}

fn python() -> Result<Installed> {
    let _lock = lock()?;
    let home = target::cache(&format!("python-{}", versions(&PYTHON)))?;
    let (python, done) = (home.join("bin").join("python"), home.join("installed"));
    if !done.is_file() {
        let mut venv = Command::new("python3");
        command::succeed(venv.args(["-m", "venv", "--clear"]).arg(&home), LIMIT)?;
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(PYTHON);
        command::succeed(&mut pip, LIMIT)?;
        std::fs::write(&done, "")?;
    }
    Ok(Installed { runtime: Runtime::Python, program: python, drivers: directory() })
}

fn node() -> Result<Installed> {
    let _lock = lock()?;
    command::succeed(Command::new("node").arg("--version"), LIMIT)?;
    let home = target::cache(&format!("node-{}", versions(&NODE)))?;
    let done = home.join("installed");
    if !done.is_file() {
        std::fs::write(home.join("package.json"), "{\"private\": true}")?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund"]).args(NODE).current_dir(&home);
        command::succeed(&mut npm, LIMIT)?;
        std::fs::write(&done, "")?;
    }
    Ok(Installed { runtime: Runtime::Node, program: "node".into(), drivers: home.join("node_modules") })
}

/// A suite, compiled where that has to be.
#[derive(Clone, Debug)]
pub struct Program {
    installed: Installed,
    source: PathBuf,
    compiled: PathBuf,
}

impl Installed {
    pub fn prepare(&self, source: &Path) -> Result<Program> {
        ensure!(source.is_file(), "{} is missing", source.display());
        let name = source.parent().and_then(Path::file_name).context("a suite has a directory")?;
        let compiled = target::cache("suites")?.join(name);
        let _lock = lock()?;
        match self.runtime {
            Runtime::Go => {
                // With what the suites share: go wants its files in one directory.
                let together = target::cache("go-suites")?.join(name);
                std::fs::create_dir_all(&together)?;
                let mut go = Command::new("go");
                go.args(["build", "-o"]).arg(&compiled).envs(self.go_environment()?);
                for file in [source, &directory().join("checks.go")] {
                    let copy = together.join(file.file_name().unwrap_or_default());
                    std::fs::copy(file, &copy)?;
                    go.arg(copy);
                }
                command::succeed(&mut go, LIMIT)?;
            }
            Runtime::Java => {
                let mut javac = Command::new("javac");
                javac.arg("-d").arg(&compiled).arg("-cp").arg(&self.drivers).arg(source);
                command::succeed(&mut javac, LIMIT)?;
            }
            Runtime::Python | Runtime::Node | Runtime::Ruby | Runtime::Perl | Runtime::Php => {}
        }
        Ok(Program { installed: self.clone(), source: source.into(), compiled })
    }

    /// Nothing but what Debian installed.
    fn go_environment(&self) -> Result<[(&'static str, PathBuf); 3]> {
        Ok([
            ("GO111MODULE", "off".into()),
            ("GOPATH", self.drivers.clone()),
            ("GOCACHE", target::cache("go")?),
        ])
    }
}

impl Program {
    pub fn command(&self) -> Command {
        let Installed { runtime, program, drivers } = &self.installed;
        if *runtime == Runtime::Go {
            return Command::new(&self.compiled);
        }
        let mut command = Command::new(program);
        match runtime {
            Runtime::Python => drop(command.env("PYTHONPATH", drivers).env("PYTHONDONTWRITEBYTECODE", "1")),
            Runtime::Node => drop(command.env("NODE_PATH", drivers)),
            Runtime::Java => {
                let path = std::env::join_paths([&self.compiled, drivers]).unwrap_or_default();
                let class = self.source.file_stem().unwrap_or_default();
                command.arg("-XX:TieredStopAtLevel=1").arg("-cp").arg(path).arg(class);
                return command;
            }
            Runtime::Go | Runtime::Ruby | Runtime::Perl | Runtime::Php => {}
        }
        command.arg(&self.source);
        command
    }
}
