//! Which answers a server connection still owes its client, known from message headers alone.
//!
//! The rules are those of the manual's "Message Flow" chapter and of what the backend's main loop does with them: a
//! Query, Sync or FunctionCall is answered by one ReadyForQuery; after an error in the extended protocol everything up
//! to the next Sync is skipped; a Sync that the server reads while it takes COPY data is ignored.

mod unseen;

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
    /// One ReadyForQuery each, for Syncs with nothing but CopyData between them. One entry for all, because a client
    /// may send any number of them into a COPY that ignores them.
    Syncs { count: u32 },
    /// CopyDone or CopyFail.
    CopyEnd,
    /// One ReadyForQuery each, for requests that only the kernel saw: a Query, a FunctionCall, or messages of the extended
    /// protocol up to their Sync.
    Unseen { count: u32 },
}

/// Answers of an [`Expect::Extended`] of which the kernel has seen messages or answers: its end shows only in what
/// follows it.
const UNCOUNTED: u32 = u32::MAX;

impl Expect {
    /// ReadyForQuery messages it leads to.
    fn owes(self) -> u32 {
        match self {
            Self::Simple => 1,
            Self::Syncs { count } | Self::Unseen { count } => count,
            Self::Extended { .. } | Self::CopyEnd => 0,
        }
    }

    /// Messages of the extended protocol that it stands for.
    fn answers(self) -> u64 {
        match self {
            Self::Extended { answers: UNCOUNTED } => 0,
            Self::Extended { answers } => answers.into(),
            Self::Simple | Self::Syncs { .. } | Self::CopyEnd | Self::Unseen { .. } => 0,
        }
    }
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
    /// ReadyForQuery owed by the entries of `expected`.
    owed: u32,
    /// ReadyForQuery that may come on top of those, before the server's next answer: for Syncs of which nobody but the
    /// server knows whether it read them before a COPY FROM STDIN failed, and ignored them, or after, and answers.
    uncertain: u32,
    /// Extended-protocol messages were sent since the last Sync, Query or FunctionCall.
    unsynced: bool,
    /// The server skips messages up to a Sync that the client has yet to send.
    skipping: bool,
    copy_in: bool,
    copy_both: bool,
    /// An answer came since the last ReadyForQuery.
    begun: bool,
    /// A CommandComplete or an ErrorResponse came since the last ReadyForQuery: what can end a transaction block.
    ended: bool,
    /// The server says idle, and its transaction is open all the same. PostgreSQL 18 does, of a Query between extended-protocol
    /// messages and a Sync by itself: the next statement there fails with XX000 and takes it back.
    left_open: bool,
    doubt: bool,
    status: TransactionStatus,
    /// The type byte of the last message that only the kernel saw.
    last_unseen: u8,
    /// ReadyForQuery that came.
    cycles: u64,
    /// Extended-protocol messages that were sent, and those of them that were answered or skipped.
    sent: u64,
    done: u64,
}

impl Default for Tracker {
    fn default() -> Self {
        Self {
            expected: VecDeque::new(),
            owed: 0,
            uncertain: 0,
            unsynced: false,
            skipping: false,
            copy_in: false,
            copy_both: false,
            begun: false,
            ended: false,
            left_open: false,
            doubt: false,
            status: TransactionStatus::Idle,
            last_unseen: 0,
            cycles: 0,
            sent: 0,
            done: 0,
        }
    }
}

impl Tracker {
    /// The status of the last ReadyForQuery.
    pub fn status(&self) -> TransactionStatus {
        self.status
    }

    /// ReadyForQuery messages that came: each ends one thing that the client asked for.
    pub fn cycles(&self) -> u64 {
        self.cycles
    }

    /// ReadyForQuery messages the server still owes.
    pub fn owed(&self) -> u32 {
        self.owed
    }

    /// A Sync from the client would be needed before the server answers with ReadyForQuery.
    pub fn needs_sync(&self) -> bool {
        self.unsynced || self.skipping
    }

