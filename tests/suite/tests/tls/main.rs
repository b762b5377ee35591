//! TLS on both legs, with PostgreSQL and libpq as the referees.

mod binding;
mod clients;
mod matrix;
mod pki;
mod sessions;
