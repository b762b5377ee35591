//! What the console understands.

use std::iter::Peekable;
use std::str::Chars;

/// Everything that SHOW shows, with what it is good for.
pub(super) const SHOWN: &[(&str, Shown, &str)] = &[
    ("help", Shown::Help, "the commands"),
    ("version", Shown::Version, "this program's version"),
    ("clusters", Shown::Clusters, "clusters, and whether each can be written to"),
    ("nodes", Shown::Nodes, "PostgreSQL servers with their roles and connections"),
    ("pools", Shown::Pools, "pools by user"),
    ("servers", Shown::Servers, "open server connections"),
    ("clients", Shown::Clients, "clients and what they do"),
    ("queues", Shown::Queues, "who waits for a server connection, and for how long"),
    ("stats", Shown::Stats, "counts and times of each pool since it was made"),
    ("config", Shown::Config, "the configuration in force"),
    ("prepared", Shown::Prepared, "prepared statements of clients in transaction mode, without literals"),
    ("splice", Shown::Splice, "the kernel path, and what it moved for which node"),
    ("listeners", Shown::Listeners, "connections that listen for clients, with listen_mode = multiplex"),
    ("pins", Shown::Pins, "clients that keep their server connection, and why"),
];

/// The other commands, as HELP lists them.
pub(super) const ORDERS: &[(&str, &str)] = &[
    ("PAUSE [database]", "lend no server connection, and wait until all are closed; clients wait"),
    ("RESUME [database]", "serve again"),
    ("RECONNECT [database]", "close server connections as they become free, for new ones"),
    ("KILL CLIENT id", "end a client's session now"),
    ("DRAIN node", "give a node no more work; what runs goes on to the end of its transaction"),
    ("UNDRAIN node", "give it work again"),
    ("SPLICE ON", "use the kernel path again"),
    ("SPLICE OFF", "take every session off the kernel path"),
    ("RELOAD", "read the configuration again"),
    ("SHUTDOWN", "let transactions finish, then end"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Help,
    Version,
    Clusters,
    Nodes,
    Pools,
    Servers,
    Clients,
    Queues,
    Stats,
    Config,
    Prepared,
    Splice,
    Listeners,
    Pins,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Show(Shown),
    /// Of one pool, or of all.
    Pause(Option<String>),
    Resume(Option<String>),
    Reconnect(Option<String>),
    KillClient(u32),
    Drain {
        node: String,
        draining: bool,
    },
    /// On or off.
    Splice(bool),
    Reload,
    Shutdown,
    /// What drivers send of their own accord: taken, and without effect. Its command tag.
    Nothing(&'static str),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CommandError {
    #[error("unknown command: \"{0}\"")]
    Unknown(String),
    #[error("{command} needs {needs}")]
    Missing { command: &'static str, needs: &'static str },
    #[error("\"{0}\" is not expected here")]
    Surplus(String),
    #[error("a quotation mark or comment does not end")]
    Unfinished,
}

impl Command {
    /// Whether it only looks.
    pub(super) fn is_harmless(&self) -> bool {
        matches!(self, Self::Show(_) | Self::Nothing(_))
    }
}

/// The commands of a text, parted by semicolons; none for an empty one.
pub(super) fn parse(text: &str) -> Result<Vec<Command>, CommandError> {
    let mut commands = Vec::new();
    for words in statements(text)? {
        commands.push(parse_words(&words)?);
    }
    Ok(commands)
}

fn parse_words(words: &[String]) -> Result<Command, CommandError> {
    let lower: Vec<String> = words.iter().map(|word| word.to_ascii_lowercase()).collect();
    let keywords: Vec<&str> = lower.iter().map(String::as_str).collect();
    let missing = |command, needs| Err(CommandError::Missing { command, needs });
    let (command, taken) = match keywords[..] {
        ["show", name, ..] => match SHOWN.iter().find(|(known, ..)| *known == name) {
            Some((_, shown, _)) => (Command::Show(*shown), 2),
            None => return Err(CommandError::Unknown(format!("SHOW {}", words[1]))),
        },
        ["show"] => (Command::Show(Shown::Help), 1),
        ["pause", ..] => (Command::Pause(words.get(1).cloned()), words.len().min(2)),
        ["resume", ..] => (Command::Resume(words.get(1).cloned()), words.len().min(2)),
        ["reconnect", ..] => (Command::Reconnect(words.get(1).cloned()), words.len().min(2)),
        ["kill", "client", id, ..] => match id.parse() {
            Ok(id) => (Command::KillClient(id), 3),
            Err(_) => return missing("KILL CLIENT", "an id as SHOW CLIENTS lists it"),
        },
        ["kill", ..] => return missing("KILL", "CLIENT and an id"),
        ["drain", _, ..] => (Command::Drain { node: words[1].clone(), draining: true }, 2),
        ["undrain", _, ..] => (Command::Drain { node: words[1].clone(), draining: false }, 2),
        ["drain"] => return missing("DRAIN", "a node as SHOW NODES lists it"),
        ["undrain"] => return missing("UNDRAIN", "a node as SHOW NODES lists it"),
        ["splice", "on", ..] => (Command::Splice(true), 2),
        ["splice", "off", ..] => (Command::Splice(false), 2),
        ["splice", ..] => return missing("SPLICE", "ON or OFF"),
        ["reload", ..] => (Command::Reload, 1),
        ["shutdown", ..] => (Command::Shutdown, 1),
        ["set", ..] => (Command::Nothing("SET"), words.len()),
        ["reset", ..] => (Command::Nothing("RESET"), words.len()),
        ["begin" | "start", ..] => (Command::Nothing("BEGIN"), words.len()),
        ["commit" | "end", ..] => (Command::Nothing("COMMIT"), words.len()),
        ["rollback" | "abort", ..] => (Command::Nothing("ROLLBACK"), words.len()),
        ["discard", ..] => (Command::Nothing("DISCARD ALL"), words.len()),
        ["deallocate", ..] => (Command::Nothing("DEALLOCATE"), words.len()),
        _ => return Err(CommandError::Unknown(words.join(" ").chars().take(64).collect())),
    };
    match words.get(taken) {
        Some(word) => Err(CommandError::Surplus(word.clone())),
        None => Ok(command),
    }
}

/// The words of each statement; comments are left out, and quotation marks keep a word together.
fn statements(text: &str) -> Result<Vec<Vec<String>>, CommandError> {
    let mut statements = Vec::new();
    let mut words = Vec::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            ';' => statements.push(std::mem::take(&mut words)),
            quote @ ('"' | '\'') => words.push(quoted(quote, &mut characters)?),
            '-' if characters.next_if_eq(&'-').is_some() => {
                characters.by_ref().find(|character| *character == '\n');
            }
            '/' if characters.next_if_eq(&'*').is_some() => comment(&mut characters)?,
            blank if blank.is_whitespace() => {}
            first => {
                let mut word = String::from(first);
                let more = |next: &char| !next.is_whitespace() && !matches!(next, ';' | '"' | '\'');
                while let Some(next) = characters.next_if(more) {
                    word.push(next);
                }
                words.push(word);
            }
        }
    }
    statements.push(words);
    statements.retain(|words| !words.is_empty());
    Ok(statements)
}

