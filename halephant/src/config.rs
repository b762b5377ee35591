//! The configuration file: TOML in, each owner's settings out, or every mistake in it at once.

mod access;
mod cluster;
mod document;
pub mod error;
mod findings;
mod kind;
mod pool;
pub mod problem;
mod reload;
mod sections;
#[cfg(test)]
mod tests;
mod tls;

pub use crate::proxy::settings::{ClusterConfig, Config};
pub use error::{ConfigError, ConfigErrors};
pub use reload::restart_required;

use document::Table;
use error::Position;
use findings::{Findings, Reported};
use kind::Label;
use pool::Inherited;
use problem::Problem;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use toml::de::DeTable;

/// Far above any configuration, and it bounds what a wrong path can make us read.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Reads and checks the file at `path`. It is read once, from start to end, so a pipe will do.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    let name = path.display().to_string();
    let unreadable = |source| ConfigErrors::one(&name, None, Problem::Unreadable(source));
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(ConfigErrors::one(&name, None, Problem::TooLarge(FILE_BYTES_MAX)));
    }
    match str::from_utf8(&bytes) {
        Ok(text) => parse(text, &name),
        Err(error) => {
            let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let position = Position::of(error.valid_up_to(), &valid);
            Err(ConfigErrors::one(&name, Some(position), Problem::NotUtf8))
        }
    }
}

/// Checks `text`; `name` is what errors call the file.
pub fn parse(text: &str, name: &str) -> Result<Config, ConfigErrors> {
    let findings = Findings::default();
    let config = parse_noting(text, &findings);
    match findings.into_errors(name, text) {
        Some(errors) => Err(errors),
        None => Ok(config.expect("Reported is made only where a mistake is noted")),
    }
}

/// After a syntax error the values are not looked at: what they are is in doubt.
fn parse_noting(text: &str, findings: &Findings) -> Result<Config, Reported> {
    let (document, syntax_errors) = DeTable::parse_recoverable(text);
    let noted = syntax_errors.iter().map(|error| findings.add_syntax(error, text)).last();
    match noted {
        Some(reported) => Err(reported),
        None => {
            let mut root = Table::root(findings, &document);
            let config = read(&mut root);
            root.finish();
            config
        }
    }
}

fn read(root: &mut Table<'_>) -> Result<Config, Reported> {
    let server = root.table("server", |table| Ok(sections::server(table)));
    let (server, inherited) = server.unwrap_or_else(|reported| {
        (Err(reported), Inherited { checkout_timeout: Err(reported), client_login_timeout: Err(reported) })
    });
    let logging = root.table("logging", sections::logging);
    let admin = root.table("admin", |table| sections::admin(table, &server));
    let otel = root.table("otel", sections::otel);
    let ebpf = root.table("ebpf", sections::ebpf);
    let has_console = admin.as_ref().is_ok_and(|admin| admin.has_console());
    let mut pools = BTreeMap::new();
    let clusters = root.tables("cluster", "<name>", Label, |name, table| {
        cluster::read(name, table, inherited, &mut pools, has_console)
    });
    Ok(Config {
        server: server?,
        logging: logging?,
        admin: admin?,
        otel: otel?,
        ebpf: ebpf?,
        clusters: clusters?.into_iter().collect::<Result<_, _>>()?,
    })
}
