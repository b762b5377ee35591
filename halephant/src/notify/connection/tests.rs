//! Tests of the connection, over servers that say nothing.

use super::super::listener::Origin;
use super::*;
use crate::net::NodeAddress;
use crate::notify::Channel;
use crate::notify::mailbox::Mailbox;
use crate::server::{OpenFuture, Opener, fake};
use crate::topology::settings::TopologySettings;
use crate::topology::{Cluster, NodeIndex};
use std::sync::Mutex;
use tokio::net::TcpStream;
use tokio::runtime::Handle;

/// Far longer than anything takes, and shorter than a silent server is believed.
const LIMIT: Duration = Duration::from_secs(8);

/// While the first connection is being opened, another node becomes the primary.
struct Failover {
    cluster: Arc<Cluster>,
    /// The ports that were asked, and the servers' ends.
    opened: Mutex<Vec<(u16, TcpStream)>>,
}

impl Opener for Failover {
    fn open<'a>(&'a self, node: &'a crate::net::NodeAddress, _: Login<'a>) -> OpenFuture<'a> {
        Box::pin(async move {
            let (connection, server) = fake::connection(&[]).await;
            let mut opened = self.opened.lock().expect("nobody panicked");
            if opened.is_empty() {
                self.cluster.observe(NodeIndex(0), Some(Role::Replica));
                self.cluster.observe(NodeIndex(1), Some(Role::Primary));
            }
            opened.push((node.port, server));
            Ok(connection)
        })
    }
}

#[tokio::test]
async fn a_primary_that_changes_while_the_connection_is_opened_is_found() {
    let topology = TopologySettings { interval: LIMIT, timeout: LIMIT };
    let addresses = [1, 2].map(|port| NodeAddress { host: "node".into(), port });
    let cluster = Arc::new(Cluster::new("c".into(), addresses, topology));
    cluster.observe(NodeIndex(0), Some(Role::Primary));
    cluster.observe(NodeIndex(1), Some(Role::Replica));
    let opener = Arc::new(Failover { cluster: Arc::clone(&cluster), opened: Mutex::default() });
    let origin = Origin {
        cluster,
        opener: Arc::clone(&opener) as Arc<dyn Opener>,
        database: "d".into(),
        role: "r".into(),
        encoding: "UTF8".into(),
    };
    let listener = Listener::new(origin, Handle::current());
    let mailbox: Arc<Mailbox> = Arc::default();
    let _in_force = listener.subscribe(&Channel::new(b"a"), &mailbox);
    let ports =
        || opener.opened.lock().expect("nobody panicked").iter().map(|(port, _)| *port).collect::<Vec<_>>();
    let deadline = Instant::now() + LIMIT;
    while ports() != [1, 2] {
        assert!(
            Instant::now() < deadline,
            "it stays with the node that is the primary no more: {:?}",
            ports()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
