//! Property tests of `halephant::sql` against PostgreSQL's own scanner and parser; see `tests/oracle.rs`.
