//! [`Nodes`]: which counters belong to which node, and how many sessions it had.

use std::sync::{Mutex, MutexGuard, PoisonError};

use halephant_common::names::NODES_MAX;

/// Nodes in the order of their numbers. A name keeps its number for the life of the process.
#[derive(Debug, Default)]
pub struct Nodes(Mutex<Vec<Node>>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    /// That were on the kernel path, each once.
    pub sessions: u64,
}

impl Node {
    fn named(name: &str) -> Self {
        Self { name: name.to_owned(), sessions: 0 }
    }
}

/// Nodes that a session was counted for, by their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeSet(u64);

const _: () = assert!(NODES_MAX <= u64::BITS, "a bit for each node");

impl NodeSet {
    /// Whether it was not there.
    fn insert(&mut self, number: u32) -> bool {
        let before = self.0;
        self.0 |= 1 << number.min(NODES_MAX - 1);
        self.0 != before
    }
}

/// The name of the last number, which all nodes share that come too late for one of their own.
const OTHERS: &str = "others";

impl Nodes {
    fn now(&self) -> MutexGuard<'_, Vec<Node>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn number(&self, name: &str) -> u32 {
        let mut nodes = self.now();
        let known = nodes.iter().position(|known| known.name == name);
        let last = NODES_MAX as usize - 1;
        let number = known.unwrap_or_else(|| {
            match nodes.len() {
                few if few < last => nodes.push(Node::named(name)),
                many if many == last => nodes.push(Node::named(OTHERS)),
                _ => {}
            }
            nodes.len() - 1
        });
        u32::try_from(number).unwrap_or(NODES_MAX - 1)
    }

    /// Counts a session for a node, unless it was before.
    pub fn count_session(&self, number: u32, counted: &mut NodeSet) {
        if counted.insert(number)
            && let Some(node) = self.now().get_mut(number as usize)
        {
            node.sessions += 1;
        }
    }

    pub fn all(&self) -> Vec<Node> {
        self.now().clone()
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
        assert_eq!(nodes.all().len(), NODES_MAX as usize);
        assert_eq!((nodes.number("late"), nodes.number("a")), (NODES_MAX - 1, 0));
        assert_eq!(nodes.all().last().map(|node| node.name.clone()).as_deref(), Some(OTHERS));
    }

    #[test]
    fn a_session_counts_once_for_each_of_its_nodes() {
        let nodes = Nodes::default();
        let (a, b) = (nodes.number("a"), nodes.number("b"));
        let (mut one, mut other) = (NodeSet::default(), NodeSet::default());
        for number in [a, b, a] {
            nodes.count_session(number, &mut one);
        }
        nodes.count_session(b, &mut other);
        let counted: Vec<_> = nodes.all().into_iter().map(|node| (node.name, node.sessions)).collect();
        assert_eq!(counted, [("a".to_owned(), 1), ("b".to_owned(), 2)]);
        // The last number is a node's like any other.
        assert!(one.insert(NODES_MAX - 1) && !one.insert(NODES_MAX - 1));
    }
}
