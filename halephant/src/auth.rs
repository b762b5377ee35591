//! Who a client is: SCRAM exchange, verifiers and their cache, password file.

pub mod pgpass;
pub mod settings;
