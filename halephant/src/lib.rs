//! The proxy as a library; `main` and the tests start it through `proxy::run`.

pub mod admin;
pub mod auth;
pub mod cancel;
pub mod cli;
pub mod config;
pub mod console;
pub mod net;
pub mod notify;
pub mod overview;
pub mod pool;
pub mod prepared;
pub mod proxy;
pub mod relay;
pub mod reload;
pub mod route;
pub mod secret;
pub mod server;
pub mod session;
pub mod splice;
pub mod sql;
pub mod startup;
pub mod telemetry;
pub mod tls;
pub mod topology;
pub mod wire;
pub mod worker;
