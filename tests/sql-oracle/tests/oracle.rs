//! What `halephant::sql` says of a text, beside what PostgreSQL's own scanner and parser (crate pg_query) say of it.

mod oracle {
    pub mod scanner;
    pub mod soup;
}
