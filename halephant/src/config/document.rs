//! A TOML document read key by key: every mistake is noted with its place, and reading goes on.

#[cfg(test)]
use super::findings::Field;
use super::findings::{Findings, Reported};
use super::kind::{Item, Kind};
use super::problem::{Problem, Quoted, Suggestion};
use crate::pool::settings::RoleLimits;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use toml::Spanned;
use toml::de::{DeInteger, DeString, DeTable, DeValue};

/// What PostgreSQL's own `max_connections` may be at most.
const CONNECTIONS_MAX: i64 = 262_143;

/// One table of the document, or one that is absent and has only defaults.
pub(super) struct Table<'d> {
    findings: &'d Findings,
    entries: Option<&'d DeTable<'d>>,
    /// Where the table is named first.
    offset: usize,
    /// `cluster.main.auth`; empty for the document itself.
    path: String,
    /// The same with placeholders for names: `cluster.<name>.auth`.
    pattern: String,
    known: Vec<&'static str>,
}

type Entry<'d> = (&'d Spanned<DeString<'d>>, &'d Spanned<DeValue<'d>>);

impl<'d> Table<'d> {
    pub(super) fn root(findings: &'d Findings, document: &'d Spanned<DeTable<'d>>) -> Self {
        Self {
            findings,
            entries: Some(document.get_ref()),
            offset: 0,
            path: String::new(),
            pattern: String::new(),
            known: Vec::new(),
        }
    }

    /// A string value, or the default in its place.
    pub(super) fn text<K: Kind>(
        &mut self,
        key: &'static str,
        default: &'static str,
        kind: K,
    ) -> Result<K::Value, Reported> {
        match self.entry(key, K::TYPE, || format!("{default:?}")) {
            Some((_, value)) => self.parse_text(&join(&self.path, key), value, &kind),
            None => kind.parse(default).map_err(|problem| self.wrong_at(key, problem)),
        }
    }

    /// A string value that may be left out; `absent` tells the documentation what then holds.
    pub(super) fn optional<K: Kind>(
        &mut self,
        key: &'static str,
        absent: &'static str,
        kind: K,
    ) -> Result<Option<K::Value>, Reported> {
        match self.entry(key, K::TYPE, || absent.to_owned()) {
            Some((_, value)) => self.parse_text(&join(&self.path, key), value, &kind).map(Some),
            None => Ok(None),
        }
    }

    /// A non-empty array of strings, no two of which clash. Without a default the key is required.
    pub(super) fn list<K: Item>(
        &mut self,
        key: &'static str,
        default: Option<&'static str>,
        kind: K,
    ) -> Result<Vec<K::Value>, Reported> {
        let default_text = || default.map_or("required".to_owned(), |text| format!("[{text:?}]"));
        let expected = || format!("an array of strings such as [{:?}]", K::EXAMPLE);
        let Some((_, value)) = self.entry(key, "string array", default_text) else {
            return match default {
                Some(text) => {
                    kind.parse(text).map(|value| vec![value]).map_err(|problem| self.wrong_at(key, problem))
                }
                None => Err(self.wrong_at(key, Problem::Missing(expected()))),
            };
        };
        let values = self.items(key, value, kind)?;
        if values.is_empty() {
            return Err(self.wrong_at(key, Problem::Empty(expected())));
        }
        Ok(values)
    }

    /// An array of strings that may be empty, and is where the key is left out.
    pub(super) fn optional_list<K: Item>(
        &mut self,
        key: &'static str,
        kind: K,
    ) -> Result<Vec<K::Value>, Reported> {
        match self.entry(key, "string array", || "[]".to_owned()) {
            Some((_, value)) => self.items(key, value, kind),
            None => Ok(Vec::new()),
        }
    }