fn quoted(quote: char, characters: &mut Peekable<Chars<'_>>) -> Result<String, CommandError> {
    let mut word = String::new();
    loop {
        match characters.next().ok_or(CommandError::Unfinished)? {
            end if end == quote => match characters.next_if_eq(&quote) {
                Some(doubled) => word.push(doubled),
                None => return Ok(word),
            },
            other => word.push(other),
        }
    }
}

fn comment(characters: &mut Peekable<Chars<'_>>) -> Result<(), CommandError> {
    let mut depth = 1;
    while depth > 0 {
        match characters.next().ok_or(CommandError::Unfinished)? {
            '*' if characters.next_if_eq(&'/').is_some() => depth -= 1,
            '/' if characters.next_if_eq(&'*').is_some() => depth += 1,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[Command]) {
        assert_eq!(parse(text).as_deref(), Ok(expected), "{text}");
    }

    #[test]
    fn commands() {
        for (name, shown, _) in SHOWN {
            check(&format!("SHOW {name}"), &[Command::Show(*shown)]);
            check(&format!("/* a /* b */ */ show {} ;", name.to_uppercase()), &[Command::Show(*shown)]);
        }
        check("", &[]);
        check(" ; -- nothing\n;", &[]);
        check("kill client 17", &[Command::KillClient(17)]);
        let drain = |draining| Command::Drain { node: "pg-1:5432".into(), draining };
        check("DRAIN pg-1:5432", &[drain(true)]);
        check("Undrain \"pg-1:5432\"; RELOAD;Shutdown", &[drain(false), Command::Reload, Command::Shutdown]);
        check("SPLICE on; splice OFF", &[Command::Splice(true), Command::Splice(false)]);
        let app = || Some("My App".to_owned());
        check("PAUSE; pause 'My App'", &[Command::Pause(None), Command::Pause(app())]);
        check("Resume; RESUME \"My App\"", &[Command::Resume(None), Command::Resume(app())]);
        check("RECONNECT; RECONNECT 'My App';", &[Command::Reconnect(None), Command::Reconnect(app())]);
        check("SET client_encoding = 'it''s';BEGIN", &[Command::Nothing("SET"), Command::Nothing("BEGIN")]);
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text| parse(text).map_err(|error| error.to_string()).expect_err(text);
        assert_eq!(error("SELECT 1"), "unknown command: \"SELECT 1\"");
        assert_eq!(error("SHOW nonsense"), "unknown command: \"SHOW nonsense\"");
        assert_eq!(error("SHOW pools now"), "\"now\" is not expected here");
        assert_eq!(error("PAUSE a b"), "\"b\" is not expected here");
        assert_eq!(error("KILL CLIENT x"), "KILL CLIENT needs an id as SHOW CLIENTS lists it");
        assert_eq!(error("SPLICE maybe"), "SPLICE needs ON or OFF");
        assert_eq!(error("KILL"), "KILL needs CLIENT and an id");
        assert_eq!(error("DRAIN"), "DRAIN needs a node as SHOW NODES lists it");
        assert_eq!(error("SHOW pools; 'x"), "a quotation mark or comment does not end");
        assert_eq!(error("/*"), "a quotation mark or comment does not end");
    }
}
