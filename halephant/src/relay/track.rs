//! Which answers a server connection still owes its client, known from message headers alone.
//!
//! The rules are those of the manual's "Message Flow" chapter and of what the backend's main loop does with them: a
//! Query, Sync or FunctionCall is answered by one ReadyForQuery; after an error in the extended protocol everything up
//! to the next Sync is skipped; a Sync that the server reads while it takes COPY data is ignored.

use halephant_protocol::backend::TransactionStatus;
use std::collections::VecDeque;

/// Entries of [`Tracker::expected`] above which the client is not read any further until the server caught up.
pub const EXPECTED_ENTRIES_MAX: usize = 1 << 16;

/// One thing the server has yet to work through, in the order the client sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// Extended-protocol messages whose closing answers (ParseComplete, BindComplete, CloseComplete, the end of a
    /// Describe or of an Execute) are outstanding.
    Extended { answers: u32 },
    /// One ReadyForQuery, for a Query or a FunctionCall.
    Simple,
    /// One ReadyForQuery, for a Sync.
    Sync,
    /// A Sync sent behind CopyData: whether it is answered depends on where a COPY ended.
    SyncBehindCopyData,
    /// CopyDone or CopyFail.
    CopyEnd,
}

/// What the session has to know about a message of the server; everything else is only passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerEvent {
    Forward,
    /// ReadyForQuery, and the connection may change hands: nothing is owed, open or in doubt.
    Complete,
    /// ReadyForQuery, but more is owed or open.
    Ready,
    /// A message that PostgreSQL does not send at this point.
    OutOfPlace,
}

/// The protocol state of one client on one server connection.
#[derive(Debug)]
pub struct Tracker {
    expected: VecDeque<Expect>,
    /// ReadyForQuery owed: the `Simple`, `Sync` and `SyncBehindCopyData` entries.
    owed: u32,
    /// Extended-protocol messages were sent since the last Sync, Query or FunctionCall.
    unsynced: bool,
    /// The server skips messages up to a Sync that the client has yet to send.
    skipping: bool,
    copy_in: bool,
    copy_both: bool,
    /// CopyData was sent since the last message of another kind.
    copy_data_sent: bool,
    doubt: bool,
    status: TransactionStatus,
}

impl Default for Tracker {
    fn default() -> Self {
        Self {
            expected: VecDeque::new(),
            owed: 0,
            unsynced: false,
            skipping: false,
            copy_in: false,
            copy_both: false,
            copy_data_sent: false,
            doubt: false,
            status: TransactionStatus::Idle,
        }
    }
}

impl Tracker {
    /// The status of the last ReadyForQuery.
    pub fn status(&self) -> TransactionStatus {
        self.status
    }

    /// ReadyForQuery messages the server still owes.
    pub fn owed(&self) -> u32 {
        self.owed
    }

    /// A Sync from the client would be needed before the server answers with ReadyForQuery.
    pub fn needs_sync(&self) -> bool {
        self.unsynced || self.skipping
    }

    pub fn copy_open(&self) -> bool {
        self.copy_in || self.copy_both
    }

    /// The count of owed answers is not certain: the connection must be closed after this client (invariant 2).
    pub fn in_doubt(&self) -> bool {
        self.doubt
    }

    /// Nothing is outstanding on the connection.
    pub fn is_complete(&self) -> bool {
        self.owed == 0
            && !self.unsynced
            && !self.skipping
            && !self.copy_in
            && !self.copy_both
            && !self.doubt
            && self.status == TransactionStatus::Idle
    }

    /// The client has sent more than the server worked through: read no more of it for now.
    pub fn is_saturated(&self) -> bool {
        self.expected.len() >= EXPECTED_ENTRIES_MAX
    }

    /// A message of the client is about to be forwarded.
    pub fn client_message(&mut self, tag: u8) {
        match tag {
            b'P' | b'B' | b'C' | b'D' | b'E' => self.extended(1),
            b'H' => self.extended(0),
            b'S' => self.sync(),
            b'Q' | b'F' => self.simple(),
            b'd' => self.copy_data_sent = true,
            b'c' | b'f' => self.copy_end(),
            _ => {}
        }
    }

    fn extended(&mut self, answers: u32) {
        self.copy_data_sent = false;
        if self.skipping {
            return;
        }
        self.unsynced = true;
        match self.expected.back_mut() {
            Some(Expect::Extended { answers: outstanding }) => *outstanding += answers,
            _ if answers > 0 => self.expected.push_back(Expect::Extended { answers }),
            _ => {}
        }
    }

    fn sync(&mut self) {
        let behind_copy_data = std::mem::take(&mut self.copy_data_sent);
        self.skipping = false;
        self.unsynced = false;
        self.owed += 1;
        self.expected.push_back(if behind_copy_data { Expect::SyncBehindCopyData } else { Expect::Sync });
    }

    fn simple(&mut self) {
        self.copy_data_sent = false;
        if self.skipping {
            return;
        }
        self.unsynced = false;
        self.owed += 1;
        self.expected.push_back(Expect::Simple);
    }

