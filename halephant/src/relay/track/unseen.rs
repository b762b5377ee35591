//! What the tracker makes of messages that only the kernel saw: their numbers, and the last one of each direction.
//!
//! Programs leave to userspace whatever would make the numbers ambiguous (`docs/kernel-path.md`): errors, the beginning of
//! a COPY from the client, and a Query behind extended messages without a Sync. So each request is answered by one
//! ReadyForQuery.

use super::{Expect, Tracker, UNCOUNTED};
use halephant_protocol::backend::TransactionStatus;

impl Tracker {
    /// The kernel forwarded messages of the client, among them `requests` for a ReadyForQuery; `last` is the type byte of
    /// the last one.
    pub fn unseen_requests(&mut self, requests: u32, last: u8) {
        if requests > 0 {
            // The first one ends what stood open.
            if let Some(Expect::Extended { answers: UNCOUNTED }) = self.expected.back() {
                self.expected.pop_back();
            }
            self.skipping = false;
            self.unsynced = false;
            self.owed = self.owed.saturating_add(requests);
            match self.expected.back_mut() {
                Some(Expect::Unseen { count }) => *count = count.saturating_add(requests),
                _ => self.expected.push_back(Expect::Unseen { count: requests }),
            }
        }
        self.last_unseen = last;
        match last {
            b'Q' | b'S' | b'F' => {}
            b'H' if self.unsynced => {}
            b'P' | b'B' | b'C' | b'D' | b'E' => {
                self.unsynced = true;
                match self.expected.back_mut() {
                    Some(Expect::Extended { answers }) => *answers = UNCOUNTED,
                    _ => self.expected.push_back(Expect::Extended { answers: UNCOUNTED }),
                }
            }
            // Data of a COPY that was sent ahead: who ends it is not known. Nor is what came before a Flush.
            _ => self.doubt = true,
        }
    }

    /// The kernel forwarded messages of the server, among them `ready` ReadyForQuery; `status` is that of the last one,
    /// `last` the type byte of the last message.
    pub fn unseen_answers(&mut self, ready: u32, status: Option<TransactionStatus>, last: u8) {
        for _ in 0..ready {
            while let Some(Expect::Extended { .. } | Expect::CopyEnd) = self.expected.front() {
                self.expected.pop_front();
            }
            match self.expected.front() {
                Some(_) => self.take_ready(),
                None => self.doubt = true,
            }
        }
        self.cycles += u64::from(ready);
        if ready > 0 {
            self.doubt |= self.uncertain > 0;
            self.begun = false;
            self.ended = false;
            self.status = status.unwrap_or(self.status);
            if self.expected.is_empty() {
                // Nobody counted the answers; none is outstanding.
                self.done = self.sent;
            }
        }
        if last == b'Z' {
            return;
        }
        // Notices and notifications come at any time.
        self.begun |= !matches!(last, b'A' | b'N');
        self.ended |= self.begun;
        if let Some(Expect::Extended { answers }) = self.expected.front_mut() {
            *answers = UNCOUNTED;
        }
    }

    /// No answer is under way: the next byte of the server begins an answer, or comes on its own accord.
    pub fn is_between_answers(&self) -> bool {
        !self.begun
    }

    /// What the connection owes cannot be known any more.
    pub fn lose_track(&mut self) {
        self.doubt = true;
    }

