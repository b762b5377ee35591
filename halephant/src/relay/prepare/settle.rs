//! What the server's answers settle about statements: what was taken for done, and an error that takes it back.

use crate::prepared::Change;
use crate::relay::Relay;
use crate::relay::suspect::sqlstate;

impl Relay<'_> {
    /// A closing answer of the server's came, or an error: what it settles. Positions `from` to `to` are done with.
    pub(in crate::relay) fn settle_statements(&mut self, from: u64, to: u64, error: Option<&[u8]>) {
        if let Some(error) = error {
            self.statements_failed(from, to, error);
        } else if !self.state.statements.pending.is_empty() {
            // What is done was taken for done when it was sent.
            self.state.statements.pending.answered(from);
        }
    }

    fn statements_failed(&mut self, from: u64, to: u64, error: &[u8]) {
        match self.state.statements.unnamed.failed(from) {
            Some(Some(definition)) => self.client.statements.set_unnamed(&definition),
            Some(None) => self.client.statements.drop_unnamed(),
            None => {}
        }
        let doubtful = sqlstate(error).is_none_or(may_be_of_parse);
        for name in std::mem::take(&mut self.state.statements.answered) {
            let mut mentioned = self.state.statements.mentioned.iter();
            // What was used before is there.
            let used = mentioned.any(|used| used.position < from && *used.name() == *name);
            if doubtful
                && !used
                && let Some(named) = self.client.statements.find_mut(&name)
            {
                named.tentative = true;
            }
        }
        for change in self.state.statements.pending.failed(to) {
            let copies = &mut self.lease.connection().copies;
            match change {
                Change::Copied(id) | Change::Dropped(id) | Change::Described { id, .. } => {
                    copies.distrust(id);
                }
                Change::Own => {}
                Change::Named { name, id } => {
                    copies.distrust(id);
                    self.client.statements.remove(&name);
                }
                Change::Closed { name, named } => {
                    if let Some(named) = named {
                        self.client.statements.insert(&name, named);
                    }
                }
            }
        }
    }

    /// A ReadyForQuery came.
    #[inline]
    pub(in crate::relay) fn statements_ready(&mut self) {
        self.state.statements.answered.clear();
    }

    /// The server has no prepared statements any more.
    pub(in crate::relay) fn statements_deallocated(&mut self) {
        self.client.statements.clear();
        self.lease.connection().copies.clear();
        self.state.statements.deallocating = false;
    }
}

/// Whether a Parse could have failed with it, had it been sent: for what is not there, not allowed, or not a value.
fn may_be_of_parse(sqlstate: &[u8]) -> bool {
    match sqlstate {
        b"42P05" => false,
        b"22P02" | b"22007" | b"22008" | b"58P01" => true,
        _ => [&b"42"[..], b"3F", b"0A"].iter().any(|class| sqlstate.starts_with(class)),
    }
}
