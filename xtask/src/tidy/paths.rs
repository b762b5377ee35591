//! The paths that a token stream names, in `use` and in code, macros included.

use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};

/// `crate::pool::Key`, from its first identifier on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub segments: Vec<String>,
    pub line: usize,
    /// Inline modules around it.
    pub inside: Vec<String>,
}

/// Every path, those of one segment too; a group in a `use` gives one path for each of its branches.
pub fn of(tokens: TokenStream) -> Vec<Named> {
    let mut found = Vec::new();
    walk(&tokens.into_iter().collect::<Vec<_>>(), &[], &mut found);
    found
}

fn walk(trees: &[TokenTree], inside: &[String], found: &mut Vec<Named>) {
    let mut index = 0;
    while index < trees.len() {
        index = match &trees[index] {
            TokenTree::Ident(ident) => {
                if let Some((name, group)) = inline_module(&trees[index..]) {
                    let mut deeper = inside.to_vec();
                    deeper.push(name);
                    walk(&content(group), &deeper, found);
                    index + 3
                } else {
                    path(trees, index, &Prefix { segments: Vec::new(), inside, first: ident }, found)
                }
            }
            TokenTree::Group(group) => {
                walk(&content(group), inside, found);
                index + 1
            }
            _ => index + 1,
        };
    }
}

struct Prefix<'a> {
    segments: Vec<String>,
    inside: &'a [String],
    first: &'a Ident,
}

/// Reads the path that starts at `index` and gives the index behind it.
fn path(trees: &[TokenTree], mut index: usize, prefix: &Prefix<'_>, found: &mut Vec<Named>) -> usize {
    let mut segments = prefix.segments.clone();
    let named =
        |segments| Named { segments, line: prefix.first.span().start().line, inside: prefix.inside.to_vec() };
    loop {
        match trees.get(index) {
            Some(TokenTree::Ident(ident)) => segments.push(ident.to_string()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                branches(group, &segments, prefix, found);
                return index + 1;
            }
            // `crate::*`, or `::<T>` behind a name.
            _ => {
                found.push(named(segments));
                return index;
            }
        }
        index += 1;
        if !is_colon(trees.get(index)) || !is_colon(trees.get(index + 1)) {
            found.push(named(segments));
            return index;
        }
        index += 2;
    }
}

/// The comma-separated branches of a `use` group.
fn branches(group: &Group, segments: &[String], prefix: &Prefix<'_>, found: &mut Vec<Named>) {
    let trees = content(group);
    let mut index = 0;
    while index < trees.len() {
        index = match &trees[index] {
            TokenTree::Ident(first) => {
                let prefix = Prefix { segments: segments.to_vec(), inside: prefix.inside, first };
                path(&trees, index, &prefix, found)
            }
            _ => index + 1,
        };
    }
}

fn inline_module(trees: &[TokenTree]) -> Option<(String, &Group)> {
    match trees {
        [TokenTree::Ident(keyword), TokenTree::Ident(name), TokenTree::Group(body), ..]
            if keyword == "mod" && body.delimiter() == Delimiter::Brace =>
        {
            Some((name.to_string(), body))
        }
        _ => None,
    }
}

fn content(group: &Group) -> Vec<TokenTree> {
    group.stream().into_iter().collect()
}

fn is_colon(tree: Option<&TokenTree>) -> bool {
    matches!(tree, Some(TokenTree::Punct(punct)) if punct.as_char() == ':')
}
