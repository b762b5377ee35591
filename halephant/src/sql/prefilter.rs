//! Whether a text is worth classifying: most are a plain query, and this says so at the price of a few nanoseconds.

use super::Dialect;
use super::lexer::{Lexer, Token, TokenKind, is_name_part, is_space};
use memchr::memchr_iter;

/// Commands that do nothing to the session but through what one of the needles names.
const PLAIN_COMMANDS: [&[u8]; 10] =
    [b"select", b"insert", b"update", b"delete", b"with", b"values", b"table", b"merge", b"show", b"fetch"];

/// What each function and name that the classifier looks for inside a statement has in it, in lower case, and where in it
/// the pair of bytes is that is searched for. The last one is how a name can be written that shows nothing of itself.
const NEEDLES: [(&[u8], usize); 13] = [
    (b"set_config", 6),
    (b"set_limit", 3),
    (b"setseed", 4),
    (b"tval", 0),
    (b"currval", 3),
    (b"temp", 2),
    (b"dblink_", 0),
    (b"advisory", 1),
    (b"pg_notify", 1),
    (b"pg_settings", 1),
    (b"backup", 3),
    (b"replication_", 10),
    (b"u&\"", 1),
];

/// The pairs of the needles: rare ones in what applications send, because each costs a comparison per byte.
const PAIRS: [[u8; 2]; 12] =
    [*b"nf", *b"_l", *b"ee", *b"tv", *b"rv", *b"mp", *b"db", *b"dv", *b"g_", *b"ku", *b"n_", *b"&\""];

/// Sets the bit that lower-case letters have and upper-case ones lack.
const FOLD: u8 = 0x20;

/// How many places are looked at together; the compiler makes vector instructions of it.
const LANES: usize = 32;

/// Whether [`classify`](super::classify) could find any effect: never false when it would.
#[must_use]
pub fn may_have_effects(text: &[u8], dialect: Dialect) -> bool {
    if !dialect.can_lex(text) {
        return true;
    }
    let Some(first) = Lexer::new(text, dialect).find(|token| !token.is_comment()) else { return false };
    if !begins_plain(first, text) {
        return true;
    }
    // Each semicolon is taken for the end of a statement, also those that a string or comment holds.
    memchr_iter(b';', text).any(|at| !text.get(at + 1..).is_some_and(goes_on_plain)) || holds_needle(text)
}

fn begins_plain(first: Token, text: &[u8]) -> bool {
    match first.kind {
        TokenKind::Symbol(b'(' | b';') => true,
        TokenKind::Word => is_plain(first.text(text)),
        _ => false,
    }
}

/// Whether nothing follows a semicolon, or a plain command at once.
fn goes_on_plain(rest: &[u8]) -> bool {
    let Some(start) = rest.iter().position(|&byte| !is_space(byte)) else { return true };
    let rest = rest.get(start..).unwrap_or_default();
    if matches!(rest.first(), Some(b';' | b'(')) {
        return true;
    }
    let end = rest.iter().take(8).position(|&byte| !is_name_part(byte)).unwrap_or(rest.len().min(8));
    rest.get(..end).is_some_and(is_plain)
}

fn is_plain(word: &[u8]) -> bool {
    PLAIN_COMMANDS.iter().any(|command| command.eq_ignore_ascii_case(word))
}

fn holds_needle(text: &[u8]) -> bool {
    let Some(last) = text.len().checked_sub(LANES + 1) else {
        let mut padded = [0; LANES + 1];
        padded.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
        return window(&padded, 0, text);
    };
    // The last window overlaps the one before it.
    (0..last)
        .step_by(LANES)
        .chain([last])
        .any(|at| text.get(at..).and_then(<[u8]>::first_chunk).is_some_and(|bytes| window(bytes, at, text)))
}

