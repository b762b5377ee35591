//! What a client's startup packet asks for beyond who it is: run-time parameters, `options`, replication.

use crate::server::Replication;
use crate::server::parameters::{SessionParameters, is_parameter_name};
use halephant_protocol::SqlState;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    #[error("parameter \"{name}\" in the startup packet is not a valid parameter name")]
    Name { name: String },
    #[error(
        "unsupported startup parameter in \"options\": \"{argument}\" (only -c name=value and --name=value are)"
    )]
    Options { argument: String },
    #[error("invalid value for parameter \"replication\": \"{value}\"")]
    Replication { value: String },
}

impl ParameterError {
    pub fn sqlstate(&self) -> SqlState {
        match self {
            Self::Name { .. } => SqlState::UNDEFINED_OBJECT,
            Self::Options { .. } => SqlState::FEATURE_NOT_SUPPORTED,
            Self::Replication { .. } => SqlState::INVALID_PARAMETER_VALUE,
        }
    }
}

/// The parameters that the session wants, in PostgreSQL's order: `options` first, then the packet's own.
pub fn session_parameters<'a>(
    packet: impl Iterator<Item = (&'a str, &'a str)> + Clone,
) -> Result<SessionParameters, ParameterError> {
    let mut wanted = SessionParameters::default();
    for (_, value) in packet.clone().filter(|&(name, _)| name == "options") {
        for (name, value) in parse_options(value)? {
            set(&mut wanted, &name, &value)?;
        }
    }
    for (name, value) in packet {
        match name {
            "user" | "database" | "options" | "replication" => {}
            // Protocol options are negotiated, not set.
            name if name.starts_with("_pq_.") => {}
            name => set(&mut wanted, name, value)?,
        }
    }
    Ok(wanted)
}

fn set(wanted: &mut SessionParameters, name: &str, value: &str) -> Result<(), ParameterError> {
    if !is_parameter_name(name) {
        return Err(ParameterError::Name { name: name.chars().take(64).collect() });
    }
    wanted.set(name, value);
    Ok(())
}

/// Whether a startup packet asks for a walsender. As PostgreSQL has it, the last word counts, and words may be cut short.
pub fn replication<'a>(
    packet: impl DoubleEndedIterator<Item = (&'a str, &'a str)>,
) -> Result<Option<Replication>, ParameterError> {
    let Some((_, value)) = packet.rev().find(|&(name, _)| name == "replication") else { return Ok(None) };
    let word = value.to_ascii_lowercase();
    let is = |whole: &str, least: usize| word.len() >= least && whole.starts_with(&word);
    match () {
        () if value == "database" => Ok(Some(Replication::Logical)),
        () if is("true", 1) || is("yes", 1) || is("on", 2) || word == "1" => Ok(Some(Replication::Physical)),
        () if is("false", 1) || is("no", 1) || is("off", 2) || word == "0" => Ok(None),
        () => Err(ParameterError::Replication { value: value.chars().take(64).collect() }),
    }
}

/// The settings in an `options` value: white space parts arguments, a backslash takes the next character literally.
fn parse_options(options: &str) -> Result<Vec<(String, String)>, ParameterError> {
    let mut settings = Vec::new();
    let mut arguments = split_arguments(options).into_iter();
    while let Some(argument) = arguments.next() {
        let unsupported = || ParameterError::Options { argument: argument.chars().take(64).collect() };
        let setting = match argument.strip_prefix("--") {
            Some(setting) => setting.to_owned(),
            None => match argument.strip_prefix("-c").ok_or_else(unsupported)? {
                "" => arguments.next().ok_or_else(unsupported)?,
                setting => setting.to_owned(),
            },
        };
        let (name, value) = setting.split_once('=').ok_or_else(unsupported)?;
        // PostgreSQL reads dashes in a name as underscores.
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

fn split_arguments(options: &str) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut current: Option<String> = None;
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        match character {
            character if character.is_ascii_whitespace() => arguments.extend(current.take()),
            '\\' => current.get_or_insert_default().extend(characters.next()),
            character => current.get_or_insert_default().push(character),
        }
    }
    arguments.extend(current);
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(packet: &[(&'static str, &'static str)]) -> Result<Vec<(String, String)>, ParameterError> {
        let wanted = session_parameters(packet.iter().copied())?;
        Ok(wanted.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    #[test]
    fn options_come_first_and_the_packet_overrides_them() {
        let packet = [
            ("user", "u"),
            ("database", "d"),
            ("DateStyle", "ISO"),
            ("options", r"-c search_path=a,\ b -cstatement_timeout=5s --date-style=German  -c x.y=z\\"),
        ];
        let expected = [
            ("date_style", "German"),
            ("datestyle", "ISO"),
            ("search_path", "a, b"),
            ("statement_timeout", "5s"),
            ("x.y", "z\\"),
        ];
        let expected: Vec<_> = expected.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
        assert_eq!(parse(&packet), Ok(expected));
    }

    /// The words that PostgreSQL's `parse_bool` takes, and `database`.
    #[test]
    fn replication_is_asked_for_in_postgresqls_words() {
        let of = |value: &'static str| replication([("user", "u"), ("replication", value)].into_iter());
        for value in ["true", "T", "yes", "y", "on", "1"] {
            assert_eq!(of(value), Ok(Some(Replication::Physical)), "{value}");
        }
        for value in ["false", "f", "No", "of", "off", "0"] {
            assert_eq!(of(value), Ok(None), "{value}");
        }
        assert_eq!(of("database"), Ok(Some(Replication::Logical)));
        for value in ["", "o", "Database", "2", "truely"] {
            assert_eq!(of(value), Err(ParameterError::Replication { value: value.into() }), "{value}");
        }
        let twice = [("replication", "on"), ("replication", "off")];
        assert_eq!(replication(twice.into_iter()), Ok(None));
        assert_eq!(replication([("user", "u")].into_iter()), Ok(None));
    }

    #[test]
    fn what_cannot_be_tracked_is_refused_by_name() {
        let options = |argument: &str| Err(ParameterError::Options { argument: argument.to_owned() });
        assert_eq!(parse(&[("options", "-B 100")]), options("-B"));
        assert_eq!(parse(&[("options", "-c")]), options("-c"));
        assert_eq!(parse(&[("options", "-c work_mem")]), options("-c"));
        assert_eq!(parse(&[("a b", "x")]), Err(ParameterError::Name { name: "a b".into() }));
        assert_eq!(parse(&[("replication", "database")]), Ok(vec![]), "it is no parameter");
        assert_eq!(parse(&[("_pq_.x", "y")]), Ok(vec![]));
    }
}
