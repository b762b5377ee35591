//! Prepared statements of the protocol in transaction mode: the texts that all clients share, each client's names for
//! them, and which server connection has a copy of which.
//!
//! A client's named Parse becomes an entry of the one [`Store`], which is the same for everybody who sends the same
//! text, types and parameters that change their meaning. On a server connection it is prepared under a name made of
//! the entry's number, when it is first used there. Database and role are no part of an entry: a connection
//! has one of each, and so has every copy on it.

pub mod columns;
pub mod copies;
pub mod message;
pub mod names;
pub mod pending;
pub mod statement;
pub mod store;

pub use columns::Columns;
pub use copies::{Copies, Presence};
pub use names::{ClientStatements, Named};
pub use pending::{Change, Pending};
pub use statement::{Meaning, Statement, StatementId, changes_meaning};
pub use store::{Held, StatementSnapshot, Store, StoreSnapshot};
