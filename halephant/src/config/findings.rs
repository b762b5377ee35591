//! The mistakes found while a document is read.

use super::error::{ConfigError, ConfigErrors, Position};
use super::problem::{Problem, Quoted};
use std::cell::{Cell, RefCell};

/// More mistakes than this are counted, not kept: nobody reads on.
const ERRORS_MAX: usize = 1000;

/// Stands for a value that could not be read and whose mistake has been noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reported(());

/// The mistakes found so far, each with the byte it is at.
#[derive(Default)]
pub(super) struct Findings {
    list: RefCell<Vec<(usize, String, Problem)>>,
    omitted: Cell<usize>,
    #[cfg(test)]
    pub(super) fields: RefCell<Vec<Field>>,
}

/// One key that the reader asked for, as the documentation lists it.
#[cfg(test)]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Field {
    /// `cluster.<name>.auth`
    pub(super) section: String,
    pub(super) key: &'static str,
    pub(super) kind: &'static str,
    /// As TOML, or a word such as `required`.
    pub(super) default: String,
}

impl Findings {
    /// `offset`: the byte of the document that the mistake is at.
    pub(super) fn add(&self, offset: usize, path: String, problem: Problem) -> Reported {
        let mut list = self.list.borrow_mut();
        if list.len() < ERRORS_MAX {
            list.push((offset, path, problem));
        } else {
            self.omitted.set(self.omitted.get() + 1);
        }
        Reported(())
    }

    pub(super) fn add_syntax(&self, error: &toml::de::Error, text: &str) -> Reported {
        let message = error.message().to_owned();
        let span = error.span().unwrap_or(text.len()..text.len());
        let problem = match text.get(span.clone()) {
            None | Some("") => Problem::Syntax { message },
            Some(at) => Problem::SyntaxAt { message, at: Quoted::new(at) },
        };
        self.add(span.start, String::new(), problem)
    }

    /// The mistakes in the order of the file; `None` where there are none.
    pub(super) fn into_errors(self, file: &str, text: &str) -> Option<ConfigErrors> {
        let mut list = self.list.into_inner();
        list.sort_by_key(|(offset, ..)| *offset);
        let errors: Vec<_> = list
            .into_iter()
            .map(|(offset, path, problem)| ConfigError {
                position: Some(Position::of(offset, text)),
                path,
                problem,
            })
            .collect();
        (!errors.is_empty()).then(|| ConfigErrors {
            file: file.to_owned(),
            errors,
            omitted: self.omitted.get(),
        })
    }
}
