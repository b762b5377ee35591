//! LISTEN in transaction mode without a server connection of one's own: one connection listens for all clients of a
//! user, and its notifications are passed on to those who asked for them.
//!
//! A session's LISTEN is carried out where its transaction runs, so that the client sees what PostgreSQL makes of it.
//! Before it is sent, the listener's connection listens on the channel; whether the client does is decided by the
//! answers ([`Subscriptions`]).

mod channel;
mod client;
mod connection;
mod listener;
mod mailbox;
mod registry;
mod script;
mod subscriptions;

pub use channel::Channel;
pub use client::{Listening, Refusal};
pub use listener::{ListenError, ListenerSnapshot, Origin};
pub use registry::Listeners;
pub use script::{Command, Script};
pub use subscriptions::Subscriptions;
