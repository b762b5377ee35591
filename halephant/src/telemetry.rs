//! Logs, traces and metrics.

pub mod settings;
