//! Who a client is: SCRAM exchange, verifiers and their cache, password file.

pub mod exchange;
pub mod pgpass;
pub mod settings;
pub mod verifiers;

pub use exchange::{AuthError, authenticate};
pub use pgpass::PgPass;
pub use verifiers::{Lookup, VerifierSource, Verifiers};
