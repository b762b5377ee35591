//! What `halephant::sql` says of a text, beside what PostgreSQL's own scanner and parser (crate pg_query) say of it.

mod oracle {
    pub mod classes;
    pub mod expected;
    pub mod grammar;
    pub mod rendered;
    pub mod scanner;
    pub mod soup;
    pub mod splits;
    pub mod tree;
}