/// Whether a needle's pair begins at one of the places from `start`, and the needle is there.
fn window(bytes: &[u8; LANES + 1], start: usize, text: &[u8]) -> bool {
    let (firsts, seconds) = (&bytes[..LANES], &bytes[1..]);
    let mut hits = [0u8; LANES];
    for ((hit, &first), &second) in hits.iter_mut().zip(firsts).zip(seconds) {
        let (first, second) = (first | FOLD, second | FOLD);
        for pair in PAIRS {
            *hit |= u8::from((first == pair[0] | FOLD) & (second == pair[1] | FOLD));
        }
    }
    if hits.iter().fold(0, |any, hit| any | hit) == 0 {
        return false;
    }
    hits.iter().enumerate().any(|(lane, &hit)| hit != 0 && needle_at(text, start + lane))
}

/// Whether a needle has its pair at this place.
fn needle_at(text: &[u8], pair: usize) -> bool {
    NEEDLES.iter().any(|(needle, offset)| {
        pair.checked_sub(*offset)
            .and_then(|start| text.get(start..start + needle.len()))
            .is_some_and(|found| found.eq_ignore_ascii_case(needle))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::classify;
    use proptest::prelude::*;

    fn check(text: &str, expected: bool) {
        assert_eq!(may_have_effects(text.as_bytes(), Dialect::default()), expected, "{text:?}");
    }

    #[test]
    fn each_needle_has_its_pair() {
        for (needle, at) in NEEDLES {
            assert!(PAIRS.iter().any(|pair| needle.get(at..at + 2) == Some(&pair[..])), "{needle:?}");
        }
    }

    #[test]
    fn plain_queries_have_none() {
        for text in [
            "",
            ";",
            "-- set x = 1",
            "select 1",
            "UPDATE pgbench_accounts SET abalance = abalance + 5 WHERE aid = 7;",
            " /* app */ Select * from reset;\n",
            "(select 1)",
            "insert into listen values ('begin');",
            "select 1; select 2;;\n delete from commit",
            "with x as (select 1) select * from x",
            "select tem, p, advisor, curr_val, set_confi",
        ] {
            check(text, false);
        }
    }

    #[test]
    fn anything_else_may_have_some() {
        for text in [
            "set x = 1",
            "/* a */ BEGIN",
            "select 1; set x = 1",
            "select ';x'",
            "select 1; -- a\nselect 2",
            "select SET_CONFIG('a', 'b', false)",
            "select pg_catalog.pg_try_advisory_lock(1)",
            "select \"nextval\"('s')",
            "select u&\"\\0073et_config\"('a', 'b', false)",
            "select * into temp t from x",
            "selects",
            "select$1",
            "12",
        ] {
            check(text, true);
        }
        let legacy = Dialect { ascii_safe: false, ..Dialect::default() };
        assert!(may_have_effects("select 'é'".as_bytes(), legacy));
        assert!(!may_have_effects(b"select 'e'", legacy));
    }

    #[test]
    fn needles_are_found_wherever_they_are() {
        for (needle, _) in NEEDLES {
            for before in 0..2 * LANES + 3 {
                for after in [0, 1, LANES, 2 * LANES] {
                    let mut text = b"select ".to_vec();
                    text.resize(text.len() + before, b'#');
                    text.extend_from_slice(&needle.to_ascii_uppercase());
                    text.resize(text.len() + after, b' ');
                    assert!(may_have_effects(&text, Dialect::default()), "{before} {after}");
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn no_effect_is_missed(pieces in prop::collection::vec(prop::sample::select(vec![
            "select ", "set ", "(", ")", ";", ";", "'", "\"", "--", "\n", "/*", "*/", "set_config", "$1", ", ", "into ", "temp ",
            "update ", "pg_settings ", "pg_temp.", "nextval", "t ", "create ", "table ", "begin ", "as ", "execute ", "u&", "e'",
            "\\0073", "explain ", "with ", "insert ", "é", "$$", "1", "false", "as ", "fetch ", "values ", "pg_advisory_lock",
        ]), 0..24), standard in any::<bool>(), safe in any::<bool>()) {
            let text = pieces.concat();
            let dialect =
                Dialect { standard_conforming_strings: standard, ascii_safe: safe, ..Dialect::default() };
            let effects = classify(text.as_bytes(), dialect);
            prop_assert!(effects.is_empty() || may_have_effects(text.as_bytes(), dialect), "{effects:?}");
        }
    }
}
