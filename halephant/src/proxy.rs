//! The proxy itself: listeners, workers and shutdown.

pub mod settings;
