//! pg_hba.conf: who may log in from where, and how they prove who they are (the PostgreSQL manual, "The pg_hba.conf
//! File").

mod address;
mod facts;
mod name;
mod names;
mod rule;

#[cfg(test)]
mod tests;

pub use facts::Facts;
pub use rule::{Rule, RuleError, Scope};

use super::method::Demand;
use super::origin::Origin;
use super::records::{Misplaced, Place, RecordsError, read_records};
use std::path::Path;

/// Whom a rule is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// As the client asks for it.
    pub database: &'a str,
    pub user: &'a str,
    pub origin: Origin,
    pub tls: bool,
    /// It asks for physical replication, which is of no database.
    pub replicates: bool,
}

/// The rules in their order; the first that applies decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hba {
    rules: Vec<Rule>,
}

#[derive(Debug, thiserror::Error)]
pub enum HbaError {
    #[error(transparent)]
    Records(#[from] Misplaced<RecordsError>),
    #[error(transparent)]
    Rule(#[from] Misplaced<RuleError>),
    #[error("{0}: contains no entries")]
    Empty(Place),
}

impl Default for Hba {
    /// Without a file: everybody, from everywhere, with SCRAM.
    fn default() -> Self {
        let demand = Demand {
            method: super::Method::ScramSha256,
            client_cert: None,
            client_name: super::method::ClientName::default(),
        };
        let place = Place { file: Path::new("default").into(), line: 1 };
        let rules =
            [Scope::Local, Scope::Host].map(|scope| Rule::for_all(place.clone(), scope, demand.clone()));
        Self { rules: rules.into() }
    }
}

impl Hba {
    /// Reads `path` and what it includes; every mistake is told. Blocks.
    pub fn load(path: &Path) -> Result<Self, Vec<HbaError>> {
        let records = read_records(path)
            .map_err(|mistakes| mistakes.into_iter().map(HbaError::from).collect::<Vec<_>>())?;
        let mut rules = Vec::with_capacity(records.len());
        let mut mistakes = Vec::new();
        for record in &records {
            match Rule::parse(record) {
                Ok(rule) => rules.push(rule),
                Err(error) => mistakes.push(Misplaced { place: record.place.clone(), error }.into()),
            }
        }
        if records.is_empty() {
            mistakes.push(HbaError::Empty(Place { file: path.into(), line: 1 }));
        }
        if mistakes.is_empty() { Ok(Self { rules }) } else { Err(mistakes) }
    }

    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule for a client. Waits for name servers where a rule names a host. Cancel safe.
    pub async fn find(&self, subject: &Subject<'_>, facts: &mut Facts) -> Option<&Rule> {
        for rule in &self.rules {
            if rule.is_for(subject) && rule.is_from(subject.origin, facts).await {
                return Some(rule);
            }
        }
        None
    }
}
