//! How a file looks from outside: its first line, its name, its length.

use super::Finding;
use super::source::Source;
use super::table::{FILE_LINES_MAX, LONG_FILES};

pub fn check(source: &Source<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !source.text.starts_with("//! ") {
        findings.push(Finding::new(source.path, 1, "does not open with a `//!` line that says what it owns"));
    }
    if source.path.ends_with("/mod.rs") {
        findings.push(Finding::new(source.path, 1, "is a mod.rs: the module `foo` is `foo.rs`"));
    }
    let lines = code_lines(source);
    if lines > FILE_LINES_MAX && !LONG_FILES.iter().any(|(path, _)| *path == source.path) {
        let message = format!("has {lines} lines of code, {FILE_LINES_MAX} are the limit");
        findings.push(Finding::new(source.path, 1, message));
    }
    findings
}

/// Exceptions that nothing needs any more.
pub fn stale_exceptions(sources: &[Source<'_>]) -> Vec<Finding> {
    let needed =
        |path: &str| sources.iter().any(|source| source.path == path && code_lines(source) > FILE_LINES_MAX);
    let stale = LONG_FILES.iter().filter(|(path, _)| !needed(path));
    stale.map(|(path, _)| Finding::new(path, 1, "needs no exception from the limit of lines")).collect()
}

/// Lines that are neither blank, nor comment, nor tests.
fn code_lines(source: &Source<'_>) -> usize {
    if source.is_test() {
        return 0;
    }
    let tests = source.test_lines();
    let counts = |(index, line): (usize, &str)| {
        let line = line.trim();
        let is_code = !line.is_empty() && !line.starts_with("//");
        is_code && !tests.iter().any(|range| range.contains(&(index + 1)))
    };
    source.text.lines().enumerate().filter(|(index, line)| counts((*index, line))).count()
}
