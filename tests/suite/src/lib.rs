//! What the integration tests share: a client that speaks the protocol byte by byte and owes nothing to halephant's own code,
//! scripted exchanges, and the stage they are played on.

pub mod client;
pub mod collector;
pub mod encode;
pub mod fake_server;
pub mod http;
pub mod install;
pub mod message;
pub mod midway;
pub mod script;
pub mod scripts;
pub mod sequence;
pub mod soak;
pub mod stage;
pub mod tunnel;

pub use client::{Client, Refused, Silence};
pub use message::Message;
pub use midway::Midway;
pub use stage::Stage;
