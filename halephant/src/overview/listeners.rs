//! Who listens for clients of pools that multiplex, and what came of it, as instruments.

use super::Source;
use super::instruments::names::{
    NOTIFY_CONNECTIONS, NOTIFY_DELIVERED, NOTIFY_DROPPED, NOTIFY_GAPS, NOTIFY_RECEIVED, NOTIFY_SUBSCRIPTIONS,
};
use crate::notify::ListenerSnapshot;
use crate::telemetry::instrument::{Attributes, Family};

fn attributes(listener: &ListenerSnapshot) -> Attributes {
    vec![
        ("halephant.cluster", listener.cluster.clone()),
        ("db.namespace", listener.database.clone()),
        ("halephant.user", listener.role.clone()),
        ("encoding", listener.encoding.clone()),
    ]
}

/// Nothing before the first client listens.
pub(super) fn families(source: &dyn Source) -> [Family; 6] {
    let mut families = [
        NOTIFY_CONNECTIONS,
        NOTIFY_SUBSCRIPTIONS,
        NOTIFY_RECEIVED,
        NOTIFY_DELIVERED,
        NOTIFY_DROPPED,
        NOTIFY_GAPS,
    ]
    .map(Family::new);
    let [connections, subscriptions, received, delivered, dropped, gaps] = &mut families;
    for listener in source.listeners() {
        connections.count(attributes(&listener), u64::from(listener.node.is_some()));
        subscriptions.count(attributes(&listener), listener.subscriptions as u64);
        received.count(attributes(&listener), listener.received);
        delivered.count(attributes(&listener), listener.delivered);
        dropped.count(attributes(&listener), listener.dropped);
        for (reason, count) in listener.gaps {
            let mut of_reason = attributes(&listener);
            of_reason.push(("reason", reason.to_owned()));
            gaps.count(of_reason, count);
        }
    }
    families
}
