//! [`Nodes`]: which counters belong to which node.

use std::sync::{Mutex, MutexGuard, PoisonError};

use halephant_common::names::NODES_MAX;

/// Names of nodes in the order of their numbers. A name keeps its number for the life of the process.
#[derive(Debug, Default)]
pub struct Nodes(Mutex<Vec<String>>);

/// The name of the last number, which all nodes share that come too late for one of their own.
const OTHERS: &str = "others";

impl Nodes {
    fn names_now(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn number(&self, name: &str) -> u32 {
        let mut names = self.names_now();
        let known = names.iter().position(|known| known == name);
        let last = NODES_MAX as usize - 1;
        let number = known.unwrap_or_else(|| {
            match names.len() {
                few if few < last => names.push(name.to_owned()),
                many if many == last => names.push(OTHERS.to_owned()),
                _ => {}
            }
            names.len() - 1
        });
        u32::try_from(number).unwrap_or(NODES_MAX - 1)
    }

    pub fn names(&self) -> Vec<String> {
        self.names_now().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_its_number_and_late_ones_share_the_last() {
        let nodes = Nodes::default();
        assert_eq!((nodes.number("a"), nodes.number("b"), nodes.number("a")), (0, 1, 0));
        for other in 2..2 * NODES_MAX {
            nodes.number(&other.to_string());
        }
        assert_eq!(nodes.names().len(), NODES_MAX as usize);
        assert_eq!((nodes.number("late"), nodes.number("a")), (NODES_MAX - 1, 0));
        assert_eq!(nodes.names().last().map(String::as_str), Some(OTHERS));
    }
}
