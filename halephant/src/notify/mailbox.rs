//! The notifications that wait for one client, and the gaps among them that it has to be told of.

use super::channel::Channel;
use atomic_waker::AtomicWaker;
use bytes::{Bytes, BytesMut};
use halephant_protocol::SqlState;
use halephant_protocol::backend::{ErrorReport, Severity};
use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// What may wait for one client.
pub const MAILBOX_BYTES_MAX: usize = 4 << 20;
/// What an entry counts for beyond its message.
const ENTRY_BYTES: usize = 64;

/// Why notifications are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// The client did not take them in time.
    Overflow,
    /// Nobody listened for a while.
    Reconnect,
    /// They cannot be read in the client's encoding.
    Encoding,
}

impl Gap {
    fn detail(self) -> &'static str {
        match self {
            Self::Overflow => "More notifications waited for this client than are kept for one.",
            Self::Reconnect => {
                "The connection that listens for this client was lost. Another one listens now; \
                 what was sent in between is not known."
            }
            Self::Encoding => "The client_encoding was changed after LISTEN.",
        }
    }

    /// The label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::Reconnect => "reconnect",
            Self::Encoding => "encoding",
        }
    }

    /// Appends what the client is told.
    fn encode(self, channel: &Channel, out: &mut BytesMut) {
        ErrorReport::new(
            Severity::Warning,
            SqlState::WARNING,
            format!("notifications on channel \"{channel}\" may have been lost"),
        )
        .detail(self.detail())
        .hint("Read again what the notifications are about.")
        .encode_notice(out);
    }
}

#[derive(Clone, Debug)]
enum Entry {
    /// `message`: the NotificationResponse, header included.
    Notification {
        channel: Channel,
        message: Bytes,
    },
    Gap {
        channel: Channel,
        gap: Gap,
    },
}

impl Entry {
    fn channel(&self) -> &Channel {
        match self {
            Self::Notification { channel, .. } | Self::Gap { channel, .. } => channel,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Notification { message, .. } => ENTRY_BYTES + message.len(),
            Self::Gap { .. } => ENTRY_BYTES,
        }
    }
}

/// What becomes of an entry that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Deliver,
    /// Its channel may come into force.
    Keep,
    Drop,
}

/// Filled by a listener, emptied by a session.
#[derive(Debug, Default)]
pub struct Mailbox {
    filled: AtomicBool,
    waker: AtomicWaker,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Channels of which nothing more is taken before the client was told of the gap.
    overflowed: HashSet<Channel>,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The task to wake when something comes.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// The cheap question; entries that are kept do not count.
    pub fn is_filled(&self) -> bool {
        self.filled.load(Ordering::Acquire)
    }

    /// Puts in a NotificationResponse. `false`: there is no room, and the client will be told.
    pub fn put(&self, channel: &Channel, message: &Bytes) -> bool {
        let mut queue = self.lock();
        if queue.overflowed.contains(channel) {
            return false;
        }
        let taken =
            queue.push(Entry::Notification { channel: channel.clone(), message: Bytes::clone(message) });
        drop(queue);
        self.wake();
        taken
    }

    /// Notifications on the channel may be missing from here on, or up to here.
    pub fn put_gap(&self, channel: &Channel, gap: Gap) {
        let mut queue = self.lock();
        if !queue.overflowed.contains(channel) {
            queue.push(Entry::Gap { channel: channel.clone(), gap });
        }
        drop(queue);
        self.wake();
    }

