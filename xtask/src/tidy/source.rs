//! A Rust file: its text, its tokens and where it stands in its crate.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::{File, Finding};

pub struct Source<'a> {
    pub path: &'a str,
    pub text: &'a str,
    pub tokens: TokenStream,
    /// Of files below a crate's `src`: `["pool", "waiters"]` for `src/pool/waiters.rs`, nothing for `src/lib.rs`.
    pub module: Vec<String>,
}

impl<'a> Source<'a> {
    pub fn parse(file: &'a File) -> Result<Self, Finding> {
        let tokens = TokenStream::from_str(&file.text)
            .map_err(|error| Finding::new(&file.path, 1, format!("not Rust: {error}")))?;
        Ok(Self { path: &file.path, text: &file.text, tokens, module: module_of(&file.path) })
    }

    /// Whether all of the file is tests.
    pub fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }

    /// The lines of `#[cfg(test)]` modules.
    pub fn test_lines(&self) -> Vec<RangeInclusive<usize>> {
        let trees: Vec<TokenTree> = self.tokens.clone().into_iter().collect();
        let mut ranges = Vec::new();
        for (index, tree) in trees.iter().enumerate() {
            let TokenTree::Group(group) = tree else { continue };
            if group.delimiter() != Delimiter::Bracket || group.to_string().replace(' ', "") != "[cfg(test)]"
            {
                continue;
            }
            let body = trees[index + 1..].iter().find(|tree| {
                matches!(tree, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
                    || matches!(tree, TokenTree::Punct(punct) if punct.as_char() == ';')
            });
            let end = body.map_or(0, |tree| tree.span().end().line);
            ranges.push(tree.span().start().line..=end);
        }
        ranges
    }
}

fn module_of(path: &str) -> Vec<String> {
    let Some((_, below)) = path.split_once("src/") else { return Vec::new() };
    let parts = below.trim_end_matches(".rs").split('/');
    parts.filter(|part| *part != "lib").map(str::to_owned).collect()
}
