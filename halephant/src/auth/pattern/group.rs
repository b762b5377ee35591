//! What the first pair of parentheses stands for, for `\1` in a map. Where an expression matches in several ways, PostgreSQL takes the
//! longest whole, and of that the longest beginning; Rust's regex takes the first alternative that works. So the parts of an
//! expression are tried one by one here, by PostgreSQL's rule ("Regular Expression Matching Rules" in its manual). The referee
//! is PostgreSQL itself: `tests/suite/tests/hba/patterns.rs`.

use super::{Pattern, PatternError, build};
use regex::Regex;
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Hir, HirKind, Look};

/// Of a text that is taken apart; the work grows with the square of it.
const TEXT_BYTES_MAX: usize = 512;

/// An expression that is a sequence with the first pair of parentheses as one of its parts.
#[derive(Clone, Debug)]
pub struct Group {
    whole: Pattern,
    /// Each matches all of a text or nothing.
    before: Regex,
    group: Regex,
    behind: Regex,
    starts: bool,
    ends: bool,
}

impl PartialEq for Group {
    fn eq(&self, other: &Self) -> bool {
        self.whole == other.whole
    }
}

impl Eq for Group {}

impl Group {
    pub fn new(expression: &str) -> Result<Self, PatternError> {
        let whole = Pattern::new(expression)?;
        let ambiguous = |what| PatternError::Group { expression: expression.to_owned(), what };
        let parsed = ParserBuilder::new().dot_matches_new_line(true).build().parse(expression);
        let parsed = parsed.map_err(|error| PatternError::Invalid {
            expression: expression.to_owned(),
            reason: error.to_string(),
        })?;
        let mut parts = match parsed.kind() {
            HirKind::Concat(parts) => parts.clone(),
            _ => vec![parsed],
        };
        let starts = take_look(&mut parts, Look::Start);
        let ends = take_look(&mut parts, Look::End);
        let is_first = |part: &Hir| matches!(part.kind(), HirKind::Capture(capture) if capture.index == 1);
        let Some(at) = parts.iter().position(is_first) else {
            return Err(ambiguous(
                "the first parentheses inside of others, repeated or one of several alternatives",
            ));
        };
        if parts.iter().any(|part| !part.properties().look_set().is_empty()) {
            return Err(ambiguous("^ or $ in its middle"));
        }
        if parts.iter().any(is_lazy) {
            return Err(ambiguous("a quantifier that prefers less"));
        }
        let compile = |parts: &[Hir]| {
            let text: String = parts.iter().map(ToString::to_string).collect();
            build(expression, &format!("\\A(?:{text})\\z"))
        };
        Ok(Self {
            before: compile(&parts[..at])?,
            group: compile(&parts[at..=at])?,
            behind: compile(&parts[at + 1..])?,
            whole,
            starts,
            ends,
        })
    }

    /// The part of `text` that the first parentheses match, where the whole matches.
    pub fn of<'t>(&self, text: &'t str) -> Option<&'t str> {
        let begin = self.whole.start(text).filter(|_| text.len() <= TEXT_BYTES_MAX)?;
        debug_assert!(begin == 0 || !self.starts);
        let text = &text[begin..];
        let ends = || borders(text).rev().filter(|end| !self.ends || *end == text.len());
        // The longest whole that there is; its first part as long as can be, then the group.
        ends().find_map(|end| self.divide(&text[..end]))
    }

    /// Takes apart what the parts match together.
    fn divide<'t>(&self, text: &'t str) -> Option<&'t str> {
        let ends: Vec<usize> =
            borders(text).rev().filter(|end| self.behind.is_match(&text[*end..])).collect();
        let begins = borders(text).rev().filter(|begin| self.before.is_match(&text[..*begin]));
        begins.into_iter().find_map(|begin| {
            let mut ends = ends.iter().take_while(|end| **end >= begin);
            ends.find_map(|end| Some(&text[begin..*end]).filter(|part| self.group.is_match(part)))
        })
    }
}

/// Where a letter begins, and the end.
fn borders(text: &str) -> impl DoubleEndedIterator<Item = usize> {
    (0..=text.len()).filter(|at| text.is_char_boundary(*at))
}

/// Takes an anchor off its end of the sequence.
fn take_look(parts: &mut Vec<Hir>, look: Look) -> bool {
    let at = if look == Look::Start { 0 } else { parts.len().saturating_sub(1) };
    let is_there =
        parts.get(at).is_some_and(|part| matches!(part.kind(), HirKind::Look(found) if *found == look));
    if is_there {
        parts.remove(at);
    }
    is_there
}

fn is_lazy(part: &Hir) -> bool {
    match part.kind() {
        HirKind::Repetition(repetition) => !repetition.greedy || is_lazy(&repetition.sub),
        HirKind::Capture(capture) => is_lazy(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().any(is_lazy),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'t>(expression: &str, text: &'t str) -> Option<&'t str> {
        Group::new(expression).expect("it can be taken apart").of(text)
    }

    #[test]
    fn usual_maps_are_read() {
        assert_eq!(of("^(.*)@example\\.com$", "ann@example.com"), Some("ann"));
        assert_eq!(of("^(.*)@example\\.com$", "ann@example_com"), None);
        assert_eq!(of("^cn=([^,]+),.*$", "cn=ann,o=x"), Some("ann"));
        assert_eq!(of("(.*)@x", "ann@x.org"), Some("ann"));
        assert_eq!(of("^(.*)@(.*)$", "a@b@c"), Some("a@b"));
        assert_eq!(of("^Grüße (.+)$", "Grüße Ängström"), Some("Ängström"));
        assert_eq!(of("^(.*)$", &"x".repeat(TEXT_BYTES_MAX + 1)), None);
    }

    /// Rust's regex says "a" to each of these.
    #[test]
    fn the_longest_wins_and_not_the_first() {
        assert_eq!(of("^(a|ab)(b*)$", "ab"), Some("ab"));
        assert_eq!(of("^(a|ab)", "ab"), Some("ab"));
        assert_eq!(of("^(a?(ab)?)(b*)$", "ab"), Some("ab"));
        assert_eq!(of("(a|ab)(c|bcd)", "abcd"), Some("a"), "the whole is longer so");
    }

    #[test]
    fn what_could_mean_something_else_is_refused() {
        for expression in
            ["^(?:(a)|(b))$", "^((a)|b)?$", "^(a)|(b)$", "^(a)+$", "^(a*?)b$", "^(a)(^b|c)", "^((?:a|b)*)+$"]
        {
            let error = Group::new(expression).expect_err(expression);
            assert!(matches!(error, PatternError::Group { .. }), "{expression}: {error}");
        }
    }
}