    fn items<K: Item>(
        &self,
        key: &'static str,
        value: &Spanned<DeValue<'_>>,
        kind: K,
    ) -> Result<Vec<K::Value>, Reported> {
        let Some(items) = value.get_ref().as_array() else {
            let found = type_name(value.get_ref());
            let expected = format!("an array of strings such as [{:?}]", K::EXAMPLE);
            return Err(self.wrong_at(key, Problem::WrongType { found, expected }));
        };
        let path = join(&self.path, key);
        let mut values: Vec<Result<K::Value, Reported>> = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let item_path = format!("{path}[{index}]");
            let parsed = self.parse_text(&item_path, item, &kind).and_then(|value| {
                let clash =
                    values.iter().position(|other| other.as_ref().is_ok_and(|other| K::clash(other, &value)));
                match clash {
                    Some(other) => {
                        let problem = K::duplicate(&value, format!("{path}[{other}]"));
                        Err(self.findings.add(item.span().start, item_path, problem))
                    }
                    None => Ok(value),
                }
            });
            values.push(parsed);
        }
        values.into_iter().collect()
    }

    pub(super) fn integer<T: TryFrom<i64>>(
        &mut self,
        key: &'static str,
        default: i64,
        range: RangeInclusive<i64>,
    ) -> Result<T, Reported> {
        let number = match self.entry(key, "integer", || default.to_string()) {
            None => Some(default),
            Some((_, value)) => match value.get_ref() {
                DeValue::Integer(integer) => number(integer),
                other => {
                    let expected = format!("a whole number from {} to {}", range.start(), range.end());
                    return Err(self.wrong_at(key, Problem::WrongType { found: type_name(other), expected }));
                }
            },
        };
        let in_range =
            number.filter(|number| range.contains(number)).and_then(|number| T::try_from(number).ok());
        in_range.ok_or_else(|| {
            let found = number.map_or("beyond 64 bits".to_owned(), |number| number.to_string());
            self.wrong_at(key, Problem::IntegerRange { found, min: *range.start(), max: *range.end() })
        })
    }

    pub(super) fn boolean(&mut self, key: &'static str, default: bool) -> Result<bool, Reported> {
        match self.entry(key, "boolean", || default.to_string()).map(|(_, value)| value.get_ref()) {
            None => Ok(default),
            Some(DeValue::Boolean(value)) => Ok(*value),
            Some(other) => {
                let expected = "true or false".to_owned();
                Err(self.wrong_at(key, Problem::WrongType { found: type_name(other), expected }))
            }
        }
    }

    /// `{ primary, replica }`; `absent` tells the documentation what holds without it.
    pub(super) fn limits(
        &mut self,
        key: &'static str,
        absent: &'static str,
    ) -> Result<Option<RoleLimits>, Reported> {
        if self.entry(key, "{ primary, replica }", || absent.to_owned()).is_none() {
            return Ok(None);
        }
        let mut limits = self.child(key, "a table such as { primary = 20, replica = 80 }")?;
        limits.pattern = "limits".to_owned();
        let primary = limits.integer("primary", 0, 0..=CONNECTIONS_MAX);
        let replica = limits.integer("replica", 0, 0..=CONNECTIONS_MAX);
        limits.finish();
        Ok(Some(RoleLimits { primary: primary?, replica: replica? }))
    }

    /// A table of free names, each value read by `read`; empty where it is absent.
    pub(super) fn map(
        &mut self,
        key: &'static str,
        read: impl Fn(&str, &DeValue<'_>) -> Result<String, Problem>,
    ) -> Result<BTreeMap<String, String>, Reported> {
        self.entry(key, "table", || "{}".to_owned());
        let table = self.child(key, "a table such as { search_path = \"app\" }")?;
        let values: Vec<_> = table
            .entries
            .into_iter()
            .flatten()
            .map(|(name, value)| match read(name.get_ref(), value.get_ref()) {
                Ok(text) => Ok((name.get_ref().to_string(), text)),
                Err(problem) => Err(table.wrong_at(name.get_ref(), problem)),
            })
            .collect();
        values.into_iter().collect()
    }

    /// A section with a fixed name. Where it is absent, `read` sees one without keys.
    pub(super) fn table<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Table<'d>) -> Result<T, Reported>,
    ) -> Result<T, Reported> {
        self.known.push(key);
        let mut child = self.child(key, "a table")?;
        let value = read(&mut child);
        child.finish();
        value
    }

    /// The sections `key.<name>`, of which there must be one; `what` is what a name stands for. A section that could
    /// not be read is in the list as such, so that the others can still be compared.
    pub(super) fn tables<K: Kind<Value = String>, T>(
        &mut self,
        key: &'static str,
        placeholder: &'static str,
        kind: K,
        read: impl FnMut(String, &mut Table<'d>) -> Result<T, Reported>,
    ) -> Result<Vec<Result<T, Reported>>, Reported> {
        let values = self.optional_tables(key, placeholder, kind, read)?;
        if values.is_empty() {
            let header = format!("{}.{placeholder}", join(&self.path, key));
            return Err(self.wrong(Problem::NothingIn { what: key, header }));
        }
        Ok(values)
    }

    /// As [`tables`](Self::tables), where there may be none.
    pub(super) fn optional_tables<K: Kind<Value = String>, T>(
        &mut self,
        key: &'static str,
        placeholder: &'static str,
        kind: K,
        mut read: impl FnMut(String, &mut Table<'d>) -> Result<T, Reported>,
    ) -> Result<Vec<Result<T, Reported>>, Reported> {
        self.known.push(key);
        let tables = self.child(key, "a table")?;
        let read_one = |(key, _): Entry<'d>| {
            let name = kind.parse(key.get_ref()).map_err(|problem| tables.wrong_at(key.get_ref(), problem));
            let mut child = tables.child(key.get_ref(), "a table")?;
            child.pattern = join_pattern(&tables.pattern, placeholder);
            // The section is read even where its name is wrong: its own mistakes are wanted too.
            let value = read(key.get_ref().to_string(), &mut child);
            child.finish();
            name.and(value)
        };
        Ok(tables.entries.into_iter().flatten().map(read_one).collect())
    }

    /// The raw table `key`, for questions about names; `None` where there is none.
    pub(super) fn peek(&self, key: &str) -> Option<&'d DeTable<'d>> {
        self.find(key)?.1.get_ref().as_table()
    }

    /// Notes a mistake of the section as a whole.
    pub(super) fn wrong(&self, problem: Problem) -> Reported {
        self.findings.add(self.offset, self.path.clone(), problem)
    }

    /// Notes a mistake in the value of `key`, or the lack of one.
    pub(super) fn wrong_at(&self, key: &str, problem: Problem) -> Reported {
        let offset = self.find(key).map_or(self.offset, |(name, value)| match value.get_ref() {
            // The span of a table is that of all its text; its name is where it starts for a reader.
            DeValue::Table(_) => name.span().start,
            _ => value.span().start,
        });
        self.findings.add(offset, join(&self.path, key), problem)
    }

    /// Whether the file gives `key` a value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// Notes the keys that nobody asked for.
    pub(super) fn finish(self) {
        for (key, _) in self.entries.into_iter().flatten() {
            let name: &str = key.get_ref();
            if !self.known.contains(&name) {
                let problem = Problem::UnknownKey(Suggestion::new(name, &self.known));
                self.findings.add(key.span().start, join(&self.path, name), problem);
            }
        }
    }

    fn parse_text<K: Kind>(
        &self,
        path: &str,
        value: &Spanned<DeValue<'_>>,
        kind: &K,
    ) -> Result<K::Value, Reported> {
        let parsed = match value.get_ref().as_str() {
            Some(text) => kind.parse(text),
            None => Err(Problem::WrongType { found: type_name(value.get_ref()), expected: kind.expected() }),
        };
        parsed.map_err(|problem| self.findings.add(value.span().start, path.to_owned(), problem))
    }

    fn find(&self, key: &str) -> Option<Entry<'d>> {
        self.entries?.get_key_value(key)
    }

    /// The key's name and value, if it is there; notes that it is known.
    fn entry(
        &mut self,
        key: &'static str,
        _kind: &'static str,
        _default: impl Fn() -> String,
    ) -> Option<Entry<'d>> {
        self.known.push(key);
        #[cfg(test)]
        self.findings.fields.borrow_mut().push(Field {
            section: self.pattern.clone(),
            key,
            kind: _kind,
            default: _default(),
        });
        self.find(key)
    }

    fn child(&self, key: &str, expected: &str) -> Result<Table<'d>, Reported> {
        let (offset, entries) = match self.find(key) {
            None => (self.offset, None),
            Some((name, value)) => match value.get_ref().as_table() {
                Some(table) => (name.span().start, Some(table)),
                None => {
                    let found = type_name(value.get_ref());
                    return Err(
                        self.wrong_at(key, Problem::WrongType { found, expected: expected.to_owned() })
                    );
                }
            },
        };
        Ok(Table {
            findings: self.findings,
            entries,
            offset,
            path: join(&self.path, key),
            pattern: join_pattern(&self.pattern, key),
            known: Vec::new(),
        })
    }
}

fn join(path: &str, key: &str) -> String {
    let is_bare = !key.is_empty()
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    let key = if is_bare { key.to_owned() } else { Quoted::new(key).to_string() };
    join_pattern(path, &key)
}

fn join_pattern(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// `None`: it does not fit 64 bits.
pub(super) fn number(integer: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// The type of a value with its article.
pub(super) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
