//! A place among the tokens of one statement, for reading its grammar word by word. Comments are stepped over.

use super::Dialect;
use super::lexer::{Lexer, Token, TokenKind};
use super::literal::{self, Datum};

/// A clone looks ahead.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    lexer: Lexer<'a>,
    peeked: Option<Token>,
    dialect: Dialect,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(statement: &'a [u8], dialect: Dialect) -> Self {
        let mut lexer = Lexer::new(statement, dialect);
        let peeked = lexer.find(|token| !token.is_comment());
        Self { lexer, peeked, dialect }
    }

    pub(super) fn peek(&self) -> Option<Token> {
        self.peeked
    }

    /// The next token, stepped over.
    pub(super) fn bump(&mut self) -> Option<Token> {
        let token = self.peeked?;
        self.peeked = self.lexer.find(|token| !token.is_comment());
        Some(token)
    }

    pub(super) fn at_end(&self) -> bool {
        self.peeked.is_none()
    }

    pub(super) fn text(&self, token: Token) -> &'a [u8] {
        token.text(self.lexer.text())
    }

    /// Whether a token is this key word; key words are never quoted.
    pub(super) fn is(&self, token: Token, keyword: &str) -> bool {
        token.kind == TokenKind::Word && self.text(token).eq_ignore_ascii_case(keyword.as_bytes())
    }

    pub(super) fn sees(&self, keyword: &str) -> bool {
        self.peeked.is_some_and(|token| self.is(token, keyword))
    }

    pub(super) fn sees_any(&self, keywords: &[&str]) -> bool {
        keywords.iter().any(|keyword| self.sees(keyword))
    }

    pub(super) fn sees_symbol(&self, symbol: u8) -> bool {
        self.peeked.is_some_and(|token| token.kind == TokenKind::Symbol(symbol))
    }

    /// Steps over a key word if it is next.
    pub(super) fn word(&mut self, keyword: &str) -> bool {
        let found = self.sees(keyword);
        if found {
            self.bump();
        }
        found
    }

    pub(super) fn any_word(&mut self, keywords: &[&str]) -> bool {
        keywords.iter().any(|keyword| self.word(keyword))
    }

    /// Steps over several key words if all of them are next.
    pub(super) fn words(&mut self, keywords: &[&str]) -> bool {
        let mut ahead = self.clone();
        let found = keywords.iter().all(|keyword| ahead.word(keyword));
        if found {
            *self = ahead;
        }
        found
    }

    pub(super) fn symbol(&mut self, symbol: u8) -> bool {
        let found = self.sees_symbol(symbol);
        if found {
            self.bump();
        }
        found
    }

    pub(super) fn operator(&mut self, operator: &[u8]) -> bool {
        let found = self
            .peeked
            .is_some_and(|token| token.kind == TokenKind::Operator && self.text(token) == operator);
        if found {
            self.bump();
        }
        found
    }

    /// A name, folded or unquoted; key words are taken for names.
    pub(super) fn name(&mut self) -> Option<Datum<'a>> {
        let token = self.peeked.filter(Token::is_name)?;
        self.bump();
        Some(self.name_of(token))
    }

    /// The name that the token just stepped over is.
    pub(super) fn name_of(&mut self, token: Token) -> Datum<'a> {
        let escape = if token.kind == TokenKind::UnicodeName { self.uescape() } else { b'\\' };
        literal::name(token, self.lexer.text(), escape, self.dialect)
    }

    /// A character string.
    pub(super) fn string(&mut self) -> Option<Datum<'a>> {
        use TokenKind::{DollarString, EscapeString, String, UnicodeString};
        let token = self
            .peeked
            .filter(|token| matches!(token.kind, String | EscapeString | UnicodeString | DollarString))?;
        self.bump();
        let escape = if token.kind == UnicodeString { self.uescape() } else { b'\\' };
        Some(literal::string(token, self.lexer.text(), escape))
    }

    /// A number with its sign.
    pub(super) fn number(&mut self) -> Option<Datum<'a>> {
        let mut ahead = self.clone();
        let negative = ahead.symbol(b'-');
        if !negative {
            ahead.symbol(b'+');
        }
        let token =
            ahead.bump().filter(|token| matches!(token.kind, TokenKind::Integer | TokenKind::Decimal))?;
        *self = ahead;
        Some(literal::number(token, self.lexer.text(), negative))
    }

    /// The escape character of a `U&` token before it: UESCAPE and a string that is no `U&` itself.
    fn uescape(&mut self) -> u8 {
        let mut ahead = self.clone();
        if ahead.word("uescape")
            && let Some(token) = ahead.bump().filter(|token| token.kind != TokenKind::UnicodeString)
            && let Datum::Text(escape) = literal::string(token, ahead.lexer.text(), b'\\')
            && let &[escape] = escape.as_ref()
        {
            *self = ahead;
            return escape;
        }
        b'\\'
    }

    /// Steps over a balanced pair of parentheses, if an opening one is next, and says whether it was.
    pub(super) fn parentheses(&mut self) -> bool {
        if !self.symbol(b'(') {
            return false;
        }
        let mut depth = 1usize;
        while depth > 0 {
            match self.bump().map(|token| token.kind) {
                Some(TokenKind::Symbol(b'(')) => depth += 1,
                Some(TokenKind::Symbol(b')')) => depth -= 1,
                Some(_) => {}
                None => break,
            }
        }
        true
    }
}
