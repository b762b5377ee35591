//! Who a client is: the rules about it, exchanges with clients, verifiers and their cache, password file.

pub mod exchange;
pub mod hba;
pub mod ident;
pub mod method;
pub mod origin;
pub mod password;
pub mod pattern;
pub mod pgpass;
pub mod records;
pub mod settings;
pub mod throttle;
pub mod verifiers;

pub use exchange::{AuthError, ask_cleartext, authenticate, authenticate_md5, check_cleartext};
pub use method::Method;
pub use origin::Origin;
pub use pgpass::PgPass;
pub use verifiers::{Lookup, Stored, VerifierSource, Verifiers};
