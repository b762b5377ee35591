//! A stage whose proxy has rules.

use halephant_harness::postgres::cluster::Builder;
use halephant_harness::scratch::Scratch;
use halephant_harness::{Login, ProxyConfig};
use halephant_suite::{Client, Refused, Stage};
use std::fs;
use std::path::PathBuf;

pub struct Ruled {
    pub stage: Stage,
    pub scratch: Scratch,
}

impl Ruled {
    pub fn new(rules: &str, builder: Builder) -> Self {
        Self::with(rules, builder, |config| config)
    }

    pub fn with(rules: &str, builder: Builder, change: impl FnOnce(ProxyConfig) -> ProxyConfig) -> Self {
        let scratch = Scratch::new("hba").expect("there is room");
        let path = scratch.path().join("pg_hba.conf");
        fs::write(&path, rules).expect("it is ours");
        let set = |config: ProxyConfig| change(config.set("server.hba", path.to_str().expect("it is UTF-8")));
        let stage = Stage::with(builder, set).expect("it starts");
        Self { stage, scratch }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("it is ours");
    }

    /// What comes of a login: nothing, or the SQLSTATE and the words.
    pub fn try_as(&self, user: &str, password: &str) -> Result<(), (String, String)> {
        outcome(&as_user(self.stage.session(), user, password))
    }
}

pub fn as_user(login: Login, user: &str, password: &str) -> Login {
    Login { user: user.into(), ..login }.password(password)
}

pub fn outcome(login: &Login) -> Result<(), (String, String)> {
    match Client::connect(login).and_then(|mut client| client.value("SELECT 1").map(drop)) {
        Ok(()) => Ok(()),
        Err(error) => match error.downcast::<Refused>() {
            Ok(refused) => Err((refused.sqlstate(), refused.text())),
            Err(error) => panic!("{login:?}: {error:#}"),
        },
    }
}
