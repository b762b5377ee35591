//! The proxy as a library; `main` and the tests start it through `proxy::run`.

pub mod admin;
pub mod auth;
pub mod cancel;
pub mod net;
pub mod pool;
pub mod proxy;
pub mod relay;
pub mod secret;
pub mod server;
pub mod splice;
pub mod telemetry;
pub mod topology;
pub mod wire;
pub mod worker;