    fn wake(&self) {
        if !self.filled.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Moves what is to be delivered to `out`, up to about `room` bytes, in the order of arrival. `Ok` has how many
    /// notifications, and the gaps that the client was told of. What is not ASCII only goes to a client that reads it as it is.
    pub fn take(
        &self,
        room: usize,
        ascii_only: bool,
        out: &mut BytesMut,
        judge: impl Fn(&Channel) -> Verdict,
    ) -> Taken {
        let mut taken = Taken::default();
        let end = out.len().saturating_add(room);
        let mut queue = self.lock();
        self.filled.store(false, Ordering::Release);
        let mut kept = VecDeque::new();
        while out.len() < end
            && let Some(entry) = queue.pop()
        {
            match judge(entry.channel()) {
                Verdict::Keep => kept.push_back(entry),
                Verdict::Drop => {}
                Verdict::Deliver => taken.deliver(&entry, ascii_only, out),
            }
        }
        if !queue.entries.is_empty() {
            self.filled.store(true, Ordering::Release);
        }
        while let Some(entry) = kept.pop_back() {
            queue.unpop(entry);
        }
        taken
    }

    /// Drops what is not to be kept.
    pub fn retain(&self, keep: impl Fn(&Channel) -> bool) {
        let mut queue = self.lock();
        let entries = std::mem::take(&mut queue.entries);
        queue.bytes = 0;
        for entry in entries {
            if keep(entry.channel()) {
                queue.bytes += entry.bytes();
                queue.entries.push_back(entry);
            } else {
                queue.overflowed.remove(entry.channel());
            }
        }
    }
}

impl Queue {
    fn push(&mut self, entry: Entry) -> bool {
        let room = self.bytes + entry.bytes() <= MAILBOX_BYTES_MAX;
        let entry = if room {
            entry
        } else {
            // One for each channel at most: a bound that the session has for its channels.
            let channel = entry.channel().clone();
            self.overflowed.insert(channel.clone());
            Entry::Gap { channel, gap: Gap::Overflow }
        };
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        room
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.bytes();
        if let Entry::Gap { channel, gap: Gap::Overflow } = &entry {
            self.overflowed.remove(channel);
        }
        Some(entry)
    }

    fn unpop(&mut self, entry: Entry) {
        self.bytes += entry.bytes();
        if let Entry::Gap { channel, gap: Gap::Overflow } = &entry {
            self.overflowed.insert(channel.clone());
        }
        self.entries.push_front(entry);
    }
}

/// What was moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    pub notifications: u64,
    /// By the numbers of [`Gap`].
    pub gaps: [u64; 3],
}

impl Taken {
    fn deliver(&mut self, entry: &Entry, ascii_only: bool, out: &mut BytesMut) {
        let (channel, gap) = match entry {
            Entry::Notification { channel, message } if ascii_only && !is_ascii(message) => {
                (channel, Gap::Encoding)
            }
            Entry::Notification { message, .. } => {
                self.notifications += 1;
                out.extend_from_slice(message);
                return;
            }
            Entry::Gap { channel, gap } => (channel, *gap),
        };
        self.gaps[gap as usize] += 1;
        gap.encode(channel, out);
    }
}

/// Of a message behind its header and process ID.
fn is_ascii(message: &[u8]) -> bool {
    message.get(TEXT_AT..).is_none_or(<[u8]>::is_ascii)
}

/// Where the texts of a NotificationResponse begin.
const TEXT_AT: usize = halephant_protocol::frame::HEADER_BYTES + size_of::<u32>();

#[cfg(test)]
mod tests {
    use super::*;
    use halephant_protocol::backend::{Message, NotificationResponse};
    use halephant_protocol::frame;

    fn channel(name: &str) -> Channel {
        Channel::new(name.as_bytes())
    }

    fn message(channel: &Channel, payload: &str) -> Bytes {
        let mut out = BytesMut::new();
        let message =
            NotificationResponse { process_id: 7, channel: channel.name(), payload: payload.as_bytes() };
        message.encode(&mut out).expect("a short one");
        out.freeze()
    }

    fn put(mailbox: &Mailbox, name: &str, payload: &str) -> bool {
        let channel = channel(name);
        mailbox.put(&channel, &message(&channel, payload))
    }

