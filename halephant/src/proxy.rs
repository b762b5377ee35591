//! The proxy itself: what the configuration stands for at run time, the workers and the way a process starts and ends.

mod admin_connection;
mod cluster;
mod connection;
pub mod effective;
mod login;
mod prober;
pub mod run;
pub mod settings;
pub mod source;
pub mod state;

pub use run::{RunError, run};
pub use state::State;
