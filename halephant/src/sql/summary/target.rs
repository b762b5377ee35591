//! Where in a statement the names of tables and functions are that it works on.

use super::{SUMMARY_BYTES_MAX, Summary};
use crate::sql::cursor::Cursor;
use crate::sql::keywords::can_name_table;
use crate::sql::lexer::TokenKind;

/// Parentheses deeper than this are passed over.
const DEPTH_MAX: usize = 32;

/// Words that may come before a target's name.
const MODIFIERS: &[&str] = &[
    "only",
    "lateral",
    "table",
    "if",
    "not",
    "exists",
    "concurrently",
    "materialized",
    "view",
    "on",
    "binary",
];

/// What COPY names after FROM and TO, if it is no file.
const ENDPOINTS: &[&str] = &["stdin", "stdout", "program"];

/// Words that end a list of targets.
const CLAUSES: &[&str] = &[
    "where",
    "group",
    "having",
    "order",
    "limit",
    "offset",
    "fetch",
    "for",
    "window",
    "union",
    "intersect",
    "except",
    "returning",
    "set",
    "values",
    "when",
    "select",
    "with",
];

/// One level of parentheses.
#[derive(Debug, Clone, Copy, Default)]
struct Level {
    /// An expression or a list of columns: a FROM in it belongs to a function like extract().
    expression: bool,
    /// In a list of targets: another one follows a comma.
    list: bool,
    /// The next name is a target.
    expects: bool,
}

#[derive(Debug)]
pub(super) struct Targets {
    levels: [Level; DEPTH_MAX],
    depth: usize,
    after_distinct: bool,
}

impl Default for Targets {
    fn default() -> Self {
        Self { levels: [Level::default(); DEPTH_MAX], depth: 0, after_distinct: false }
    }
}

impl Targets {
    fn level(&mut self) -> Option<&mut Level> {
        self.levels.get_mut(self.depth)
    }

    fn set(&mut self, level: Level) {
        if let Some(here) = self.level() {
            *here = level;
        }
    }

    pub(super) fn begin_query(&mut self) {
        self.set(Level::default());
    }

    /// The next name is a target.
    pub(super) fn expect(&mut self) {
        self.set(Level { expects: true, ..Level::default() });
    }

    /// The next names are targets.
    pub(super) fn expect_list(&mut self) {
        self.set(Level { expects: true, list: true, ..Level::default() });
    }

    /// Reads one token, or a name whole; false if it left the cursor where it was.
    pub(super) fn step(&mut self, cursor: &mut Cursor, summary: &mut Summary) -> bool {
        let Some(token) = cursor.peek() else { return false };
        let after_distinct = std::mem::take(&mut self.after_distinct);
        match token.kind {
            TokenKind::Symbol(b'(') => self.open(),
            TokenKind::Symbol(b')') => self.depth = self.depth.saturating_sub(1),
            TokenKind::Symbol(b',') => {
                if let Some(level) = self.level() {
                    level.expects = level.list;
                }
            }
            _ if token.is_name() => return self.name(cursor, after_distinct, summary),
            _ => {}
        }
        false
    }

    /// A parenthesis where a target is expected holds a join or a query, any other an expression or a query.
    fn open(&mut self) {
        let expects = self.level().is_some_and(|level| std::mem::take(&mut level.expects));
        self.depth += 1;
        self.set(Level { expression: !expects, list: expects, expects });
    }

    fn name(&mut self, cursor: &mut Cursor, after_distinct: bool, summary: &mut Summary) -> bool {
        let Some(level) = self.levels.get_mut(self.depth) else { return false };
        if level.expects && cursor.any_word(MODIFIERS) {
            return true;
        }
        let Some(token) = cursor.peek() else { return false };
        if level.expects && cursor.sees_any(ENDPOINTS) {
            level.expects = false;
        } else if !level.expression
            && (cursor.sees("from") || cursor.sees("using") && !columns_follow(cursor))
        {
            level.list = !after_distinct;
            level.expects = level.list;
        } else if !level.expression && cursor.sees_any(&["join", "into"]) {
            level.expects = true;
        } else if !level.expression && cursor.sees_any(CLAUSES) {
            (level.list, level.expects) = (false, false);
        } else if level.expects && (token.kind != TokenKind::Word || can_name_table(&lower_case(cursor))) {
            level.expects = false;
            summary.push(&whole_name(cursor));
            return true;
        }
        self.after_distinct = cursor.sees("distinct");
        false
    }
}

