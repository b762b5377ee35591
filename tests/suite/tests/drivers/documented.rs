//! `docs/drivers.md` names every driver that has a suite, and the versions that are installed for it.

use halephant_harness::target;

use super::DRIVERS;
use halephant_suite::install::{NODE, PYTHON};

#[test]
fn the_table_names_what_is_tested() {
    let page = target::workspace().join("docs/drivers.md");
    let text = std::fs::read_to_string(page).expect("it is there");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| "))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    let named = DRIVERS.iter().map(|driver| driver.name).chain(["tokio-postgres", "sqlx"]);
    for name in named {
        assert!(rows.iter().any(|row| row[1] == name), "{name} has no row");
    }
    for package in PYTHON.iter().chain(&NODE) {
        let version = package.rsplit(['=', '@']).next().unwrap_or_default();
        assert!(rows.iter().any(|row| row[2].contains(version)), "{package} is in no row");
    }
}
