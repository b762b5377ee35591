//! Columns that a client goes by. A copy is prepared as its tables are at that time, and a client that was told other columns
//! before would misread its rows: it gets the error that PostgreSQL gives to who prepared before the change.

use super::Passage;
use crate::prepared::{Change, Columns, Presence, StatementId, message};
use crate::relay::output::Output;
use crate::relay::refuse::Reason;
use crate::relay::{Relay, inspect};
use halephant_protocol::backend::{self, TransactionStatus};
use halephant_protocol::frame::{HEADER_BYTES, Header, parse_frontend_header};
use halephant_protocol::frontend::tag;

/// Largest answer to our own Describe: 1,664 columns with long names, or 65,535 parameters.
pub(in crate::relay) const DESCRIPTION_BYTES_MAX: u32 = 256 * 1024;

impl Relay<'_> {
    /// Sees to it that there is a copy with the columns that the client goes by, before a Bind or Describe of it.
    pub(super) fn fit_copy(
        &mut self,
        header: Header,
        name: &[u8],
        (id, told): (StatementId, Columns),
        (presence, columns): (Presence, Columns),
        output: &mut Output<'_>,
    ) -> Option<Passage> {
        if self.state.tracker.has_lost_count() {
            // The answer to what is put in could not be told from the client's. Where there is no copy, the server says so.
            return None;
        }
        let pending = &self.state.statements.pending;
        if pending.is_copy_unsettled(id) {
            return Some(self.wait(output));
        }
        let is_told = header.tag == tag::DESCRIBE || is_described_next(header, output.rest());
        if presence != Presence::Ready {
            if let Some(passage) = self.make_copy(name, id, presence, output) {
                return Some(passage);
            }
            return self.compare(name, id, told, is_told, output);
        }
        if !columns.is_known() {
            let told_by_that = pending.describes(id).is_none_or(|by| by == Some(name));
            return (!told_by_that && told.has_rows()).then(|| self.wait(output));
        }
        if columns == told {
            return None;
        }
        if !told.is_known() {
            if is_told && let Some(named) = self.client.statements.find_mut(name) {
                named.told = columns;
            }
            return None;
        }
        if is_told {
            self.describe_copy(id, Some(name), output);
            return None;
        }
        if self.state.statements.renewed == id {
            if let Some(named) = self.client.statements.find(name) {
                named.held.changed();
            }
            return Some(self.refuse_columns(header, output));
        }
        if self.state.tracker.status() == TransactionStatus::Failed {
            // It fails for that.
            return None;
        }
        // Which of the two is how the table is by now?
        if let Some(passage) = self.make_copy(name, id, Presence::Stale, output) {
            return Some(passage);
        }
        self.compare(name, id, told, false, output)
    }

    /// A copy is being made: has it the columns that the client goes by?
    fn compare(
        &mut self,
        name: &[u8],
        id: StatementId,
        told: Columns,
        is_told: bool,
        output: &mut Output<'_>,
    ) -> Option<Passage> {
        if is_told || !told.is_known() {
            self.describe_copy(id, Some(name), output);
            return None;
        }
        self.describe_copy(id, None, output);
        if !told.has_rows() {
            return None;
        }
        // What runs cannot be taken back: the server has to say it first.
        self.state.statements.renewed = id;
        Some(self.wait(output))
    }

    /// Asks the server for the columns of a copy. `name`: the client goes by them from then on.
    pub(super) fn describe_copy(&mut self, id: StatementId, name: Option<&[u8]>, output: &mut Output<'_>) {
        message::encode_describe(id.name().as_bytes(), output.put_in());
        self.sent_own(tag::DESCRIBE, Change::Described { id, name: name.map(Box::from) });
    }

    /// A Bind of a statement whose rows would not be what the client was told.
    fn refuse_columns(&mut self, header: Header, output: &mut Output<'_>) -> Passage {
        if output.rest().len() < header.frame_bytes() {
            if header.frame_bytes() <= inspect::INSPECTED_BYTES_MAX {
                return Passage::More;
            }
            self.state.statements.renewed = StatementId::NONE;
            self.drop_refused(header.tag, Reason::Columns);
            return Passage::Replaced(HEADER_BYTES);
        }
        self.state.statements.renewed = StatementId::NONE;
        self.refuse_next(header.frame_bytes(), Reason::Columns);
        Passage::Wait
    }

    /// Bytes of a message that must be there if it answers our own Describe.
    pub(in crate::relay) fn description_bytes(&self, header: Header) -> u32 {
        let position = self.state.tracker.answered_position();
        let own = self.state.statements.pending.described(position).is_some();
        if own { header.body_bytes } else { 0 }
    }

    /// Whether a message answers our own Describe. Takes note of what it says.
    #[inline]
    pub(in crate::relay) fn is_own_description(&mut self, header: Header, body: &[u8]) -> bool {
        let columns = match header.tag {
            backend::tag::PARAMETER_DESCRIPTION => None,
            backend::tag::ROW_DESCRIPTION => Some(Columns::described(body).unwrap_or_default()),
            backend::tag::NO_DATA => Some(Columns::NONE),
            _ => return false,
        };
        let position = self.state.tracker.answered_position();
        let Some((id, name)) = self.state.statements.pending.described(position) else { return false };
        let Some(columns) = columns else { return true };
        self.lease.connection().copies.learn(id, columns);
        if let Some(named) = name.and_then(|name| self.client.statements.find_mut(name)) {
            named.told = columns;
        }
        true
    }
}

/// Whether the client asks for the columns right behind its Bind: a Describe of that portal, as far as it is there.
fn is_described_next(bind: Header, rest: &[u8]) -> bool {
    let Some((bind, next)) = rest.split_at_checked(bind.frame_bytes()) else { return false };
    if next.first() != Some(&tag::DESCRIBE) {
        return false;
    }
    let Ok(Some(header)) = parse_frontend_header(next) else { return true };
    let Some(target) = next.get(HEADER_BYTES..header.frame_bytes()) else { return true };
    let portal = bind.get(HEADER_BYTES..).and_then(|body| body.split_inclusive(|&byte| byte == 0).next());
    target.strip_prefix(b"P") == portal
}