/// Whether USING belongs to a join: its columns are in parentheses.
fn columns_follow(cursor: &Cursor) -> bool {
    let mut ahead = cursor.clone();
    ahead.bump();
    ahead.sees_symbol(b'(')
}

fn lower_case(cursor: &Cursor) -> Vec<u8> {
    cursor.peek().map(|token| cursor.text(token).to_ascii_lowercase()).unwrap_or_default()
}

/// A name as it is written, with the ones that points join to it.
fn whole_name(cursor: &mut Cursor) -> String {
    let mut name = String::new();
    while let Some(token) = cursor.peek().filter(|token| token.is_name()) {
        cursor.bump();
        name.push_str(&String::from_utf8_lossy(cursor.text(token)));
        if name.len() > SUMMARY_BYTES_MAX || !cursor.symbol(b'.') {
            break;
        }
        name.push('.');
    }
    name
}

#[cfg(test)]
mod tests {
    use crate::sql::{Dialect, summary};

    fn check(text: &str, expected: &str) {
        assert_eq!(summary(text.as_bytes(), Dialect::default()), expected, "{text:?}");
    }

    #[test]
    fn queries() {
        check(
            "select * from songs, public.\"Artists\" a where x = 'secret'",
            "SELECT songs public.\"Artists\"",
        );
        check("SELECT 1", "SELECT");
        check(
            "select * from a join b on a.x = b.y, c left join only d using (e) order by f, g",
            "SELECT a b c d",
        );
        check("select extract(year from ts), x is distinct from y from t", "SELECT t");
        check("select * from (select x from a) b, (c join d on true)", "SELECT SELECT a c d");
        check(
            "select (select max(a) from b) from c where d in (select e from f)",
            "SELECT SELECT b c SELECT f",
        );
        check("with x as (select 1 from a) select * from x", "WITH SELECT a SELECT x");
        check(
            "with x as (delete from a returning b) insert into c select * from x",
            "WITH DELETE a INSERT c SELECT x",
        );
        check("select * from generate_series(1, 10), lateral f(x, y)", "SELECT generate_series f");
        check("select a from t for update; select 1 union select 2 from u", "SELECT t SELECT SELECT u");
        check("table t; values (1), (2)", "TABLE t VALUES");
    }

    #[test]
    fn changes() {
        check("INSERT INTO a (b, c) VALUES ('secret', 1) ON CONFLICT (b) DO UPDATE SET c = 2", "INSERT a");
        check("insert into shipping select * from orders", "INSERT shipping SELECT orders");
        check("update only a set b = c.d from c where e", "UPDATE a c");
        check("delete from a using b where c", "DELETE a b");
        check(
            "merge into a using b on c when matched then update set d = 1 when not matched then insert values (1)",
            "MERGE a b",
        );
        check("select a into t from u", "SELECT t u");
    }

    #[test]
    fn commands() {
        check("begin; set x = 'secret'; commit", "BEGIN SET COMMIT");
        check("create table if not exists s.t (a int, b text default 'secret')", "CREATE TABLE s.t");
        check("create unique index concurrently i on t (a, b)", "CREATE INDEX i");
        check("create index on t (a)", "CREATE INDEX t");
        check("create or replace view v as select * from t", "CREATE VIEW v SELECT t");
        check("drop table a; alter role r password 'secret'", "DROP TABLE a ALTER ROLE r");
        check("truncate table a, b; lock table c; copy t (a) from stdin", "TRUNCATE a b LOCK c COPY t");
        check("copy (select a from t) to stdout", "COPY SELECT t");
        check("explain (analyze) update t set a = 1", "EXPLAIN UPDATE t");
        check(
            "prepare p as select * from t; execute p('secret'); call f('secret', x)",
            "PREPARE SELECT t EXECUTE p CALL f",
        );
        check(
            "refresh materialized view v; create temp table t as select 1",
            "REFRESH v CREATE TABLE t SELECT",
        );
        check("/* secret */ secret", "");
        check("", "");
    }

    #[test]
    fn it_ends_with_a_whole_word() {
        let text = format!("select * from {} , b", vec!["abcdefghi"; 30].join(", "));
        let found = summary(text.as_bytes(), Dialect::default());
        assert_eq!(found, format!("SELECT{}", " abcdefghi".repeat(24)));
        let deep = format!("select {} from t", "(".repeat(100_000));
        assert_eq!(summary(deep.as_bytes(), Dialect::default()), "SELECT");
    }
}
