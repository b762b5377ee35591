//! The kernel path.

pub mod settings;
