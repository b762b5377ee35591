//! The binary's flags, output and exit codes.
#![allow(clippy::unwrap_used)] // A test.

use std::path::Path;
use std::process::{Command, Output};

const LEAST: &str = "[cluster.main]\nnodes = ['pg-1:5432']\n[cluster.main.pool.app.user.app]\n";

fn halephant(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_halephant")).args(arguments).output().unwrap()
}

fn check(path: &Path) -> (Option<i32>, String, String) {
    let output = halephant(&["--check", "-c", path.to_str().unwrap()]);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn file(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("halephant.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

#[test]
fn check_of_a_valid_file() {
    let (_folder, path) = file(LEAST);
    let expected = format!("configuration ok: {} (clusters: 1, pools: 1, users: 1)\n", path.display());
    assert_eq!(check(&path), (Some(0), expected, String::new()));
}

#[test]
fn check_of_a_wrong_file() {
    let (_folder, path) = file(&format!("[server]\nworkers = -1\nlisten = []\n{LEAST}"));
    let (code, stdout, stderr) = check(&path);
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    let lines: Vec<_> = stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{stderr}");
    assert!(lines[0].starts_with(&format!("{}:2:11: server.workers: ", path.display())), "{stderr}");
    assert!(lines[1].starts_with(&format!("{}:3:10: server.listen: ", path.display())), "{stderr}");
}

#[test]
fn start_with_a_wrong_file() {
    let (_folder, path) = file("[server]\n");
    let output = halephant(&["-c", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no cluster"));
}

#[test]
fn unreadable_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing.toml");
    let expected = format!("{}: cannot be read: No such file or directory (os error 2)\n", path.display());
    assert_eq!(check(&path), (Some(2), String::new(), expected));
}

#[test]
fn no_file_named() {
    let output = halephant(&["--check"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--config <FILE>"));
}

#[test]
fn version_and_help() {
    let version = halephant(&["--version"]);
    assert_eq!(version.status.code(), Some(0));
    assert_eq!(
        String::from_utf8_lossy(&version.stdout),
        format!("halephant {}\n", env!("CARGO_PKG_VERSION"))
    );
    let help = halephant(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    for flag in ["--config", "--check", "--version"] {
        assert!(String::from_utf8_lossy(&help.stdout).contains(flag));
    }
}
