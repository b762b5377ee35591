//! The admin HTTP API: read-only, JSON, with its own documentation and one page to look at.

mod document;
mod health;
mod listener;
mod lists;
mod pages;
mod server;
pub mod settings;

pub use server::{Admin, AdminError};
pub use settings::{AdminSettings, CONSOLE_DATABASE};
