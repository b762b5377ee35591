//! Logs, traces and metrics.

pub mod instrument;
pub mod logging;
pub mod metrics;
pub mod otlp;
pub mod prometheus;
pub mod settings;
pub mod trace;
