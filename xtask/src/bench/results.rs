//! What a run found, as it is kept in a file.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

use super::figure::{Figure, Sample, Summary};
use super::machine::Machine;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    pub machine: Machine,
    /// Names and versions of the programs.
    pub versions: BTreeMap<String, String>,
    /// What made this: one line for each run.
    pub commands: Vec<String>,
    /// Too short to be judged.
    pub quick: bool,
    pub lanes: Vec<LaneResult>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LaneResult {
    pub name: String,
    pub description: String,
    pub figures: Vec<Figure>,
    pub programs: Vec<ProgramResult>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProgramResult {
    pub name: String,
    /// Why there are no figures, or not those of every round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// A value for each round.
    pub figures: BTreeMap<Figure, Vec<f64>>,
}

impl ProgramResult {
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), missing: None, figures: BTreeMap::new() }
    }

    pub fn add(&mut self, sample: Sample) {
        for (figure, value) in sample {
            self.figures.entry(figure).or_default().push(value);
        }
    }

    /// Why something is missing, on one line: what failed, and the end of the log where there is one.
    pub fn reason(&self) -> Option<String> {
        let lines: Vec<&str> =
            self.missing.as_deref()?.lines().filter(|line| !line.starts_with("---")).collect();
        let first = lines.first().copied().unwrap_or_default();
        Some(match lines.iter().skip(1).next_back() {
            Some(last) if !last.trim().is_empty() => format!("{first}; {last}"),
            _ => first.to_owned(),
        })
    }

    pub fn summary(&self, figure: Figure) -> Option<Summary> {
        Summary::of(self.figures.get(&figure)?)
    }
}

impl LaneResult {
    pub fn program(&self, name: &str) -> Option<&ProgramResult> {
        self.programs.iter().find(|program| program.name == name)
    }

    /// The medians of `name` and of `reference`, one divided by the other.
    pub fn ratio(&self, name: &str, reference: &str, figure: Figure) -> Option<f64> {
        let median = |name| Some(self.program(name)?.summary(figure)?.median);
        let (value, reference) = (median(name)?, median(reference)?);
        (reference > 0.0).then(|| value / reference)
    }
}

impl Results {
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is no result", path.display()))
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        std::fs::write(path, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Takes the lanes of `later`, instead of its own of the same names.
    pub fn merge(&mut self, later: Self) {
        self.lanes.retain(|lane| later.lanes.iter().all(|new| new.name != lane.name));
        self.lanes.extend(later.lanes);
        self.commands.extend(later.commands);
        self.commands.dedup();
        self.versions.extend(later.versions);
        self.quick |= later.quick;
    }

    /// Every lane that was to be measured and was not, with the reason.
    pub fn missing(&self) -> Vec<String> {
        let of_lane = |lane: &LaneResult| {
            let say = |program: &ProgramResult| {
                Some(format!("{}, {}: {}", lane.name, program.name, program.reason()?))
            };
            lane.programs.iter().filter_map(say).collect::<Vec<_>>()
        };
        self.lanes.iter().flat_map(of_lane).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn results() -> Results {
        let mut direct = ProgramResult::new("direct");
        let mut other = ProgramResult::new("PgBouncer");
        let mut ours = ProgramResult::new("halephant");
        for (tps, factor) in [(100.0, 1.0), (110.0, 1.0), (90.0, 1.0)] {
            direct.add(Sample::from([(Figure::Tps, tps * 2.0), (Figure::HostUsPerTransaction, 20.0)]));
            other.add(Sample::from([(Figure::Tps, tps), (Figure::HostUsPerTransaction, 40.0)]));
            ours.add(Sample::from([(Figure::Tps, tps * 1.5 * factor), (Figure::HostUsPerTransaction, 30.0)]));
        }
        let mut gone = ProgramResult::new("Odyssey");
        gone.missing = Some("it ended: exit status: 1\n--- log\none\nno room\n--- end".into());
        Results {
            machine: Machine::of_this_host(),
            versions: BTreeMap::from([("PostgreSQL".into(), "15.1".into())]),
            commands: vec!["cargo xtask bench".into()],
            quick: false,
            lanes: vec![LaneResult {
                name: "session-simple-8".into(),
                description: "eight".into(),
                figures: vec![Figure::Tps, Figure::P50Ms, Figure::HostUsPerTransaction],
                programs: vec![direct, other, ours, gone],
            }],
        }
    }

    #[test]
    fn ratios_are_of_medians() {
        let results = results();
        let ratio = |name, reference| results.lanes[0].ratio(name, reference, Figure::Tps);
        assert_eq!(ratio("halephant", "PgBouncer"), Some(1.5));
        assert_eq!(ratio("halephant", "direct"), Some(0.75));
        assert_eq!(ratio("halephant", "Odyssey"), None);
        assert_eq!(results.missing(), ["session-simple-8, Odyssey: it ended: exit status: 1; no room"]);
    }

    #[test]
    fn a_later_run_replaces_its_lanes_only() {
        let (mut first, mut later) = (results(), results());
        first.lanes[0].name = "other".into();
        first.lanes.push(results().lanes.remove(0));
        later.lanes[0].description = "again".into();
        first.merge(later);
        let named: Vec<_> = first.lanes.iter().map(|lane| (&*lane.name, &*lane.description)).collect();
        assert_eq!(named, [("other", "eight"), ("session-simple-8", "again")]);
        assert_eq!(first.commands.len(), 1);
    }

    #[test]
    fn survives_a_file() {
        let file = tempfile::NamedTempFile::new().expect("there is room");
        results().write(file.path()).expect("it is ours");
        let read = Results::read(file.path()).expect("it is whole");
        assert_eq!(read.lanes[0].ratio("halephant", "direct", Figure::Tps), Some(0.75));
    }
}
