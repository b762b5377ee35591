//! Names of maps and programs in the object file, and the sizes of the maps.

/// `Array<FlowEntry>`, mapped into the proxy.
pub const FLOWS: &str = "FLOWS";
/// `Array<Switchboard>` of one entry, mapped into the proxy.
pub const SWITCHBOARD: &str = "SWITCHBOARD";
/// `PerCpuArray<NodeCounters>` by node.
pub const COUNTERS: &str = "COUNTERS";
/// Ring buffer of `Event`.
pub const EVENTS: &str = "EVENTS";
/// `SockMap` of the proxy's own sockets, by slot.
pub const OWN_SOCKETS: &str = "OWN_SOCKETS";
/// `Hash<cookie, Attachment>` of the proxy's own sockets.
pub const OWN: &str = "OWN";
/// `SockHash<FlowKey>` of other processes' sockets.
pub const ENROLLED_SOCKETS: &str = "ENROLLED_SOCKETS";
/// `Hash<FlowKey, Attachment>` of the same sockets.
pub const ENROLLED: &str = "ENROLLED";
/// `Hash<cookie, u64>`: bytes that enrolled sockets received by TCP, since they were enrolled.
pub const ARRIVED: &str = "ARRIVED";
/// `Hash<FlowKey, Binding>`: which flow an enrolled socket shall feed.
pub const BINDINGS: &str = "BINDINGS";
/// `Hash<u16, u8>` of ports the proxy listens on.
pub const LISTEN_PORTS: &str = "LISTEN_PORTS";
/// `LruHash<cookie, u8>` of sockets the proxy is about to connect.
pub const DIALS: &str = "DIALS";
/// `LruHash<PairKey, Birth>`.
pub const BIRTHS: &str = "BIRTHS";
/// `LruHash<cookie, Peer>` by the proxy's own socket.
pub const PEERS: &str = "PEERS";

/// sk_skb verdict of the proxy's own sockets.
pub const OWN_VERDICT: &str = "own_verdict";
/// sk_skb verdict of enrolled sockets: passes everything, so that FIONREAD and the order of the queue stay right.
pub const ENROLLED_VERDICT: &str = "enrolled_verdict";
/// sk_msg of enrolled sockets.
pub const ENROLLED_MSG: &str = "enrolled_msg";
/// The same without the network namespace's cookie, for kernels that have no such helper there.
pub const ENROLLED_MSG_PLAIN: &str = "enrolled_msg_plain";
/// sock_ops that enrols.
pub const ENROL: &str = "enrol";
/// The same without the network namespace's cookie.
pub const ENROL_PLAIN: &str = "enrol_plain";

/// Flows at a time; past it sessions stay in userspace.
pub const FLOWS_MAX: u32 = 16 * 1024;
/// Enrolled sockets at a time.
pub const ENROLLED_MAX: u32 = 32 * 1024;
/// Nodes with counters of their own; later ones share the last.
pub const NODES_MAX: u32 = 64;
pub const LISTEN_PORTS_MAX: u32 = 64;
/// Connections whose other end has not been seen yet.
pub const BIRTHS_MAX: u32 = 8 * 1024;
pub const EVENTS_BYTES: u32 = 256 * 1024;