    /// What a client reads: payloads, and the channels of warnings with an exclamation mark.
    fn read(out: &[u8]) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut found = Vec::new();
        for frame in frame::split(out) {
            let frame = frame.expect("whole messages");
            found.push(match Message::parse(frame.tag, frame.body).expect("one of PostgreSQL's") {
                Message::NotificationResponse(notification) => text(notification.payload),
                Message::NoticeResponse(notice) => {
                    assert_eq!(notice.severity(), Some(Severity::Warning));
                    let named = text(notice.message());
                    format!("!{}", named.split('"').nth(1).expect("it names the channel"))
                }
                other => panic!("{other:?}"),
            });
        }
        found
    }

    fn take(mailbox: &Mailbox, room: usize, judge: impl Fn(&Channel) -> Verdict) -> Vec<String> {
        let mut out = BytesMut::new();
        mailbox.take(room, false, &mut out, judge);
        read(&out)
    }

    #[test]
    fn entries_leave_in_order_as_far_as_there_is_room() {
        let mailbox = Mailbox::default();
        assert!(!mailbox.is_filled());
        for payload in ["1", "2", "3"] {
            assert!(put(&mailbox, "a", payload));
        }
        assert!(mailbox.is_filled());
        assert_eq!(take(&mailbox, 1, |_| Verdict::Deliver), ["1"]);
        assert!(mailbox.is_filled());
        assert_eq!(take(&mailbox, 1000, |_| Verdict::Deliver), ["2", "3"]);
        assert!(!mailbox.is_filled());
        assert_eq!(mailbox.lock().bytes, 0);
    }

    #[test]
    fn what_is_kept_stays_in_its_place_and_wakes_nobody() {
        let mailbox = Mailbox::default();
        for (name, payload) in [("a", "1"), ("b", "2"), ("c", "3"), ("a", "4")] {
            put(&mailbox, name, payload);
        }
        let judge = |channel: &Channel| match channel.name() {
            b"a" => Verdict::Keep,
            b"b" => Verdict::Drop,
            _ => Verdict::Deliver,
        };
        assert_eq!(take(&mailbox, 1000, judge), ["3"]);
        assert!(!mailbox.is_filled());
        put(&mailbox, "a", "5");
        assert!(mailbox.is_filled());
        assert_eq!(take(&mailbox, 1000, |_| Verdict::Deliver), ["1", "4", "5"]);
    }

    #[test]
    fn a_channel_that_overflows_is_told_once_and_goes_on_after_it() {
        let mailbox = Mailbox::default();
        let payload = "x".repeat(7000);
        while put(&mailbox, "a", &payload) {}
        assert!(mailbox.lock().bytes <= MAILBOX_BYTES_MAX + ENTRY_BYTES);
        assert!(!put(&mailbox, "a", &payload) && !put(&mailbox, "a", "short"));
        assert!(!put(&mailbox, "b", &payload), "the bound is the client's");
        mailbox.put_gap(&channel("a"), Gap::Reconnect);
        let found = take(&mailbox, usize::MAX, |_| Verdict::Deliver);
        let (told, rest): (Vec<_>, Vec<_>) = found.iter().partition(|text| text.starts_with('!'));
        assert_eq!(told, ["!a", "!b"]);
        assert!(rest.len() > 500 && found.ends_with(&["!a".to_owned(), "!b".to_owned()]));
        assert!(put(&mailbox, "a", "again"));
        assert_eq!(take(&mailbox, 1000, |_| Verdict::Deliver), ["again"]);
    }

    #[test]
    fn a_dropped_gap_does_not_silence_its_channel() {
        let mailbox = Mailbox::default();
        let payload = "x".repeat(7000);
        while put(&mailbox, "a", &payload) {}
        mailbox.retain(|_| false);
        assert_eq!(mailbox.lock().bytes, 0);
        assert!(put(&mailbox, "a", "1"));
        assert_eq!(take(&mailbox, 1000, |_| Verdict::Deliver), ["1"]);
    }

    #[test]
    fn a_text_in_another_encoding_is_a_gap() {
        let mailbox = Mailbox::default();
        put(&mailbox, "a", "plain");
        put(&mailbox, "a", "é");
        let mut out = BytesMut::new();
        let taken = mailbox.take(1000, true, &mut out, |_| Verdict::Deliver);
        assert_eq!(read(&out), ["plain", "!a"]);
        assert_eq!((taken.notifications, taken.gaps), (1, [0, 0, 1]));
    }
}
