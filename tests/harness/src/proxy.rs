//! halephant as a process: started on a configuration, watched, stopped.

pub mod binary;
pub mod config;

pub use config::{KernelPath, ProxyConfig};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::Signal;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::port::{Port, has_ipv6};
use crate::scratch::Scratch;
use crate::{Login, log, process, wait_for};

const START_LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Proxy {
    port: Arc<Port>,
    child: Option<Child>,
    // After the process, which is killed when it is dropped.
    scratch: Scratch,
}

impl Proxy {
    /// Starts it on a free port of both loopback addresses and waits until it is ready.
    pub fn start(config: &ProxyConfig) -> Result<Self> {
        Self::start_in(config, &[])
    }

    /// As [`start`](Self::start), with more environment variables.
    pub fn start_in(config: &ProxyConfig, environment: &[(&str, &str)]) -> Result<Self> {
        Self::launch(&binary::find()?, config, environment, Arc::new(Port::pick()?))
    }

    /// Starts another process on the same port; the kernel spreads connections over both.
    pub fn start_beside(&self, config: &ProxyConfig) -> Result<Self> {
        Self::launch(&binary::find()?, config, &[], Arc::clone(&self.port))
    }

    pub fn start_binary(program: &std::path::Path, config: &ProxyConfig) -> Result<Self> {
        Self::launch(program, config, &[], Arc::new(Port::pick()?))
    }

    /// Both of the above.
    pub fn start_binary_in(
        program: &std::path::Path,
        config: &ProxyConfig,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        Self::launch(program, config, environment, Arc::new(Port::pick()?))
    }

    fn launch(
        program: &std::path::Path,
        config: &ProxyConfig,
        environment: &[(&str, &str)],
        port: Arc<Port>,
    ) -> Result<Self> {
        let mut proxy = Self { port, child: None, scratch: Scratch::new("proxy")? };
        proxy.write_config(config)?;
        let socket = proxy.scratch.path().join("notify");
        let notifications = UnixDatagram::bind(&socket)?;
        notifications.set_nonblocking(true)?;
        // It may run as somebody else.
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o777))?;
        let output = File::options().create(true).append(true).open(proxy.log_path())?;
        let child = Command::new(program)
            .arg("-c")
            .arg(proxy.config_path())
            .current_dir(proxy.scratch.path())
            .env("HOME", proxy.scratch.path())
            .envs(config.requires_every_path().then_some(("HALEPHANT_SPLICE_POLICY", "every")))
            .env("NOTIFY_SOCKET", &socket)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        proxy.scratch.adopt(child.id());
        proxy.child = Some(child);
        // Who has a socket for it waits there.
        if environment.iter().all(|(name, _)| *name != "NOTIFY_SOCKET") {
            proxy.wait_until_ready(&notifications)?;
        }
        Ok(proxy)
    }

    /// Until it says that it is ready, as it says it to a service manager: at an address another process may be the one
    /// that answers.
    fn wait_until_ready(&mut self, notifications: &UnixDatagram) -> Result<()> {
        let outcome = wait_for("halephant to be ready", START_LIMIT, || {
            if let Some(status) = self.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
                bail!("halephant ended: {status}");
            }
            let mut text = [0; 256];
            match notifications.recv(&mut text) {
                Ok(length) => Ok(text[..length].starts_with(b"READY=1").then_some(())),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
                Err(error) => Err(error.into()),
            }
        });
        outcome.map_err(|error| anyhow!("{error:#}\n{}", self.log_tail()))
    }

    /// Writes the configuration and its password file; a running proxy reads them at SIGHUP.
    pub fn write_config(&self, config: &ProxyConfig) -> Result<()> {
        let mut listen = vec![format!("127.0.0.1:{}", self.port())];
        if has_ipv6() {
            listen.push(format!("[::1]:{}", self.port()));
        }
        listen.extend_from_slice(config.more_listen());
        let pgpass = self.scratch.path().join("pgpass");
        config.write_pgpass(&pgpass)?;
        let text =
            config.clone().set("server.listen", listen).set("server.pgpass", path_text(&pgpass)?).text()?;
        fs::write(self.config_path(), text).context("cannot write the configuration")
    }

    fn config_path(&self) -> PathBuf {
        self.scratch.path().join("halephant.toml")
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    pub fn pid(&self) -> Result<u32> {
        self.child.as_ref().map(Child::id).context("halephant does not run")
    }

    /// Memory of its own that is resident: pages of its file come and go as the system likes.
    pub fn resident_kib(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// The same login, through this proxy.
    pub fn login(&self, direct: Login) -> Login {
        direct.at(self.port())
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        process::signal(self.pid()?, signal)
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let child = self.child.as_mut().context("halephant does not run")?;
        let pid = child.id();
        let status = process::wait(child, "halephant to end", limit)
            .map_err(|error| anyhow!("{error:#}\n{}", self.log_tail()))?;
        self.scratch.release(pid);
        self.child = None;
        Ok(status)
    }

    /// SIGTERM, and the exit status.
    pub fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(limit)
    }

    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGKILL)?;
        self.wait(Duration::from_secs(10))
    }

    pub fn cpu(&self) -> Duration {
        self.pid().map(crate::cpu::of_tree).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.scratch.path().join("halephant.log")
    }

    pub fn log(&self) -> String {
        fs::read(self.log_path()).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    }

    pub fn log_tail(&self) -> String {
        log::tail("log of halephant", &self.log())
    }

    /// Waits until `part` is in the log, `count` times or more.
    pub fn wait_for_log(&self, part: &str, count: usize, limit: Duration) -> Result<()> {
        let found = || Ok((self.log().matches(part).count() >= count).then_some(()));
        wait_for(&format!("{part:?} in the log"), limit, found)
            .map_err(|error| anyhow!("{error:#}\n{}", self.log_tail()))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
        if self.child.is_some() {
            let _ = self.kill();
        }
    }
}

fn path_text(path: &std::path::Path) -> Result<String> {
    path.to_str().map(str::to_owned).with_context(|| format!("{} is not UTF-8", path.display()))
}
