//! Tests of roles over time.

use super::*;
use std::time::Duration;

fn cluster(nodes: usize) -> Cluster {
    let addresses = (0..nodes).map(address);
    Cluster::new("c".into(), addresses, settings())
}

fn settings() -> TopologySettings {
    TopologySettings { interval: Duration::from_secs(1), timeout: Duration::from_secs(1) }
}

fn address(at: usize) -> NodeAddress {
    format!("pg{at}:5432").parse().expect("it is an address")
}

fn primary(timeline: u32) -> Result<Observation, ProbeError> {
    Ok(Observation {
        in_recovery: false,
        lsn: Some(Lsn(100)),
        timeline: Some(timeline),
        replay_age: None,
        system_identifier: None,
        moved: false,
    })
}

fn replica() -> Result<Observation, ProbeError> {
    Ok(Observation { in_recovery: true, lsn: Some(Lsn(90)), timeline: None, ..primary(0)? })
}

fn silence() -> Result<Observation, ProbeError> {
    Err(ProbeError::Timeout { after: Duration::from_secs(1) })
}

/// Records it, and gives the changes as text: node, new role, `!` for displaced, `x` for lost.
fn record(cluster: &Cluster, node: usize, outcome: Result<Observation, ProbeError>) -> Vec<String> {
    let text = |change: &Change| {
        let role = change.to.map_or("none", Role::as_str);
        let displaced = if change.displaced { "!" } else { "" };
        let lost = if change.lost { " lost" } else { "" };
        format!("{} {role}{displaced}{lost}", change.index.0)
    };
    cluster.record(NodeIndex(node), outcome).iter().map(text).collect()
}

fn two() -> Cluster {
    let cluster = cluster(2);
    assert_eq!(record(&cluster, 0, primary(1)), ["0 primary"]);
    assert_eq!(record(&cluster, 1, replica()), ["1 replica"]);
    assert_eq!(record(&cluster, 0, primary(1)), Vec::<String>::new());
    cluster
}

#[test]
fn an_interruption_leaves_connections_usable() {
    let cluster = two();
    let tenure = cluster.node(NodeIndex(0)).tenure();
    assert_eq!(record(&cluster, 0, silence()), ["0 none"]);
    assert!(!cluster.has(Role::Primary));
    assert_eq!(record(&cluster, 0, primary(1)), ["0 primary"]);
    assert_eq!(cluster.node(NodeIndex(0)).tenure(), tenure);
}

#[test]
fn a_promotion_displaces_and_gives_up_the_silent_primary() {
    let cluster = two();
    assert_eq!(record(&cluster, 0, silence()), ["0 none"]);
    assert_eq!(record(&cluster, 1, primary(2)), ["1 primary!", "0 none lost"]);
    assert_eq!(record(&cluster, 0, primary(1)), Vec::<String>::new(), "the old one is not taken back");
    assert_eq!(record(&cluster, 0, replica()), ["0 replica!"]);
}

#[test]
fn two_primaries_are_one_and_the_other_is_displaced() {
    let cluster = two();
    assert_eq!(record(&cluster, 1, primary(2)), ["0 none!", "1 primary!"]);
    assert_eq!(record(&cluster, 0, silence()), ["0 none lost"]);
}

#[test]
fn long_silence_gives_up_what_runs() {
    let cluster = two();
    assert_eq!(record(&cluster, 1, silence()), ["1 none"]);
    assert_eq!(record(&cluster, 1, silence()), Vec::<String>::new());
    assert_eq!(record(&cluster, 1, silence()), ["1 none lost"]);
    assert_eq!(record(&cluster, 1, silence()), Vec::<String>::new(), "once");
    assert_eq!(record(&cluster, 1, replica()), ["1 replica"]);
}

#[test]
fn a_name_that_leads_elsewhere_displaces() {
    let cluster = two();
    let moved = primary(1).map(|said| Observation { moved: true, ..said });
    assert_eq!(record(&cluster, 0, moved), ["0 primary!"]);
}

#[test]
fn lag_is_measured_from_the_primary() {
    let cluster = two();
    let lag = cluster.lag(&cluster.node(NodeIndex(1)));
    assert_eq!(lag, Some(Lag { bytes: Some(10), time: None }));
    assert_eq!(cluster.lag(&cluster.node(NodeIndex(0))), None);
}

#[test]
fn nodes_keep_their_position_when_the_configuration_changes() {
    let cluster = two();
    let added = |at: &[usize]| {
        let addresses: Vec<_> = at.iter().map(|&at| address(at)).collect();
        let added = cluster.reconfigure(&addresses, settings());
        added.iter().map(|(index, node)| format!("{} {}", index.0, node.address)).collect::<Vec<_>>()
    };
    assert_eq!(added(&[1, 2]), ["2 pg2:5432"]);
    assert_eq!(cluster.node(NodeIndex(0)).role(), None, "it is no longer configured");
    assert_eq!(cluster.node(NodeIndex(1)).role(), Some(Role::Replica));
    let tenure = cluster.node(NodeIndex(0)).tenure();
    assert_eq!(added(&[0, 1]), ["0 pg0:5432"]);
    assert_ne!(cluster.node(NodeIndex(0)).tenure(), tenure, "what was opened to it before is void");
    assert_eq!(cluster.nodes().len(), 3);
}

#[test]
fn a_drained_node_has_no_role_to_give() {
    let cluster = two();
    let node = cluster.node(NodeIndex(0));
    assert!(node.set_draining(true) && !node.set_draining(true));
    assert_eq!((node.role(), node.assessed_role()), (None, Some(Role::Primary)));
    assert!(node.set_draining(false) && cluster.has(Role::Primary));
}
