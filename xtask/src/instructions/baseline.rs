//! What was counted when it was last found right: `baseline.toml` beside this file.

use anyhow::{Context, Result};
use halephant_harness::target;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Instructions for each transaction, by scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Baseline(BTreeMap<String, u64>);

impl Baseline {
    pub fn read() -> Result<Self> {
        let path = path();
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is no baseline", path.display()))
    }

    pub fn write(&self) -> Result<()> {
        let text = format!(
            "# Instructions for each transaction, made by `cargo xtask instructions --save`.\n{}",
            toml::to_string(self)?
        );
        std::fs::write(path(), text).context("cannot write the baseline")
    }

    pub fn set(&mut self, name: &str, count: f64) {
        self.0.insert(name.to_owned(), count.round() as u64);
    }

    /// A line for each scenario of `counted` that is more than `percent` above this, or that this does not have.
    pub fn exceeded_by(&self, counted: &Self, percent: f64) -> Vec<String> {
        let judge = |(name, &count): (&String, &u64)| {
            let Some(&known) = self.0.get(name) else { return Some(format!("{name}: not in the baseline")) };
            let growth = 100.0 * (count as f64 / known as f64 - 1.0);
            // Multiplied, so that exactly the bound is not above it.
            (100.0 * count as f64 > (100.0 + percent) * known as f64).then(|| {
                format!("{name}: {count} instructions, {growth:.1} % above {known}; {percent} % are allowed")
            })
        };
        counted.0.iter().filter_map(judge).collect()
    }
}

fn path() -> PathBuf {
    target::workspace().join("xtask/src/instructions/baseline.toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(counts: &[(&str, f64)]) -> Baseline {
        let mut baseline = Baseline::default();
        counts.iter().for_each(|(name, count)| baseline.set(name, *count));
        baseline
    }

    #[test]
    fn growth_beyond_the_bound_fails() {
        let known = baseline(&[("a", 1000.0), ("b", 1000.0), ("c", 1000.0)]);
        let counted = baseline(&[("a", 1030.0), ("b", 1031.0), ("c", 10.0), ("d", 1.0)]);
        let findings = known.exceeded_by(&counted, 3.0);
        assert_eq!(
            findings,
            ["b: 1031 instructions, 3.1 % above 1000; 3 % are allowed", "d: not in the baseline"]
        );
    }

    #[test]
    fn the_committed_one_has_every_scenario() {
        let committed = Baseline::read().expect("it is there");
        for scenario in super::super::scenario::Scenario::ALL {
            assert!(committed.0.contains_key(scenario.name()), "{}", scenario.name());
        }
    }
}
