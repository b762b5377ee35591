//! The certificates that the tests use, and stages that use them.

use halephant_harness::certificates::{Authority, Identity, IdentityFiles, Subject, write};
use halephant_harness::postgres::cluster::Builder;
use halephant_harness::scratch::Scratch;
use halephant_harness::{Cluster, ProxyConfig, wait_for};
use halephant_suite::Stage;
use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub const LIMIT: Duration = Duration::from_secs(30);
const HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

pub struct Pki {
    pub authority: Authority,
    pub scratch: Scratch,
}

impl Pki {
    pub fn new() -> Self {
        Self::of(Authority::new("root").expect("it signs itself"))
    }

    pub fn of(authority: Authority) -> Self {
        let scratch = Scratch::new("tls").expect("there is room");
        write(&scratch.path().join("root.crt"), &authority.certificate).expect("it is ours");
        Self { authority, scratch }
    }

    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    pub fn file(&self, name: &str) -> String {
        text(&self.path().join(name))
    }

    /// For this host.
    pub fn server(&self) -> Identity {
        self.issue(&Subject::new("server", &HOSTS))
    }

    pub fn issue(&self, subject: &Subject) -> Identity {
        self.authority.issue(subject).expect("it is signed")
    }

    pub fn put(&self, name: &str, identity: &Identity) -> IdentityFiles {
        identity.write(self.path(), name).expect("it is ours")
    }

    pub fn revoke(&self, identities: &[&Identity]) {
        let list = self.authority.revoke(identities).expect("it is signed");
        write(&self.path().join("root.crl"), &list).expect("it is ours");
    }
}

pub fn text(path: &Path) -> String {
    path.to_str().expect("the path is UTF-8").to_owned()
}

/// `[server.tls]`
pub fn with_clients(config: ProxyConfig, mode: &str, files: &IdentityFiles) -> ProxyConfig {
    config
        .set("server.tls.mode", mode)
        .set("server.tls.certificate", text(&files.certificate))
        .set("server.tls.key", text(&files.key))
}

/// `[cluster.main.tls]`
pub fn with_servers(config: ProxyConfig, mode: &str, ca: Option<PathBuf>) -> ProxyConfig {
    let config = config.set("cluster.main.tls.mode", mode);
    match ca {
        Some(ca) => config.set("cluster.main.tls.ca", text(&ca)),
        None => config,
    }
}

/// TLS on both legs: clients may use it, servers must.
pub fn stage(pki: &Pki, builder: Builder) -> Stage {
    let identity = pki.server();
    let files = pki.put("server", &identity);
    Stage::with(builder.tls(&identity), |config| {
        with_servers(with_clients(config, "prefer", &files), "verify-full", Some(pki.path().join("root.crt")))
    })
    .expect("it starts")
}

/// A cluster with a role and a database of the stage's names.
pub fn cluster(builder: Builder) -> Cluster {
    use halephant_suite::stage::{DATABASE, PASSWORD, ROLE};
    builder.role(ROLE, PASSWORD).database(DATABASE, ROLE).start().expect("it starts")
}

/// Has the proxy read its configuration again; whether it took it.
pub fn reload(stage: &Stage, config: &ProxyConfig) -> bool {
    const OUTCOMES: [&str; 2] = ["the configuration was reloaded", "the reload was rejected"];
    let counts = || {
        let log = stage.proxy.log();
        OUTCOMES.map(|outcome| log.matches(outcome).count())
    };
    let before = counts();
    stage.proxy.write_config(config).expect("it is ours");
    stage.proxy.signal(Signal::SIGHUP).expect("it runs");
    wait_for("the reload", LIMIT, || Ok((counts() != before).then_some(()))).expect("it is carried out");
    counts()[0] > before[0]
}
