//! Rules about clients: who is asked for what, and who is let in. The referee is PostgreSQL.

mod certificates;
mod identity;
mod methods;
mod patterns;
#[allow(dead_code, reason = "shared with the tests of TLS, which use the rest")]
#[path = "../tls/pki.rs"]
mod pki;
mod referee;
mod stage;
mod throttle;
