//! Run-time parameters: those a session wants, and those a server reports.

use crate::sql::Dialect;
use std::sync::Arc;

/// Parameters and values a session has set beyond what its server connections start with.
///
/// Cheap to clone and, where two are copies of one, to compare: most clients of an application want the same, and mostly nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SessionParameters(Option<Arc<Entries>>);

/// Sorted by name; names are lower case.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Entries(Vec<(String, String)>);

impl SessionParameters {
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|entries| &entries.0).map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub fn value(&self, name: &str) -> Option<&str> {
        let entries = &self.0.as_ref()?.0;
        let at = entries.binary_search_by(|(entry, _)| entry.as_str().cmp(name)).ok()?;
        Some(&entries[at].1)
    }

    /// Sets `name` (case-insensitive); a shared value is copied first.
    pub fn set(&mut self, name: &str, value: &str) {
        let name = name.to_ascii_lowercase();
        let mut entries = self.0.as_ref().map_or_else(Vec::new, |entries| entries.0.clone());
        match entries.binary_search_by(|(entry, _)| entry.cmp(&name)) {
            Ok(at) if entries[at].1 == value => return,
            Ok(at) => entries[at].1 = value.to_owned(),
            Err(at) => entries.insert(at, (name, value.to_owned())),
        }
        self.0 = Some(Arc::new(Entries(entries)));
    }

    /// Gives `name` the value that it has in `origin`, or none.
    pub fn restore(&mut self, name: &str, origin: &Self) {
        if let Some(value) = origin.value(name) {
            self.set(name, value);
        } else if self.value(name).is_some() {
            let entries: Vec<_> = self.iter().filter(|&(entry, _)| entry != name).collect();
            *self = entries.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        }
    }

    /// What turns a connection that has `self` applied into one for `wanted`: parameters to set, and names to reset.
    pub fn difference<'a>(&'a self, wanted: &'a Self) -> Difference<'a> {
        let mut set: Vec<_> =
            wanted.iter().filter(|&(name, value)| self.value(name) != Some(value)).collect();
        let reset: Vec<_> =
            self.iter().map(|(name, _)| name).filter(|name| wanted.value(name).is_none()).collect();
        if let Some(role) = wanted.value("role")
            && self.value("role") == Some(role)
            && !(set.is_empty() && reset.is_empty())
        {
            // The others are set by who logged in.
            set.push(("role", role));
        }
        Difference { set, reset }
    }
}

impl FromIterator<(String, String)> for SessionParameters {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(entries: T) -> Self {
        let mut parameters = Self::default();
        entries.into_iter().for_each(|(name, value)| parameters.set(&name, &value));
        parameters
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct Difference<'a> {
    pub set: Vec<(&'a str, &'a str)>,
    pub reset: Vec<&'a str>,
}

/// The ParameterStatus values of a connection, in the order the server first sent them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportedParameters(Arc<Vec<(String, String)>>);

/// A server reports about 15 parameters; an extension may add some.
const REPORTED_MAX: usize = 256;

impl ReportedParameters {
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(entry, _)| entry == name).map(|(_, value)| value.as_str())
    }

    /// How a server that reports these reads SQL.
    pub fn dialect(&self) -> Dialect {
        super::connection::dialect_of(self)
    }

    /// Stores a ParameterStatus. A server that reports absurdly many is not believed: `false`.
    pub fn set(&mut self, name: &str, value: &str) -> bool {
        if self.value(name) == Some(value) {
            return true;
        }
        let entries = Arc::make_mut(&mut self.0);
        match entries.iter().position(|(entry, _)| entry == name) {
            Some(at) => entries[at].1 = value.to_owned(),
            None if entries.len() < REPORTED_MAX => entries.push((name.to_owned(), value.to_owned())),
            None => return false,
        }
        true
    }

    /// The parameters of `self` whose value differs in `other`.
    pub fn differing<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.iter().filter(|&(name, value)| other.value(name) != Some(value))
    }
}

/// Parameters that are reported but that no session can set: they tell about the server or the login.
pub fn is_settable(name: &str) -> bool {
    !matches!(
        name,
        "in_hot_standby"
            | "integer_datetimes"
            | "is_superuser"
            | "server_encoding"
            | "server_version"
            | "session_authorization"
    )
}

/// Words of letters, digits, `_` and `$`, parted by dots; such a name needs no quoting beyond double quotes.
pub fn is_parameter_name(name: &str) -> bool {
    let word = |word: &str| {
        word.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$')
    };
    name.len() < 128 && name.split('.').all(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(entries: &[(&str, &str)]) -> SessionParameters {
        entries.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn names_fold_and_the_last_value_counts() {
        let parameters = session(&[("DateStyle", "ISO"), ("timezone", "UTC"), ("datestyle", "German")]);
        assert_eq!(parameters.iter().collect::<Vec<_>>(), [("datestyle", "German"), ("timezone", "UTC")]);
        assert_eq!(parameters, session(&[("TimeZone", "UTC"), ("datestyle", "German")]));
    }

    #[test]
    fn the_difference_sets_what_is_wanted_and_resets_the_rest() {
        let applied = session(&[("a", "1"), ("b", "2"), ("c", "3")]);
        let wanted = session(&[("b", "2"), ("c", "4"), ("d", "5")]);
        let difference = applied.difference(&wanted);
        assert_eq!(difference.set, [("c", "4"), ("d", "5")]);
        assert_eq!(difference.reset, ["a"]);
        assert_eq!(wanted.difference(&wanted), Difference { set: vec![], reset: vec![] });
    }

    #[test]
    fn a_role_is_taken_again_when_anything_else_changes() {
        let applied = session(&[("a", "1"), ("role", "r")]);
        let wanted = session(&[("a", "2"), ("role", "r")]);
        assert_eq!(applied.difference(&wanted).set, [("a", "2"), ("role", "r")]);
        assert_eq!(wanted.difference(&wanted).set, []);
        let gone = session(&[("role", "r")]);
        assert_eq!(applied.difference(&gone), Difference { set: vec![("role", "r")], reset: vec!["a"] });
    }

    #[test]
    fn a_server_cannot_report_without_end() {
        let mut reported = ReportedParameters::default();
        assert!((0..REPORTED_MAX).all(|n| reported.set(&n.to_string(), "x")));
        assert!(!reported.set("one more", "x"));
        assert!(reported.set("0", "y"), "known ones still change");
    }

    #[test]
    fn names_are_words_parted_by_dots() {
        for name in ["a", "_a1$", "plpgsql.x", "a.b.c"] {
            assert!(is_parameter_name(name), "{name}");
        }
        for name in ["", ".", "a.", "1a", "a\"b", "a;b", "ä", "a b"] {
            assert!(!is_parameter_name(name), "{name}");
        }
    }
}
