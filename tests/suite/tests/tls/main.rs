//! TLS on both legs, with PostgreSQL and libpq as the referees.

mod binding;
mod clients;
mod drivers;
mod matrix;
mod pki;
mod sessions;