    /// Statements of the extended protocol ran, or run, in a transaction that the next Sync would commit.
    pub fn commits_at_sync(&self) -> bool {
        self.unsynced
    }

    /// The position among all extended-protocol messages of the one that is sent next.
    pub fn next_position(&self) -> u64 {
        self.sent
    }

    /// The position of the one whose answer comes next.
    #[inline]
    pub fn answered_position(&self) -> u64 {
        self.done
    }

    /// The server skips what is sent now, unless it is a Sync.
    pub fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// It is the client's turn: everything that it sent, be it without a Sync, is answered.
    pub fn awaits_client(&self) -> bool {
        self.expected.is_empty() && self.owed == 0
    }

    /// The server has answered everything that it was sent.
    pub fn is_quiet(&self) -> bool {
        self.expected.is_empty() && !self.copy_open() && !self.in_doubt()
    }

    /// An answer is under way, of which rows and data of a COPY change nothing.
    pub fn is_answering(&self) -> bool {
        self.begun && !self.doubt && self.uncertain == 0 && self.running_entries() > 0
    }

    /// Which answer belongs to which message is not certain any more.
    pub fn has_lost_count(&self) -> bool {
        self.doubt
    }

    pub fn copy_open(&self) -> bool {
        self.copy_in || self.copy_both
    }

    /// The client has sent what ends a COPY, and whether there is one for it is yet to come out. An answer is outstanding then.
    pub fn copy_ends(&self) -> bool {
        // With nothing before it, the server ignores it.
        let ends = |entry: &Expect| *entry == Expect::CopyEnd;
        self.expected.iter().skip_while(|entry| ends(entry)).any(ends)
    }

    /// The count of owed answers is not certain: a connection left like this must be closed (invariant 2). A later
    /// answer of the server may settle it.
    pub fn in_doubt(&self) -> bool {
        self.doubt || self.uncertain > 0 || self.left_open
    }

    /// Nothing is outstanding on the connection.
    pub fn is_complete(&self) -> bool {
        self.owed == 0
            && !self.unsynced
            && !self.skipping
            && !self.copy_in
            && !self.copy_both
            && !self.in_doubt()
            && self.status == TransactionStatus::Idle
    }

    /// The client has sent more than the server worked through: read no more of it for now.
    pub fn is_saturated(&self) -> bool {
        self.expected.len() >= EXPECTED_ENTRIES_MAX
    }

    /// A message of the client is about to be forwarded.
    pub fn client_message(&mut self, tag: u8) {
        match tag {
            b'P' | b'B' | b'C' | b'D' | b'E' => self.extended(),
            b'S' => self.sync(),
            b'Q' | b'F' => self.simple(),
            b'c' | b'f' => self.copy_end(),
            // A Flush is not answered and begins nothing; CopyData belongs to what came before it.
            _ => {}
        }
    }

    fn extended(&mut self) {
        if self.is_skipped() {
            return;
        }
        self.unsynced = true;
        self.sent += 1;
        match self.expected.back_mut() {
            Some(Expect::Extended { answers }) => *answers = answers.saturating_add(1),
            _ => self.expected.push_back(Expect::Extended { answers: 1 }),
        }
    }

    fn sync(&mut self) {
        self.skipping = false;
        self.unsynced = false;
        self.owed = self.owed.saturating_add(1);
        match self.expected.back_mut() {
            Some(Expect::Syncs { count }) => *count = count.saturating_add(1),
            _ => self.expected.push_back(Expect::Syncs { count: 1 }),
        }
    }

    fn simple(&mut self) {
        if self.is_skipped() {
            return;
        }
        self.unsynced = false;
        self.owed = self.owed.saturating_add(1);
        self.expected.push_back(Expect::Simple);
    }

    fn copy_end(&mut self) {
        // With nothing outstanding there is no COPY that it could end; the server ignores it then.
        if !self.expected.is_empty() && !self.skipping {
            self.expected.push_back(Expect::CopyEnd);
        }
    }

