//! The `name=value` words behind a rule's method, each taken once.

use super::MethodError;

/// Every option there is, of any method.
const KNOWN: [&str; 24] = [
    "audience",
    "claim",
    "clientcert",
    "clientname",
    "issuer",
    "jwks",
    "jwksca",
    "ldapbasedn",
    "ldapbinddn",
    "ldapbindpasswd",
    "ldapca",
    "ldapport",
    "ldapprefix",
    "ldapscheme",
    "ldapsearchattribute",
    "ldapsearchfilter",
    "ldapserver",
    "ldapsuffix",
    "ldaptls",
    "ldapurl",
    "leeway",
    "map",
    "pam_use_hostname",
    "pamservice",
];

/// The options that nobody has taken yet.
pub(super) struct Options(Vec<(String, String)>);

impl Options {
    pub(super) fn new<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, MethodError> {
        let mut options: Vec<(String, String)> = Vec::new();
        for (index, word) in words.into_iter().enumerate() {
            // Not the word itself: it may be a password that lost its name.
            let (name, value) = word.split_once('=').ok_or(MethodError::NoValue(index + 1))?;
            if options.iter().any(|(known, _)| known == name) {
                return Err(MethodError::Twice(name.to_owned()));
            }
            options.push((name.to_owned(), value.to_owned()));
        }
        Ok(Self(options))
    }

    pub(super) fn take(&mut self, name: &'static str) -> Option<String> {
        debug_assert!(KNOWN.contains(&name), "{name} is missing in the table");
        let index = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.remove(index).1)
    }

    /// PostgreSQL writes a truth as `1`.
    pub(super) fn take_flag(&mut self, name: &'static str) -> Result<bool, MethodError> {
        match self.take(name).as_deref() {
            None | Some("0") => Ok(false),
            Some("1") => Ok(true),
            Some(value) => {
                let expected = "it must be 0 or 1";
                Err(MethodError::Value { option: name, value: value.to_owned(), expected })
            }
        }
    }

    /// What is left belongs to no option of the method.
    pub(super) fn finish(self, method: &'static str) -> Result<(), MethodError> {
        match self.0.into_iter().next() {
            None => Ok(()),
            Some((option, _)) if KNOWN.contains(&option.as_str()) => {
                Err(MethodError::NotOfMethod { option, method })
            }
            Some((option, _)) => Err(MethodError::UnknownOption(option)),
        }
    }
}
