//! The other poolers as processes.

pub mod odyssey;
pub mod pgbouncer;
pub mod pgcat;
pub mod pgdog;

use anyhow::{Context, Result, anyhow, bail};
use halephant_harness::certificates::Identity;
use halephant_harness::port::Port;
use halephant_harness::postgres::account::Account;
use halephant_harness::scratch::Scratch;
use halephant_harness::{Login, log, process, wait_for};
use nix::sys::signal::Signal;
use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::lane::Mode;
use super::program::Program;

const START_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// What a pooler is told about its server.
pub struct Server {
    pub login: Login,
    /// Of the login's password, as PostgreSQL stores it.
    pub verifier: String,
    pub mode: Mode,
    pub pool_size: u32,
    /// With clients.
    pub tls: Option<Identity>,
}

/// A pooler's command line and the files it reads, for each process.
pub struct Invocation {
    pub arguments: Vec<String>,
    pub files: Vec<(String, String)>,
}

pub struct Peer {
    port: Port,
    children: Vec<Child>,
    // After the processes.
    scratch: Scratch,
}

impl Peer {
    pub fn start(program: Program, file: &Path, server: &Server) -> Result<Self> {
        let mut peer = Self { port: Port::pick()?, children: Vec::new(), scratch: Scratch::new("peer")? };
        let processes = if program == Program::PgbouncerMany { cpus() } else { 1 };
        for number in 0..processes {
            let invocation = peer.invocation(program, file, server, processes, number)?;
            peer.spawn(file, &invocation, number)?;
        }
        peer.wait_until_accepting()?;
        Ok(peer)
    }

    fn invocation(
        &self,
        program: Program,
        file: &Path,
        server: &Server,
        processes: u32,
        number: u32,
    ) -> Result<Invocation> {
        let directory = self.scratch.path();
        match program {
            Program::Pgbouncer | Program::PgbouncerMany => {
                let version = pgbouncer::version(file)?;
                let share = pgbouncer::Share { number, processes };
                Ok(pgbouncer::invocation(server, self.port(), directory, version, share))
            }
            Program::Odyssey => Ok(odyssey::invocation(server, self.port(), directory, cpus())),
            Program::Pgdog => Ok(pgdog::invocation(server, self.port(), directory, cpus())),
            Program::Pgcat => Ok(pgcat::invocation(server, self.port(), directory, cpus())),
            other => bail!("{} is not another's", other.name()),
        }
    }

    fn spawn(&mut self, file: &Path, invocation: &Invocation, number: u32) -> Result<()> {
        let account = Account::for_server();
        for (name, text) in &invocation.files {
            let path = self.scratch.path().join(name);
            std::fs::write(&path, text)?;
            account.own(&path)?;
        }
        let output = File::options().create(true).append(true).open(self.log_path())?;
        let child = account
            .command(file)
            .args(&invocation.arguments)
            .current_dir(self.scratch.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start process {number} of {}", file.display()))?;
        self.scratch.adopt(child.id());
        self.children.push(child);
        Ok(())
    }

    fn wait_until_accepting(&mut self) -> Result<()> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port()));
        let outcome = wait_for("the pooler to accept", START_LIMIT, || {
            for child in &mut self.children {
                if let Some(status) = child.try_wait()? {
                    bail!("it ended: {status}");
                }
            }
            Ok(TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok())
        });
        outcome.map(drop).map_err(|error| anyhow!("{error:#}\n{}", self.log_tail()))
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    pub fn pids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }

    fn log_path(&self) -> PathBuf {
        self.scratch.path().join("log")
    }

    pub fn log_tail(&self) -> String {
        let text = std::fs::read(self.log_path()).unwrap_or_default();
        log::tail("log of the pooler", &String::from_utf8_lossy(&text))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = process::signal(child.id(), Signal::SIGKILL);
            let _ = process::wait(child, "the pooler to end", STOP_LIMIT);
            self.scratch.release(child.id());
        }
    }
}

pub fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1))
}

/// The first line that a program prints for `--version`.
pub fn version_line(file: &Path) -> Result<String> {
    let output =
        halephant_harness::command::run(Command::new(file).arg("--version"), Duration::from_secs(10))?;
    let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let text = String::from_utf8_lossy(&said);
    text.lines().next().map(|line| line.trim().to_owned()).context("it names no version")
}
