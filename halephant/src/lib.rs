//! The proxy as a library; `main` and the tests start it through `proxy::run`.

pub mod admin;
pub mod auth;
pub mod cli;
pub mod config;
pub mod net;
pub mod pool;
pub mod proxy;
pub mod secret;
pub mod server;
pub mod splice;
pub mod sql;
pub mod telemetry;
pub mod topology;
