//! Generated texts: fragments of SQL, whole, cut and glued together.

use proptest::prelude::*;

/// So many cases; `PROPTEST_CASES=2560` makes it ten times as many.
pub fn config(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = cases.saturating_mul(default.cases) / 256;
    ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        max_global_rejects: cases.saturating_mul(50),
        ..default
    }
}

/// What is between two tokens; the empty one glues them together.
const GAPS: &[&str] = &[
    "",
    "",
    " ",
    " ",
    "\n",
    "\t",
    "\r\n",
    "\x0b\x0c",
    "-- it's \"\n",
    "--\r",
    "/**/",
    "/* a /* ' */ b */",
    " -- $$\n ",
    "\n\n",
];

const FRAGMENTS: &[&str] = &[
    "select",
    "SET",
    "from",
    "into",
    "temp",
    "begin",
    "atomic",
    "end",
    "é",
    "_a$1",
    "U",
    "e",
    "n",
    "b",
    "x",
    "E1",
    "uescape",
    "\"a\"\"b\"",
    "\"é ; \"",
    "U&\"d\\0061t\\+000061\"",
    "u&\"a\"\"\"",
    "''",
    "'it''s'",
    "'\\'",
    "'é'",
    "E'\\''",
    "e'a\\\\'",
    "E'\\x41\\101\\u0041\\n'",
    "B'01'",
    "x'fF'",
    "N'x'",
    "U&'\\0061'",
    "u&''''",
    "'",
    "\"",
    "E'",
    "$$a'b$$",
    "$a$ $$ $b$ $a$",
    "$é$x$é$",
    "$$",
    "$a$",
    "$1",
    "$12",
    "$0a",
    "$",
    "0",
    "7",
    "42",
    "2147483648",
    "1_000",
    "1_",
    "_1",
    "0x1F",
    "0xg",
    "0x",
    "0o17",
    "0b101",
    "0b2",
    "0x_1",
    "1.5",
    "1.",
    ".5",
    "..",
    ".",
    "1e5",
    "1e",
    "1e+",
    "1E-5",
    "1.5e3",
    "1.e1",
    "1e1_0",
    "e5",
    "1..2",
    "+",
    "-",
    "*",
    "/",
    "<",
    ">",
    "=",
    "~",
    "!",
    "@",
    "#",
    "^",
    "&",
    "|",
    "`",
    "?",
    "%",
    "<>",
    "!=",
    "<=",
    ">=",
    "=>",
    ":=",
    "::",
    ":",
    ";",
    ",",
    "(",
    ")",
    "[",
    "]",
    "--",
    "/*",
    "*/",
    "->>",
    "||",
    "+-",
    "@-",
    "*-",
    "-+*",
    "{",
    "}",
    "\\",
];

/// Fragments with gaps, so that most texts are nearly SQL.
pub fn tokens() -> impl Strategy<Value = String> {
    let piece = (prop::sample::select(FRAGMENTS), prop::sample::select(GAPS));
    prop::collection::vec(piece, 0..16)
        .prop_map(|pieces| pieces.into_iter().flat_map(|(fragment, gap)| [fragment, gap]).collect())
}

/// Single characters that matter to a scanner, in any order.
pub fn characters() -> impl Strategy<Value = String> {
    let one = prop::sample::select("'\"$\\/*-+@.eExXbuUnN&01_aéB \n\r;()~=<>:".chars().collect::<Vec<_>>());
    prop::collection::vec(one, 0..24).prop_map(|characters| characters.into_iter().collect())
}

/// What may stand between two tokens without gluing them together.
pub fn gap() -> impl Strategy<Value = &'static str> {
    prop::sample::select(GAPS).prop_map(|gap| if gap.is_empty() { " " } else { gap })
}

/// A text of words and signs with every gap drawn anew and the case of each unquoted letter drawn anew.
pub fn disguised(words: Vec<String>) -> impl Strategy<Value = String> {
    let count = words.len();
    (prop::collection::vec(gap(), count), prop::collection::vec(any::<bool>(), 1..64), any::<bool>())
        .prop_map(move |(gaps, upper, lead)| {
            let mut text = String::new();
            let mut upper = upper.iter().cycle();
            if lead {
                text.push_str("/* ; */\n");
            }
            for (word, gap) in words.iter().zip(gaps) {
                if word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.')) {
                    text.extend(word.chars().map(|letter| {
                        if *upper.next().unwrap_or(&false) { letter.to_ascii_uppercase() } else { letter }
                    }));
                } else {
                    text.push_str(word);
                }
                text.push_str(gap);
            }
            text
        })
}
