//! One server connection: opening, authenticating, resetting, probing.

pub mod settings;
