//! Whole texts through `parse`.

mod documents;
mod effective;
mod errors;
mod values;

use super::{Config, parse};
use halephant_harness::certificates::{Authority, Subject, write};
use std::sync::LazyLock;
use tempfile::TempDir;

/// The least that is a configuration.
const LEAST: &str = "
[cluster.main]
nodes = [\"pg-1:5432\"]
[cluster.main.pool.app.user.app]
";

#[track_caller]
fn valid(text: &str) -> Config {
    parse(text, "halephant.toml").unwrap_or_else(|errors| panic!("{errors}"))
}

/// `text` with the files that it names where they are: the example's are made, for its paths to hold something.
fn with_files(text: &str) -> String {
    static FILES: LazyLock<TempDir> = LazyLock::new(|| {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new("root").unwrap();
        for name in ["server", "shop", "client"] {
            let identity = authority.issue(&Subject::new(name, &[])).unwrap();
            identity.write(directory.path(), name).unwrap();
        }
        write(&directory.path().join("root.crt"), &authority.certificate).unwrap();
        write(&directory.path().join("root.crl"), &authority.revoke(&[]).unwrap()).unwrap();
        write(&directory.path().join("pg_hba.conf"), "hostssl all all all cert map=m").unwrap();
        write(&directory.path().join("pg_ident.conf"), "m ann app").unwrap();
        directory
    });
    let directory = FILES.path().to_str().unwrap();
    text.replace("/etc/halephant/tls", directory).replace("/etc/halephant/pg_", &format!("{directory}/pg_"))
}

/// The errors of `text` behind the text itself, for a snapshot.
#[track_caller]
fn errors_of(text: &str) -> String {
    match parse(text, "halephant.toml") {
        Ok(config) => panic!("valid: {config:?}"),
        Err(errors) => format!("{}\n---\n{errors}", text.trim()),
    }
}
