//! The documentation, the dashboard and the rules name what there is.

use super::ALL;
use crate::telemetry::instrument::Kind;
use crate::telemetry::prometheus;
use std::collections::BTreeSet;

const PAGE: &str = include_str!("../../../../docs/telemetry.md");
const DASHBOARD: &str = include_str!("../../../../deploy/grafana/halephant.json");
const RULES: &str = include_str!("../../../../deploy/prometheus/halephant.rules.yml");

/// Labels that begin as names do.
const LABELS: [&str; 6] = [
    "db_client_connection_pool_name",
    "db_client_connection_state",
    "halephant_cluster",
    "halephant_role",
    "halephant_user",
    "halephant",
];

/// The series that Prometheus has of every instrument.
fn series() -> BTreeSet<String> {
    let of = |name: String, kind| match kind {
        Kind::Histogram => ["_bucket", "_sum", "_count"].map(|part| format!("{name}{part}")).to_vec(),
        _ => vec![name],
    };
    ALL.iter().flat_map(|instrument| of(prometheus::name(instrument), instrument.kind)).collect()
}

/// The words of a text that look like series of ours.
fn words(text: &str) -> BTreeSet<&str> {
    let word = |character: char| !(character.is_ascii_alphanumeric() || matches!(character, '_' | ':'));
    let ours = |word: &&str| word.starts_with("db_") || word.starts_with("halephant_");
    text.split(word).filter(ours).filter(|word| !LABELS.contains(word)).collect()
}

#[test]
fn dashboard_and_rules_name_what_there_is() {
    let series = series();
    for text in [DASHBOARD, RULES] {
        let words = words(text);
        assert!(words.len() > 5, "{words:?}");
        let unknown: Vec<_> = words.iter().filter(|word| !series.contains(**word)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
    serde_json::from_str::<serde_json::Value>(DASHBOARD).unwrap();
}

#[test]
fn the_page_lists_every_instrument_and_no_other() {
    let listed: BTreeSet<_> = PAGE
        .lines()
        .filter_map(|line| {
            let cells: Vec<_> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
            match cells[..] {
                [_, name, kind, unit, _, _, _] if name.contains('.') => Some((name, kind, unit)),
                _ => None,
            }
        })
        .collect();
    let kind = |kind| match kind {
        Kind::Counter => "counter",
        Kind::UpDownCounter => "up-down counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let known: BTreeSet<_> =
        ALL.iter().map(|instrument| (instrument.name, kind(instrument.kind), instrument.unit)).collect();
    assert_eq!(listed, known);
}
