//! `\1` in maps: PostgreSQL's own engine says what the first parentheses stand for, and so does halephant, or it refuses the expression.

use halephant::auth::pattern::Group;
use halephant_harness::Cluster;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const PATTERNS: usize = 1500;
const SEED: u64 = 0x6a6f_696e;

const ATOMS: [&str; 14] =
    ["a", "b", "c", "ab", "a?", "b*", "(?:ab)?", "(?:a|ab)", "[ab]", "[ab]*", ".", ".*", "(?:bc|b)*", "c+"];
const GROUPS: [&str; 14] = [
    "(a|ab)",
    "(ab|a)",
    "(a*)",
    "(.*)",
    "(.+)",
    "(a?(?:ab)?)",
    "((a|ab)(c|bc)?)",
    "([ab]+)",
    "(a|b|ab)",
    "(a?b?(?:ab)?)",
    "(|a)",
    "((?:a|ab)*)",
    "(b?|bc)",
    "((a)|(ab))",
];

fn pick<'t>(random: &mut StdRng, from: &[&'t str]) -> &'t str {
    from[random.random_range(0..from.len())]
}

fn pattern(random: &mut StdRng) -> String {
    let mut text = String::from(if random.random_bool(0.7) { "^" } else { "" });
    for _ in 0..random.random_range(0..3) {
        text += pick(random, &ATOMS);
    }
    text += pick(random, &GROUPS);
    for _ in 0..random.random_range(0..3) {
        // Parentheses behind the first ones, too.
        text += if random.random_bool(0.3) { pick(random, &GROUPS) } else { pick(random, &ATOMS) };
    }
    text + if random.random_bool(0.7) { "$" } else { "" }
}

/// All there are of up to five letters.
fn texts() -> Vec<String> {
    let mut all = vec![String::new()];
    let mut at = 0;
    while let Some(text) = all.get(at).filter(|text| text.len() < 5).cloned() {
        all.extend(["a", "b", "c"].map(|letter| text.clone() + letter));
        at += 1;
    }
    all
}

#[test]
fn the_first_group_is_postgresqls() {
    let cluster = Cluster::builder().start().expect("it starts");
    let mut random = StdRng::seed_from_u64(SEED);
    let (patterns, texts): (Vec<String>, _) =
        ((0..PATTERNS).map(|_| pattern(&mut random)).collect(), texts());
    let list =
        |values: &[String]| values.iter().map(|value| format!("'{value}'")).collect::<Vec<_>>().join(",");
    let sql = format!(
        "SELECT coalesce(m[1] || '.', '-') FROM unnest(ARRAY[{}]) WITH ORDINALITY p(p, i)
         CROSS JOIN unnest(ARRAY[{}]) WITH ORDINALITY t(t, j)
         LEFT JOIN LATERAL regexp_match(t, p) m ON true ORDER BY i, j",
        list(&patterns),
        list(&texts)
    );
    let answer = cluster.query("postgres", &sql).expect("it answers");
    let mut answers = answer.lines();
    let (mut matched, mut differences) = (0, Vec::new());
    for pattern in &patterns {
        let group = Group::new(pattern).expect("it can be taken apart");
        for text in &texts {
            let theirs = answers.next().expect("one for each").strip_suffix('.');
            matched += usize::from(theirs.is_some());
            let ours = group.of(text);
            if ours != theirs {
                differences.push(format!("/{pattern}/ on {text:?}: {ours:?}, PostgreSQL {theirs:?}"));
            }
        }
    }
    assert!(matched > PATTERNS, "{matched} matches are too few to tell");
    differences.sort_by_key(String::len);
    assert!(
        differences.is_empty(),
        "{} differ\n{}",
        differences.len(),
        differences[..differences.len().min(30)].join("\n")
    );
}