    /// Whether the server skips a message that the client sends now and that is not a Sync.
    fn is_skipped(&mut self) -> bool {
        // Not if one of the uncertain Syncs ends the skipping.
        self.doubt |= self.skipping && self.uncertain > 0;
        self.skipping
    }

    /// A message of the server other than ReadyForQuery arrived.
    pub fn server_message(&mut self, tag: u8) -> ServerEvent {
        if matches!(tag, b'C' | b'E') {
            self.ended = true;
            self.left_open = false;
        }
        match tag {
            b'1' | b'2' | b'3' | b'n' | b'T' | b's' | b'I' => {
                self.begin();
                self.answer();
            }
            b'C' => {
                self.begin();
                if self.copy_open() {
                    self.copy_completed();
                }
                self.answer();
            }
            b'E' => self.error(),
            b'G' => {
                self.name_unseen();
                self.begin();
                self.copy_in = true;
            }
            b'W' => {
                self.name_unseen();
                self.begin();
                self.copy_both = true;
            }
            b'D' | b't' | b'H' | b'd' | b'c' | b'V' => self.begin(),
            b'N' | b'S' | b'A' => {}
            _ => {
                self.doubt = true;
                return ServerEvent::OutOfPlace;
            }
        }
        ServerEvent::Forward
    }

    /// ReadyForQuery arrived.
    pub fn ready_for_query(&mut self, status: TransactionStatus) -> ServerEvent {
        let ended = std::mem::take(&mut self.ended);
        let was_open = self.status == TransactionStatus::InTransaction;
        self.left_open |= was_open && status == TransactionStatus::Idle && !ended;
        self.status = status;
        self.cycles += 1;
        self.copy_in = false;
        self.copy_both = false;
        let begun = std::mem::take(&mut self.begun);
        self.drop_answered();
        if let Some(Expect::Extended { answers: UNCOUNTED }) = self.expected.front() {
            self.expected.pop_front();
        }
        match self.expected.front() {
            Some(Expect::Syncs { .. }) => self.take_ready(),
            Some(Expect::Simple | Expect::Unseen { .. }) if begun || self.uncertain == 0 => self.take_ready(),
            _ if self.uncertain > 0 => {
                self.uncertain -= 1;
                self.skipping = false;
            }
            _ if self.doubt => self.skip_to_ready(),
            _ => {
                self.doubt = true;
                return ServerEvent::OutOfPlace;
            }
        }
        // What the server reads next ends no COPY, either: nothing is owed for it.
        self.drop_answered();
        if self.is_complete() { ServerEvent::Complete } else { ServerEvent::Ready }
    }

    /// A ReadyForQuery came that no message of the tracked ones led to.
    pub fn ready_unasked(&mut self, status: TransactionStatus) {
        self.status = status;
    }

    /// The server works on a Query or FunctionCall, or is about to.
    pub fn is_at_simple(&self) -> bool {
        matches!(self.expected.front(), Some(Expect::Simple))
    }

    /// Something of ours ahead of everything that is outstanding failed, and its ErrorResponse is about to be told as the answer
    /// to that. With nothing outstanding, the server skips what comes.
    pub fn skip_all(&mut self) {
        if self.expected.is_empty() {
            self.skipping = true;
        }
    }

    /// The entry at the front got its ReadyForQuery.
    fn take_ready(&mut self) {
        self.owed -= 1;
        match self.expected.front_mut() {
            Some(Expect::Syncs { count } | Expect::Unseen { count }) if *count > 1 => *count -= 1,
            _ => drop(self.expected.pop_front()),
        }
    }

    /// In doubt about what stands before it, a ReadyForQuery is taken for the next one owed.
    fn skip_to_ready(&mut self) {
        while let Some(entry) = self.expected.front() {
            if entry.owes() > 0 {
                return self.take_ready();
            }
            self.done += entry.answers();
            self.expected.pop_front();
        }
    }

    /// A CopyDone or CopyFail that ended no COPY was ignored by the server.
    fn drop_answered(&mut self) {
        while let Some(Expect::CopyEnd) = self.expected.front() {
            self.expected.pop_front();
        }
    }

