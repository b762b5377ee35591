//! Where the statements of a Query's text begin and end.
//!
//! A semicolon ends a statement unless it is inside parentheses (the actions of CREATE RULE) or inside the
//! `BEGIN ATOMIC ... END` body of an SQL routine. Statements without a token are none, as in PostgreSQL's grammar.

use super::Dialect;
use super::lexer::{Lexer, Token, TokenKind};
use std::ops::Range;

/// The statements of a text, each from its first token to the end of its last one.
#[derive(Debug, Clone)]
pub struct Statements<'a> {
    lexer: Lexer<'a>,
}

impl<'a> Statements<'a> {
    #[must_use]
    pub fn new(text: &'a [u8], dialect: Dialect) -> Self {
        Self { lexer: Lexer::new(text, dialect) }
    }
}

impl Iterator for Statements<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let mut span: Option<Range<usize>> = None;
        let mut nesting = Nesting::default();
        while let Some(token) = self.lexer.next() {
            if token.is_comment() {
                continue;
            }
            if token.kind == TokenKind::Symbol(b';') && nesting.is_top() {
                if span.is_some() {
                    break;
                }
                continue;
            }
            nesting.step(token, token.text(self.lexer.text()));
            span = Some(span.map_or(token.start, |span| span.start)..token.end);
        }
        span
    }
}

/// What the first words of a statement say: whether it creates an SQL routine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Lead {
    #[default]
    Start,
    Create,
    CreateOr,
    Routine,
    Other,
}

impl Lead {
    fn step(self, word: &[u8]) -> Self {
        let is = |keyword: &str| word.eq_ignore_ascii_case(keyword.as_bytes());
        match self {
            Lead::Start if is("create") => Lead::Create,
            Lead::Create if is("or") => Lead::CreateOr,
            Lead::CreateOr if is("replace") => Lead::Create,
            Lead::Create if is("function") || is("procedure") => Lead::Routine,
            Lead::Routine => Lead::Routine,
            _ => Lead::Other,
        }
    }
}

/// How deep inside a statement a token is.
#[derive(Debug, Default)]
struct Nesting {
    parentheses: usize,
    bodies: usize,
    lead: Lead,
    after_begin: bool,
}

impl Nesting {
    fn is_top(&self) -> bool {
        self.parentheses == 0 && self.bodies == 0
    }

    fn step(&mut self, token: Token, text: &[u8]) {
        let after_begin = std::mem::take(&mut self.after_begin);
        if self.parentheses == 0 && token.kind != TokenKind::Word && self.lead != Lead::Routine {
            self.lead = Lead::Other;
        }
        match token.kind {
            TokenKind::Symbol(b'(') => self.parentheses += 1,
            TokenKind::Symbol(b')') => self.parentheses = self.parentheses.saturating_sub(1),
            TokenKind::Symbol(b';') if self.parentheses == 0 => self.lead = Lead::Start,
            TokenKind::Word if self.parentheses == 0 => self.word(text, after_begin),
            _ => {}
        }
    }

    /// A word outside of parentheses. A body is a list of statements, so an END that begins one ends the body: those of
    /// CASE are inside a statement, and END as a statement of its own is not allowed there.
    fn word(&mut self, word: &[u8], after_begin: bool) {
        let is = |keyword: &str| word.eq_ignore_ascii_case(keyword.as_bytes());
        if self.lead == Lead::Start && self.bodies > 0 && is("end") {
            self.bodies -= 1;
            self.lead = Lead::Other;
        } else if self.lead == Lead::Routine && after_begin && is("atomic") {
            self.bodies += 1;
            self.lead = Lead::Start;
        } else {
            self.lead = self.lead.step(word);
            self.after_begin = is("begin");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expected: &[&str]) {
        let found: Vec<_> =
            Statements::new(text.as_bytes(), Dialect::default()).map(|span| &text[span]).collect();
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn semicolons_end_statements() {
        check("", &[]);
        check(" ; -- ;\n;/* a; */", &[]);
        check("select 1", &["select 1"]);
        check("begin;select ';' ; commit; -- bye", &["begin", "select ';'", "commit"]);
        check("/* a */ select $$;$$ /* ; */ ,\";\" -- b\n; x", &["select $$;$$ /* ; */ ,\";\"", "x"]);
        check("select 'a;", &["select 'a;"]);
    }

    #[test]
    fn parentheses_hold_statements_together() {
        let rule = "create rule r as on insert to t do also (insert into u values (1); notify x)";
        check(&format!("{rule}; select 2"), &[rule, "select 2"]);
        check("select (1; select 2", &["select (1; select 2"]);
        check("select 1); select 2", &["select 1)", "select 2"]);
    }

    #[test]
    fn atomic_bodies_hold_statements_together() {
        for body in [
            "create function f() returns int begin atomic select 1; select case when a then b end; end",
            "CREATE OR REPLACE PROCEDURE f() LANGUAGE sql BEGIN /* ; */ ATOMIC END",
            "create function f() begin atomic create function g() begin atomic select 1; end; end",
            "create function begin(atomic int) begin atomic ; ; end",
            "create function f() begin atomic create rule r as on select to t do (a; end; b); end",
        ] {
            check(&format!("{body}; end; commit"), &[body, "end", "commit"]);
        }
        check("select begin atomic; end", &["select begin atomic", "end"]);
        check(
            "create view v as select 1 begin atomic; end",
            &["create view v as select 1 begin atomic", "end"],
        );
        check("create or function f() begin atomic; x", &["create or function f() begin atomic", "x"]);
        check(
            "create \"function\" function f() begin atomic; x",
            &["create \"function\" function f() begin atomic", "x"],
        );
    }

    proptest! {
        /// No text makes it fail, and statements never overlap.
        #[test]
        fn statements_are_in_order(pieces in prop::collection::vec(prop::sample::select(vec![
            "create ", "function ", "begin ", "atomic ", "end ", "(", ")", ";", "'", "a ", "$$", "\"", "--", "\n",
        ]), 0..40)) {
            let text = pieces.concat();
            let mut at = 0;
            for span in Statements::new(text.as_bytes(), Dialect::default()) {
                prop_assert!(at <= span.start && span.start < span.end && span.end <= text.len());
                at = span.end;
            }
        }
    }
}
