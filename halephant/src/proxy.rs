//! The proxy itself: what the configuration stands for at run time, the workers and the way a process starts and ends.

mod admin_connection;
mod admission;
mod balancer;
mod cluster;
mod connection;
mod console;
pub mod effective;
mod learned;
mod listeners;
pub mod live;
mod login;
mod prober;
mod prove;
pub mod reload;
pub mod run;
mod service;
pub mod settings;
pub mod source;
pub mod state;

pub use live::Live;
pub use run::{RunError, run};
pub use state::State;
