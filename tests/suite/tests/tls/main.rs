//! TLS on both legs, with PostgreSQL and libpq as the referees.

mod attempt;
mod binding;
mod clients;
mod expected;
mod grid;
mod matrix;
mod pki;
mod server_grid;
mod sessions;
