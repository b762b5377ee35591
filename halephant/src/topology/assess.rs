//! From what the nodes say to what they are used as. Pure.

use super::observation::{Lsn, Observation};
use crate::net::Role;

/// What is known of one node when roles are given out.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// `None`: it did not answer when it was last asked.
    pub said: Option<&'a Observation>,
    /// What it was used as until now.
    pub was: Option<Role>,
}

/// The newest history that was seen. It outlives the primary it was seen on: when that one falls silent, an older
/// primary that comes back must not be taken for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    system_identifier: Option<u64>,
    timeline: u32,
}

/// A node that takes writes but must not be given any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// Another primary is on a higher timeline, or was chosen among equals.
    Outvoted { node: usize, chosen: usize },
    /// A primary on a higher timeline was seen before and is silent now.
    Outdated { node: usize, timeline: u32, seen: u32 },
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Assessment {
    /// By position of the candidate.
    pub roles: Vec<Option<Role>>,
    pub conflicts: Vec<Conflict>,
}

/// Gives each node its role: whoever is in recovery is a replica, and one of the others is the primary.
pub fn assess(candidates: &[Candidate<'_>], history: &mut History) -> Assessment {
    let mut assessment = Assessment { roles: vec![None; candidates.len()], conflicts: Vec::new() };
    let mut primaries = Vec::new();
    for (node, candidate) in candidates.iter().enumerate() {
        match candidate.said {
            Some(said) if said.in_recovery => assessment.roles[node] = Some(Role::Replica),
            Some(said) => primaries.push((node, said)),
            None => {}
        }
    }
    let rank = |&(node, said): &(usize, &Observation)| {
        let incumbent = candidates[node].was == Some(Role::Primary);
        // Among equals the one that is in use stays; then the one that has written more; then the first.
        (said.timeline, incumbent, said.lsn.unwrap_or(Lsn(0)), std::cmp::Reverse(node))
    };
    let Some((chosen, said)) = primaries.iter().copied().max_by_key(rank) else { return assessment };
    let outvoted = primaries.iter().filter(|(node, _)| *node != chosen);
    assessment.conflicts.extend(outvoted.map(|&(node, _)| Conflict::Outvoted { node, chosen }));
    match history.accept(said) {
        Ok(()) => assessment.roles[chosen] = Some(Role::Primary),
        Err(seen) => assessment.conflicts.push(Conflict::Outdated {
            node: chosen,
            timeline: said.timeline.unwrap_or(0),
            seen,
        }),
    }
    assessment
}

impl History {
    /// Follows a primary, unless it is on a lower timeline than one that was seen: then that one.
    fn accept(&mut self, said: &Observation) -> Result<(), u32> {
        let Some(timeline) = said.timeline else { return Ok(()) };
        let other_system = matches!(
            (self.system_identifier, said.system_identifier),
            (Some(seen), Some(new)) if seen != new
        );
        if timeline < self.timeline && !other_system {
            return Err(self.timeline);
        }
        *self = Self { system_identifier: said.system_identifier.or(self.system_identifier), timeline };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn primary(timeline: u32, lsn: u64) -> Observation {
        Observation {
            in_recovery: false,
            lsn: Some(Lsn(lsn)),
            timeline: Some(timeline),
            replay_age: None,
            system_identifier: Some(7),
            moved: false,
        }
    }

    fn replica() -> Observation {
        Observation { in_recovery: true, timeline: None, ..primary(1, 0) }
    }

    /// Roles as `P`, `R` and `-`.
    fn roles(assessment: &Assessment) -> String {
        let letter = |role: &Option<Role>| match role {
            Some(Role::Primary) => 'P',
            Some(Role::Replica) => 'R',
            None => '-',
        };
        assessment.roles.iter().map(letter).collect()
    }

    fn check(said: &[Option<Observation>], was: &str, history: &mut History, expected: &str) -> Assessment {
        let role = |letter| match letter {
            'P' => Some(Role::Primary),
            'R' => Some(Role::Replica),
            _ => None,
        };
        let candidates: Vec<_> = said
            .iter()
            .zip(was.chars())
            .map(|(said, was)| Candidate { said: said.as_ref(), was: role(was) })
            .collect();
        let assessment = assess(&candidates, history);
        assert_eq!(roles(&assessment), expected);
        assessment
    }

    #[test]
    fn roles_follow_what_nodes_say() {
        let history = &mut History::default();
        let found = check(&[Some(primary(1, 0)), Some(replica()), None], "---", history, "PR-");
        assert_eq!(found.conflicts, []);
        check(&[None, Some(replica()), Some(replica())], "PR-", history, "-RR");
        check(&[None, Some(primary(2, 5)), Some(replica())], "-RR", history, "-PR");
        check(&[], "", history, "");
    }

    #[test]
    fn the_higher_timeline_wins() {
        let history = &mut History::default();
        let two = [Some(primary(1, 900)), Some(primary(2, 10))];
        let found = check(&two, "PR", history, "-P");
        assert_eq!(found.conflicts, [Conflict::Outvoted { node: 0, chosen: 1 }]);
    }

    #[test]
    fn among_equals_the_one_in_use_stays() {
        let two = [Some(primary(3, 10)), Some(primary(3, 20))];
        check(&two, "P-", &mut History::default(), "P-");
        check(&two, "-P", &mut History::default(), "-P");
        check(&two, "--", &mut History::default(), "-P");
        check(&[Some(primary(3, 1)), Some(primary(3, 1))], "--", &mut History::default(), "P-");
    }

    #[test]
    fn an_old_primary_does_not_come_back_while_the_new_one_is_silent() {
        let history = &mut History::default();
        check(&[None, Some(primary(2, 0))], "P-", history, "-P");
        let found = check(&[Some(primary(1, 0)), None], "-P", history, "--");
        assert_eq!(found.conflicts, [Conflict::Outdated { node: 0, timeline: 1, seen: 2 }]);
        check(&[Some(primary(3, 0)), None], "--", history, "P-");
        // A database cluster made anew begins at timeline 1 again.
        let other = Observation { system_identifier: Some(8), ..primary(1, 0) };
        check(&[Some(other), None], "P-", history, "P-");
    }
}