    fn copy_end(&mut self) {
        self.copy_data_sent = false;
        // With nothing outstanding there is no COPY it could end; the server ignores it then.
        if self.copy_in || self.copy_both || self.unsynced || self.owed > 0 {
            self.expected.push_back(Expect::CopyEnd);
        }
    }

    /// A message of the server other than ReadyForQuery arrived.
    pub fn server_message(&mut self, tag: u8) -> ServerEvent {
        match tag {
            b'1' | b'2' | b'3' | b'n' | b'T' | b's' | b'I' => self.answer(),
            b'C' => {
                if self.copy_in || self.copy_both {
                    self.copy_completed();
                }
                self.answer();
            }
            b'E' => self.error(),
            b'G' => self.copy_in = self.copy_begins(),
            b'W' => self.copy_both = self.copy_begins(),
            b'D' | b'N' | b'S' | b'A' | b't' | b'H' | b'd' | b'c' | b'V' => {}
            _ => return self.out_of_place(),
        }
        ServerEvent::Forward
    }

    /// ReadyForQuery arrived.
    pub fn ready_for_query(&mut self, status: TransactionStatus) -> ServerEvent {
        self.status = status;
        self.copy_in = false;
        self.copy_both = false;
        loop {
            match self.expected.pop_front() {
                Some(Expect::Simple | Expect::Sync | Expect::SyncBehindCopyData) => break,
                Some(Expect::CopyEnd | Expect::Extended { answers: 0 }) => {}
                Some(Expect::Extended { .. }) | None if self.doubt => break,
                Some(Expect::Extended { .. }) | None => return self.out_of_place(),
            }
        }
        self.owed = self.owed.saturating_sub(1);
        if self.is_complete() { ServerEvent::Complete } else { ServerEvent::Ready }
    }

    /// What is left in front of the message that opened the COPY was ignored by the server.
    fn copy_begins(&mut self) -> bool {
        self.drop_answered();
        true
    }

    fn drop_answered(&mut self) {
        while let Some(Expect::CopyEnd | Expect::Extended { answers: 0 }) = self.expected.front() {
            self.expected.pop_front();
        }
    }

    fn out_of_place(&mut self) -> ServerEvent {
        self.doubt = true;
        ServerEvent::OutOfPlace
    }

    /// The closing answer of one extended-protocol message.
    fn answer(&mut self) {
        if let Some(Expect::Extended { answers }) = self.expected.front_mut() {
            *answers = answers.saturating_sub(1);
            if *answers == 0 {
                self.expected.pop_front();
            }
        }
    }

    /// A COPY FROM STDIN ended well: the Syncs that the server read on the way to its CopyDone were ignored.
    fn copy_completed(&mut self) {
        self.copy_in = false;
        self.copy_both = false;
        let running = self.running_entries();
        while let Some(entry) = self.expected.get(running).copied() {
            self.expected.remove(running);
            match entry {
                Expect::Sync | Expect::SyncBehindCopyData | Expect::Simple => self.owed -= 1,
                Expect::CopyEnd => return,
                Expect::Extended { .. } => {}
            }
        }
        // CommandComplete without a CopyDone or CopyFail of ours cannot be.
        self.doubt = true;
    }

    /// Entries at the front that belong to the message that is being worked on.
    fn running_entries(&self) -> usize {
        match self.expected.front() {
            Some(Expect::Simple | Expect::Extended { .. }) => 1,
            _ => 0,
        }
    }

    fn error(&mut self) {
        if self.copy_in || self.copy_both {
            self.copy_failed();
        }
        self.drop_answered();
        // The error of a Query, FunctionCall or Sync (a commit that failed) is followed by its ReadyForQuery.
        if let Some(Expect::Extended { .. }) = self.expected.front() {
            self.skip_to_sync();
        }
    }

    /// After an error in the extended protocol, the server skips everything up to the next Sync.
    fn skip_to_sync(&mut self) {
        while let Some(entry) = self.expected.front() {
            match entry {
                Expect::Sync | Expect::SyncBehindCopyData => return,
                Expect::Simple => self.owed -= 1,
                Expect::CopyEnd | Expect::Extended { .. } => {}
            }
            self.expected.pop_front();
        }
        self.skipping = true;
        self.unsynced = false;
    }

    /// A COPY FROM STDIN failed: Syncs sent ahead of any data were read and ignored before; of one sent behind data
    /// nobody but the server knows on which side of the error it stood.
    fn copy_failed(&mut self) {
        self.copy_in = false;
        self.copy_both = false;
        let running = self.running_entries();
        while let Some(entry) = self.expected.get(running).copied() {
            match entry {
                Expect::Sync => {}
                Expect::SyncBehindCopyData => self.doubt = true,
                Expect::CopyEnd => {
                    self.expected.remove(running);
                    return;
                }
                Expect::Simple | Expect::Extended { .. } => return,
            }
            self.expected.remove(running);
            self.owed -= 1;
        }
    }
}

#[cfg(test)]
mod tests;
