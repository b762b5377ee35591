//! The prepared statements of all clients at one moment.

use super::Source;
use super::rows::{PreparedRow, StatementRow};
use crate::prepared::StatementSnapshot;
use crate::sql::{self, Dialect};

/// Most of a statement's text that is shown.
const TEXT_BYTES_MAX: usize = 1024;

pub fn prepared(source: &dyn Source) -> PreparedRow {
    let snapshot = source.statements().snapshot();
    PreparedRow {
        max_prepared_statements: snapshot.statements_max as u64,
        memory_bytes: snapshot.bytes as u64,
        answered: snapshot.answered,
        copied: snapshot.copied,
        evicted: snapshot.evicted,
        retried: snapshot.retried,
        refused: snapshot.refused,
        statements: snapshot.statements.iter().map(row).collect(),
    }
}

fn row(snapshot: &StatementSnapshot) -> StatementRow {
    let statement = &snapshot.statement;
    StatementRow {
        name: String::from_utf8_lossy(statement.id.name().as_bytes()).into_owned(),
        names: u32::try_from(snapshot.holders).unwrap_or(u32::MAX),
        query_bytes: statement.query().len() as u64,
        query: without_literals(statement.query()),
    }
}

/// The text as a span would have it. Which session it came from is not known here, and so not how a backslash was read in
/// it: it is shown where that makes no difference.
fn without_literals(query: &[u8]) -> String {
    let [one, other] = [true, false].map(|standard_conforming_strings| {
        let dialect = Dialect { standard_conforming_strings, ascii_safe: false, ascii_folding: false };
        let mut text = Vec::new();
        sql::sanitize(query, dialect, &mut text);
        text
    });
    if one != other {
        return "?".to_owned();
    }
    let cut = &one[..one.len().min(TEXT_BYTES_MAX)];
    String::from_utf8_lossy(cut).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_literal_is_shown_however_it_is_read() {
        let check = |query: &str, expected: &str| assert_eq!(without_literals(query.as_bytes()), expected);
        check(
            "SELECT a FROM t WHERE b = $1 AND c = 'secret' LIMIT 7",
            "SELECT a FROM t WHERE b = $1 AND c = ? LIMIT ?",
        );
        check("SELECT $q$secret$q$, E'sec\\'ret'", "SELECT ?, ?");
        // With standard_conforming_strings off, the literal goes on behind the second quotation mark.
        check("SELECT '\\', secret, '\\'", "?");
        check("SELECT 'secret", "?");
        assert_eq!(without_literals(&[b'x'; 5000]).len(), TEXT_BYTES_MAX);
    }
}