    /// The server works on the first entry: whatever was uncertain before it is settled.
    fn begin(&mut self) {
        self.drop_answered();
        match self.expected.front() {
            Some(Expect::Simple | Expect::Extended { .. } | Expect::Unseen { .. }) => {
                self.begun = true;
                self.uncertain = 0;
            }
            // An answer to nothing that was asked.
            Some(Expect::Syncs { .. } | Expect::CopyEnd) | None => self.doubt = true,
        }
    }

    /// The closing answer of one extended-protocol message.
    fn answer(&mut self) {
        if let Some(Expect::Extended { answers }) = self.expected.front_mut()
            && *answers != UNCOUNTED
        {
            *answers -= 1;
            self.done += 1;
            if *answers == 0 {
                self.expected.pop_front();
            }
        }
    }

    /// Entries at the front that belong to the message that is being worked on.
    fn running_entries(&self) -> usize {
        match self.expected.front() {
            Some(Expect::Simple | Expect::Extended { .. } | Expect::Unseen { .. }) => 1,
            _ => 0,
        }
    }

    /// A COPY FROM STDIN ended well: the Syncs that the server read on the way to its CopyDone were ignored.
    fn copy_completed(&mut self) {
        self.copy_in = false;
        self.copy_both = false;
        let running = self.running_entries();
        let mut ignored = false;
        while let Some(entry) = self.expected.remove(running) {
            self.owed -= entry.owes();
            self.done += entry.answers();
            ignored |= matches!(entry, Expect::Syncs { .. });
            if entry == Expect::CopyEnd {
                if ignored {
                    // What the last of them was to end is still open.
                    let last = self.expected.iter().rev().find(|entry| **entry != Expect::CopyEnd);
                    self.unsynced = matches!(last, Some(Expect::Extended { .. }));
                }
                return;
            }
        }
        // CommandComplete without a CopyDone of ours cannot be.
        self.doubt = true;
    }

    fn error(&mut self) {
        self.drop_answered();
        let failed = self.expected.front().copied();
        if self.copy_open() {
            self.copy_failed();
        } else if let Some(Expect::Simple | Expect::Extended { .. } | Expect::Unseen { .. }) = failed {
            self.begin();
        }
        // That of a Query, FunctionCall or Sync (a commit that failed) is followed by its ReadyForQuery.
        if let Some(Expect::Extended { .. }) = failed {
            self.skip_to_sync();
        }
    }

    /// After an error in the extended protocol, the server skips everything up to the next Sync.
    fn skip_to_sync(&mut self) {
        // The message that failed, and those sent with it.
        self.done += self.expected.pop_front().map_or(0, Expect::answers);
        while let Some(&entry) = self.expected.front() {
            match entry {
                // What the kernel saw begins behind a Sync, or ends with one.
                Expect::Syncs { .. } | Expect::Unseen { .. } => return,
                // Skipped, unless an uncertain Sync ended the skipping before.
                Expect::Simple | Expect::Extended { .. } => self.doubt |= self.uncertain > 0,
                Expect::CopyEnd => {}
            }
            self.owed -= entry.owes();
            self.done += entry.answers();
            self.expected.pop_front();
        }
        self.skipping = true;
        self.unsynced = false;
    }

    /// A COPY FROM STDIN failed. The server read and ignored the Syncs up to the failure, wherever that was: it may
    /// even have come before any data was read.
    fn copy_failed(&mut self) {
        self.copy_in = false;
        self.copy_both = false;
        let running = self.running_entries();
        while let Some(entry) = self.expected.get(running).copied() {
            match entry {
                Expect::Syncs { count } => {
                    self.owed -= count;
                    self.uncertain = self.uncertain.saturating_add(count);
                }
                Expect::CopyEnd => {
                    self.expected.remove(running);
                    return;
                }
                Expect::Simple | Expect::Extended { .. } | Expect::Unseen { .. } => return,
            }
            self.expected.remove(running);
        }
    }
}

#[cfg(test)]
mod tests;
