//! What tests, benchmarks and the demo run against: throw-away PostgreSQL clusters, the proxy as a process, and the
//! client programs. Blocking throughout; every wait has a deadline.

pub mod certificates;
pub mod command;
pub mod cpu;
pub mod deadline;
pub mod log;
pub mod login;
pub mod pgbench;
pub mod port;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod psql;
pub mod scratch;
pub mod target;
pub mod tcp;
pub mod tree;

pub use deadline::wait_for;
pub use login::Login;
pub use pgbench::{Pgbench, Report};
pub use postgres::{Binaries, Cluster, Node};
pub use proxy::{Proxy, ProxyConfig};
