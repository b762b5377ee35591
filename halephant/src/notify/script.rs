//! What the statements of a text do to the channels that a session listens on: LISTEN and UNLISTEN, and what decides
//! whether they come into force.

use super::channel::Channel;
use crate::sql::effect::{Discard, Effect, Transaction};
use crate::sql::literal::Datum;
use crate::sql::{self, Dialect};

/// One statement, to be known again by the tag that answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Listen(Channel),
    Unlisten(Channel),
    /// UNLISTEN of a name that cannot be read: nothing is listened on under it.
    UnlistenUnread,
    UnlistenAll,
    DiscardAll,
    Savepoint(Box<[u8]>),
    Release(Box<[u8]>),
    RollbackTo(Box<[u8]>),
    Commit,
    Rollback,
    PrepareTransaction,
}

impl Command {
    /// Whether a CommandComplete with this tag may answer it.
    pub fn is_answered_by(&self, tag: &[u8]) -> bool {
        match self {
            Self::Listen(_) => tag == b"LISTEN",
            Self::Unlisten(_) | Self::UnlistenUnread | Self::UnlistenAll => tag == b"UNLISTEN",
            Self::DiscardAll => tag == b"DISCARD ALL",
            Self::Savepoint(_) => tag == b"SAVEPOINT",
            Self::Release(_) => tag == b"RELEASE",
            Self::RollbackTo(_) | Self::Rollback => tag == b"ROLLBACK",
            // In a failed transaction they roll back, and say so.
            Self::Commit => tag == b"COMMIT" || tag == b"ROLLBACK",
            Self::PrepareTransaction => tag == b"PREPARE TRANSACTION" || tag == b"ROLLBACK",
        }
    }
}

/// What of a text matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    pub commands: Vec<Command>,
    /// It may send notifications.
    pub notifies: bool,
    /// It listens on a channel whose name cannot be read.
    pub unread: bool,
}

impl Script {
    /// `None`: nothing of it matters, as of most texts.
    pub fn read(text: &[u8], dialect: Dialect) -> Option<Self> {
        if !sql::may_have_effects(text, dialect) {
            return None;
        }
        let mut script = Self::default();
        for effect in sql::classify(text, dialect).iter() {
            script.add(effect);
        }
        (script != Self::default()).then_some(script)
    }

    fn add(&mut self, effect: &Effect<'_>) {
        let command = match effect {
            Effect::Listen(channel) => match channel.text() {
                Some(name) => Command::Listen(Channel::new(name)),
                None => {
                    self.unread = true;
                    return;
                }
            },
            Effect::Unlisten(Some(channel)) => match channel.text() {
                Some(name) => Command::Unlisten(Channel::new(name)),
                None => Command::UnlistenUnread,
            },
            Effect::Unlisten(None) => Command::UnlistenAll,
            Effect::Discard(Discard::All) => Command::DiscardAll,
            Effect::Transaction(transaction) => match of_transaction(transaction) {
                Some(command) => command,
                None => return,
            },
            Effect::Notify(_) => {
                self.notifies = true;
                return;
            }
            _ => return,
        };
        self.commands.push(command);
    }

    pub fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.commands.iter().filter_map(|command| match command {
            Command::Listen(channel) => Some(channel),
            _ => None,
        })
    }
}

fn of_transaction(transaction: &Transaction<'_>) -> Option<Command> {
    // A name that cannot be read is no other one's.
    let name = |name: &Datum<'_>| Box::from(name.text().unwrap_or_default());
    Some(match transaction {
        Transaction::Commit { .. } => Command::Commit,
        Transaction::Rollback { .. } => Command::Rollback,
        Transaction::Savepoint(savepoint) => Command::Savepoint(name(savepoint)),
        Transaction::Release(savepoint) => Command::Release(name(savepoint)),
        Transaction::RollbackTo(savepoint) => Command::RollbackTo(name(savepoint)),
        Transaction::Prepare(_) => Command::PrepareTransaction,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Script> {
        Script::read(text.as_bytes(), Dialect::default())
    }

    fn channel(name: &str) -> Channel {
        Channel::new(name.as_bytes())
    }

    #[test]
    fn most_texts_do_not_matter() {
        for text in ["", "select 1", "set x = 1", "begin", "select 'listen a'", "-- listen a", "nonsense a"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn names_are_the_servers() {
        let script =
            read("begin; LISTEN Chan; /* x */ unlisten \"Chan\"; unlisten *; COMMIT").expect("it matters");
        let expected = [
            Command::Listen(channel("chan")),
            Command::Unlisten(channel("Chan")),
            Command::UnlistenAll,
            Command::Commit,
        ];
        assert_eq!((script.commands, script.notifies, script.unread), (expected.to_vec(), false, false));
    }

    #[test]
    fn transactions_and_notifications_matter() {
        let script =
            read("savepoint A; release a; rollback to \"B\"; abort; discard all; select pg_notify('a', 'b')")
                .expect("it matters");
        let expected = [
            Command::Savepoint((*b"a").into()),
            Command::Release((*b"a").into()),
            Command::RollbackTo((*b"B").into()),
            Command::Rollback,
            Command::DiscardAll,
        ];
        assert_eq!((script.commands, script.notifies), (expected.to_vec(), true));
        assert!(read("notify a, 'x'").expect("it matters").notifies);
    }

    #[test]
    fn a_name_that_only_the_server_can_read_is_said_to_be_unread() {
        let long = "é".repeat(40);
        assert!(read(&format!("listen \"{long}\"")).expect("it matters").unread);
        let script = read(&format!("unlisten \"{long}\"")).expect("it matters");
        assert_eq!((script.commands, script.unread), (vec![Command::UnlistenUnread], false));
    }
}
