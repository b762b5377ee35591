//! Methods that ask somebody else about the password: a directory server, PAM, keys that tokens are signed with.

mod hostile;
mod jwks;
mod jwt;
mod ldap;
mod pam;
#[allow(dead_code, reason = "shared with the tests of TLS, which use the rest")]
#[path = "../tls/pki.rs"]
mod pki;
mod sealed;
mod slapd;
#[allow(dead_code, reason = "shared with the tests of rules, which use the rest")]
#[path = "../hba/stage.rs"]
mod stage;

use halephant_harness::ProxyConfig;
use halephant_suite::Stage;
use stage::Ruled;

/// What the client is told, whatever was wrong: SQLSTATE and words.
type Told = (String, String);

/// As PostgreSQL says it.
fn failed(method: &str, user: &str) -> Result<(), Told> {
    Err(("28000".into(), format!("{method} authentication failed for user \"{user}\"")))
}

/// Without the throttle, which has tests of its own.
fn patient(config: ProxyConfig) -> ProxyConfig {
    config.set("server.throttle.failures", 0)
}

/// Whether `program` is there; where everything has to be, it must.
fn is_installed(program: &str) -> bool {
    let found = std::path::Path::new(program).exists();
    assert!(found || std::env::var_os("CI").is_none(), "{program} is not installed");
    found
}

/// The configuration of a stage that was made with [`patient`], for a reload.
fn config(ruled: &Ruled) -> ProxyConfig {
    let path = ruled.path("pg_hba.conf");
    patient(Stage::config(&ruled.stage.cluster)).set("server.hba", path.to_str().expect("it is UTF-8"))
}