    /// A COPY begins: what it was asked by has to be known.
    pub(super) fn name_unseen(&mut self) {
        let Some(Expect::Unseen { count }) = self.expected.front().copied() else { return };
        let alone = count == 1 && self.expected.len() == 1;
        match self.last_unseen {
            b'Q' if alone => self.expected[0] = Expect::Simple,
            b'S' if alone => {
                self.expected[0] = Expect::Extended { answers: UNCOUNTED };
                self.expected.push_back(Expect::Syncs { count: 1 });
            }
            _ => self.doubt = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use halephant_protocol::backend::TransactionStatus::{Idle, InTransaction};
    use proptest::prelude::*;

    /// A request, what the client sends for it and what the server answers, without the ReadyForQuery.
    const REQUESTS: [(&str, &str); 4] = [("Q", "TDC"), ("PBES", "12C"), ("S", ""), ("BDES", "2TDC")];

    /// Plays `count` requests, of which the kernel sees those from `from` to `to` in the given direction.
    #[derive(Debug, Clone)]
    struct Play {
        requests: Vec<usize>,
        /// Per message of the client, and per answer: whether the kernel moves it.
        client: Vec<bool>,
        server: Vec<bool>,
    }

    fn plays() -> impl Strategy<Value = Play> {
        prop::collection::vec(0..REQUESTS.len(), 1..20).prop_flat_map(|requests| {
            let count = requests.len();
            (
                Just(requests),
                prop::collection::vec(any::<bool>(), count),
                prop::collection::vec(any::<bool>(), count),
            )
                .prop_map(|(requests, client, server)| Play { requests, client, server })
        })
    }

    fn seen(tracker: &mut Tracker, client: &str, server: &str, is: [bool; 2]) {
        if is[0] {
            client.bytes().for_each(|tag| tracker.client_message(tag));
        } else {
            tracker.unseen_requests(1, *client.as_bytes().last().unwrap_or(&0));
        }
        if is[1] {
            for tag in server.bytes() {
                tracker.server_message(tag);
            }
            tracker.ready_for_query(Idle);
        } else {
            tracker.unseen_answers(1, Some(Idle), b'Z');
        }
    }

    proptest! {
        /// Whoever moves a request and its answer, nothing is owed afterwards and nothing is in doubt.
        #[test]
        fn every_request_is_answered_once(play in plays()) {
            let mut tracker = Tracker::default();
            for (at, request) in play.requests.iter().enumerate() {
                let (client, server) = REQUESTS[*request];
                seen(&mut tracker, client, server, [play.client[at], play.server[at]]);
                prop_assert!(tracker.is_complete(), "{at}: {tracker:?}");
            }
        }

        /// All requests are sent ahead; then all are answered.
        #[test]
        fn pipelines_are_answered_in_order(play in plays()) {
            let mut tracker = Tracker::default();
            for (at, request) in play.requests.iter().enumerate() {
                let client = REQUESTS[*request].0;
                if play.client[at] {
                    client.bytes().for_each(|tag| tracker.client_message(tag));
                } else {
                    tracker.unseen_requests(1, *client.as_bytes().last().unwrap_or(&0));
                }
            }
            prop_assert_eq!(tracker.owed() as usize, play.requests.len());
            for (at, request) in play.requests.iter().enumerate() {
                prop_assert!(!tracker.is_complete());
                if play.server[at] {
                    for tag in REQUESTS[*request].1.bytes() {
                        prop_assert_eq!(tracker.server_message(tag), super::super::ServerEvent::Forward);
                    }
                    tracker.ready_for_query(Idle);
                } else {
                    tracker.unseen_answers(1, Some(Idle), b'Z');
                }
            }
            prop_assert!(tracker.is_complete(), "{tracker:?}");
        }
    }

    #[test]
    fn an_answer_may_change_hands_in_its_middle() {
        let mut tracker = Tracker::default();
        "PBES".bytes().for_each(|tag| tracker.client_message(tag));
        tracker.server_message(b'1');
        tracker.unseen_answers(0, None, b'1');
        assert!(!tracker.is_between_answers());
        for tag in *b"DC" {
            tracker.server_message(tag);
        }
        tracker.ready_for_query(InTransaction);
        assert_eq!((tracker.owed(), tracker.status()), (0, InTransaction));
        tracker.unseen_requests(1, b'Q');
        tracker.unseen_answers(0, None, b'1');
        tracker.server_message(b'C');
        tracker.ready_for_query(Idle);
        assert!(tracker.is_complete());
    }

    #[test]
    fn a_request_may_change_hands_before_its_sync() {
        let mut tracker = Tracker::default();
        tracker.unseen_requests(0, b'E');
        assert!(tracker.needs_sync() && !tracker.is_complete());
        tracker.client_message(b'S');
        tracker.server_message(b'2');
        tracker.server_message(b'C');
        tracker.ready_for_query(Idle);
        assert!(tracker.is_complete());
        tracker.unseen_requests(0, b'E');
        tracker.unseen_requests(0, b'H');
        tracker.unseen_requests(2, b'S');
        assert_eq!((tracker.owed(), tracker.needs_sync()), (2, false));
    }

    #[test]
    fn an_error_without_a_sync_skips_up_to_it() {
        let mut tracker = Tracker::default();
        tracker.unseen_requests(0, b'D');
        tracker.unseen_requests(0, b'H');
        tracker.server_message(b'E');
        assert!(tracker.needs_sync());
        tracker.unseen_requests(1, b'S');
        tracker.ready_for_query(Idle);
        assert!(tracker.is_complete());
    }

    #[test]
    fn a_copy_is_followed_if_it_is_known_what_began_it() {
        for (last, end) in [(b'Q', "dc"), (b'S', "dcS")] {
            let mut tracker = Tracker::default();
            tracker.unseen_requests(1, last);
            tracker.server_message(b'G');
            end.bytes().for_each(|tag| tracker.client_message(tag));
            tracker.server_message(b'C');
            tracker.ready_for_query(Idle);
            assert!(tracker.is_complete(), "{tracker:?}");
        }
        let mut tracker = Tracker::default();
        tracker.unseen_requests(2, b'S');
        tracker.server_message(b'G');
        assert!(tracker.in_doubt());
    }

    #[test]
    fn copy_data_that_was_sent_ahead_leaves_a_doubt() {
        let mut tracker = Tracker::default();
        tracker.unseen_requests(1, b'd');
        assert!(tracker.in_doubt());
    }

    #[test]
    fn positions_are_right_after_answers_that_were_not_counted() {
        let mut tracker = Tracker::default();
        "PBES".bytes().for_each(|tag| tracker.client_message(tag));
        tracker.unseen_answers(1, Some(Idle), b'Z');
        assert_eq!(tracker.answered_position(), tracker.next_position());
        tracker.client_message(b'P');
        assert_eq!(tracker.answered_position() + 1, tracker.next_position());
    }

    #[test]
    fn an_answer_to_nothing_leaves_a_doubt() {
        let mut tracker = Tracker::default();
        tracker.unseen_answers(1, Some(Idle), b'Z');
        assert!(tracker.in_doubt());
    }
}
