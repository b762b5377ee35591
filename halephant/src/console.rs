//! The console: a database that answers questions about the pooler, and takes orders.
//!
//! It speaks the simple and the extended protocol; every column is text. Column names follow PgBouncer's where it has
//! the same thing.

mod command;
mod execute;
mod protocol;
mod show;
mod table;

pub use protocol::serve;

use crate::overview::Source;
use std::pin::Pin;

/// What a user of the console may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// SHOW alone.
    Look,
    Everything,
}

/// What became of an order.
pub type Ordered<'a> = Pin<Box<dyn Future<Output = Result<(), OrderError>> + Send + 'a>>;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    #[error("{what} \"{name}\" does not exist")]
    Unknown { what: &'static str, name: String },
    #[error("the reload was rejected ({outcome}); the log says why, and nothing changed")]
    ReloadRejected { outcome: &'static str },
    #[error("the kernel path is not in use: {0}")]
    NoKernelPath(&'static str),
    #[error("the kernel path had a fault and stays off until the process is started again")]
    KernelFault,
    #[error("{0} took too long; it goes on")]
    Timeout(&'static str),
}

/// What the console gives its orders to.
pub trait Control: Source {
    /// By the configuration in force now; `None`: no right at all, any more.
    fn rights(&self, user: &str) -> Option<Rights>;

    fn reload(&self) -> Ordered<'_>;

    fn shut_down(&self);

    /// Lends no server connection of a pool, or of any, until it is resumed; done when the last one is closed. Where
    /// the wait is given up, the pools are as they were.
    fn pause<'a>(&'a self, database: Option<&'a str>) -> Ordered<'a>;

    fn resume(&self, database: Option<&str>) -> Result<(), OrderError>;

    /// Closes every server connection of a pool, or of all, as soon as nobody has it.
    fn reconnect(&self, database: Option<&str>) -> Result<(), OrderError>;

    /// Switches the kernel path on or off.
    fn switch_splice(&self, on: bool) -> Result<(), OrderError>;

    /// Gives a node no more work, or work again; `node` as the lists show it.
    fn drain(&self, node: &str, draining: bool) -> Result<(), OrderError>;

    /// Ends the session of one client now.
    fn kill(&self, process_id: u32) -> Result<(), OrderError>;
}
