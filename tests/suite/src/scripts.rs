//! The exchanges whose transcripts must be the same direct and through halephant.

mod copy;
mod extended;
mod pipelined;
mod simple;

use crate::script::Script;

/// Made once, by the database's owner, before any is played.
pub const SCHEMA: &str = "
    CREATE TABLE item (id int PRIMARY KEY, name text, amount numeric(12, 2));
    INSERT INTO item SELECT n, 'item ' || n, n * 1.5 FROM generate_series(1, 1000) n;
    CREATE TABLE sink (a int, b text);
    CREATE FUNCTION notice(text) RETURNS text LANGUAGE plpgsql AS
        $$ BEGIN RAISE NOTICE 'noted: %', $1; RETURN $1; END $$;
";

/// Brings the tables back to what they were, before each.
pub const RESET: &str = "TRUNCATE sink; DELETE FROM item WHERE id > 1000";

pub fn all() -> Vec<Script> {
    [simple::scripts(), extended::scripts(), pipelined::scripts(), copy::scripts()].concat()
}
