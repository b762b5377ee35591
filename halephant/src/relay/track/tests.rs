//! Tests of the tracker: one table of exchanges for each rule, and properties over all message orders.

use super::*;
use proptest::prelude::*;

/// Shows the tracker an exchange: `>PBES` is sent by the client, `<12CZ` by the server. A ReadyForQuery is written as
/// its status: `i`dle, in a transaction `b`lock, in a `f`ailed one.
fn play(exchange: &str) -> Tracker {
    let mut tracker = Tracker::default();
    play_on(&mut tracker, exchange);
    tracker
}

fn play_on(tracker: &mut Tracker, exchange: &str) -> ServerEvent {
    let mut event = ServerEvent::Forward;
    for part in exchange.split_whitespace() {
        let (side, tags) = part.split_at(1);
        for tag in tags.bytes() {
            match (side, tag) {
                (">", tag) => tracker.client_message(tag),
                (_, b'i') => event = tracker.ready_for_query(TransactionStatus::Idle),
                (_, b'b') => event = tracker.ready_for_query(TransactionStatus::InTransaction),
                (_, b'f') => event = tracker.ready_for_query(TransactionStatus::Failed),
                (_, tag) => event = tracker.server_message(tag),
            }
            let owed = tracker.expected.iter().map(|entry| entry.owes()).sum::<u32>();
            assert_eq!(tracker.owed, owed, "{exchange}: after {part} up to {:?}", char::from(tag));
            let outstanding = tracker.expected.iter().map(|entry| entry.answers()).sum::<u64>();
            assert_eq!(tracker.sent - tracker.done, outstanding, "{exchange}: after {part}");
        }
    }
    event
}

/// Each exchange ends with the connection free, and not before its last message.
fn completes(exchanges: &[&str]) {
    for exchange in exchanges {
        let mut tracker = Tracker::default();
        assert_eq!(play_on(&mut tracker, exchange), ServerEvent::Complete, "{exchange}: {tracker:?}");
        assert!(tracker.is_complete() && !tracker.in_doubt(), "{exchange}: {tracker:?}");
        let before = exchange.strip_suffix('i').expect("an exchange ends with an idle ReadyForQuery");
        assert!(!play(before).is_complete(), "{exchange}: complete too early");
    }
}

/// After each exchange this many ReadyForQuery are owed, and the connection is not free.
fn owes(exchanges: &[(&str, u32)]) {
    for &(exchange, owed) in exchanges {
        let tracker = play(exchange);
        assert_eq!(tracker.owed(), owed, "{exchange}: {tracker:?}");
        assert!(!tracker.is_complete(), "{exchange}: {tracker:?}");
    }
}

#[test]
fn a_query_is_answered_by_one_ready_for_query() {
    completes(&[
        ">Q <TDDCi",
        ">Q <Ii",
        ">Q <Ei",
        ">Q <NCSAi",
        ">Q <TDCTDCi",
        ">F <Vi",
        ">F <Ei",
        ">Q <HddcCi",
        ">Q <Cb >Q <Ef >Q <Ci",
    ]);
    owes(&[(">Q", 1), (">QQ <C", 2), (">QQ <Ci", 1), (">F <V", 1), (">Q <Cb", 0), (">Q <Ef", 0)]);
}

/// PostgreSQL 18 leaves its transaction open there. An answer that ends one settles it.
#[test]
fn an_idle_that_nothing_led_to_is_in_doubt() {
    for exchange in [">PBEQ <12CTDCb >S <i", ">PBEQ <12CIb >S <i", ">PBEQ <12CTDCb >CS <3i"] {
        let tracker = play(exchange);
        assert!(
            tracker.in_doubt() && !tracker.is_complete() && tracker.owed() == 0,
            "{exchange}: {tracker:?}"
        );
    }
    completes(&[
        ">PBEQ <12CTDCb >S <i >Q <Ei",
        ">PBEQ <12CTDCb >PBES <12Ci",
        ">PBEQ <12CEi >S <i",
        ">Q <Cb >PBES <12Ci",
        ">Q <Cb >S <b >Q <Ci",
    ]);
}

#[test]
fn the_extended_protocol_is_closed_by_its_sync() {
    completes(&[
        ">PBDES <12TDCi",
        ">PBES <12Ci",
        ">PDBES <1tT2Ci",
        ">PDS <1tni",
        ">PBES <12si >ES <Ci",
        ">PBES <12Ii",
        ">CS <3i",
        ">S <i",
        ">PBESPBES <12Ci12Ci",
        ">PBEH <12C >S <i",
        ">PBES <12CEi",
        ">PBEPBES <12C12Ci",
    ]);
    owes(&[(">PBE <12C", 0), (">PBEH <12C", 0), (">P", 0), (">PS <1", 1), (">PSPS <1i", 1)]);
    assert!(play(">P").needs_sync());
    assert!(!play(">PS").needs_sync());
}

#[test]
fn a_query_behind_extended_messages_stands_for_a_sync() {
    completes(&[">PBEQ <12CCi", ">PQ <1Ei"]);
}

#[test]
fn a_flush_alone_leaves_nothing_open() {
    completes(&[">HQH <Ci", ">QH <Ci", ">Q <G >dHc <Ci"]);
    assert!(play(">H").is_complete());
}

#[test]
fn an_error_skips_to_the_next_sync() {
    completes(&[
        ">PBES <Ei",
        ">PBES <1Ei",
        ">PBEPBES <12Ei",
        // Queries and function calls are skipped, too.
        ">PQS <Ei",
        ">PQFQS <Ei",
        ">P <E >QFPBE >S <i",
        ">PBE <E >S <i",
        ">PESPS <Ei1i",
        ">PcQfS <Ei",
    ]);
    owes(&[(">PQS", 2), (">PQS <E", 1), (">PESPS <Ei", 1), (">P <E", 0), (">PQ <E", 0), (">P <E >Q", 0)]);
    assert!(play(">P <E").needs_sync());
    assert!(play(">PQ <E >QP").needs_sync());
}

#[test]
fn a_commit_that_fails_at_sync_is_followed_by_its_ready_for_query() {
    completes(&[">PBES <12CEi", ">PBESPBES <12CEi12Ci"]);
}

#[test]
fn a_copy_in_ends_with_copy_done_or_copy_fail() {
    completes(&[
        ">Q <G >ddc <Ci",
        ">Qddc <GCi",
        ">Q <G >df <Ei",
        ">PBES <12G >ddcS <Ci",
        ">PBE <12G >ddcS <Ci",
        ">PBEdcS <12GCi",
        ">PBE <12G >fS <Ei",
        // Two in one Query, and one behind a SELECT.
        ">Q <G >dc <CG >dc <Ci",
        ">Qdcdc <GCGCi",
        ">Qdcdc <GEi",
        ">Q <TDCG >c <Ci",
    ]);
    owes(&[(">Q <G", 1), (">Q <G >dc", 1), (">Qc", 1)]);
    assert!(play(">Q <G").copy_open());
    assert!(!play(">Q <G >c <C").copy_open());
}

#[test]
fn a_sync_is_ignored_while_the_server_takes_copy_data() {
    completes(&[
        ">PBES <12G >dcS <Ci",
        ">PBESdSdScS <12GCi",
        ">QSdSc <GCi",
        ">PBESdcSPBES <12GCi12Ci",
        ">PBEdHSdcS <12GCi",
    ]);
    owes(&[(">PBESdS", 2), (">PBESdS <12G >cS", 3), (">PBESdScS <12GC", 1)]);
    completes(&[">PBES <12G >dcH <C >S <i", ">PBESdcPBES <12GC12Ci"]);
    for open in [">PBES <12G >dc <C", ">PBESdSc <12GC"] {
        let tracker = play(open);
        assert!(!tracker.is_complete() && tracker.commits_at_sync(), "{open}: {tracker:?}");
    }
    assert!(!play(">QSdSc <GC").commits_at_sync(), "a Query has its own end");
}

/// Copying to a view, or with a trigger that refuses, fails before any data is read: a Sync sent ahead is answered.
#[test]
fn a_copy_that_fails_before_it_reads_answers_the_sync_sent_ahead() {
    for (exchange, left) in
        [(">PBES <12GEi", 0), (">PBESdcS <12GEii", 0), (">QSdc <GEii", 0), (">QS <GEi", 1)]
    {
        let tracker = play(exchange);
        assert_eq!((tracker.uncertain, tracker.doubt, tracker.owed()), (left, false, 0), "{exchange}");
    }
    completes(&[">PBES <12GEi >Q <Ci", ">PBES <12GEi >dcS <i"]);
}

/// The usual failure: the Sync sent ahead was ignored. The next answer says so.
#[test]
fn the_doubt_after_a_failed_copy_ends_with_the_next_answer() {
    let tracker = play(">PBES <12G >dcS <Ei");
    assert!(tracker.in_doubt() && !tracker.is_complete() && tracker.owed() == 0);
    completes(&[
        ">PBES <12G >dcS <Ei >Q <Ci",
        ">PBES <12G >dcS <Ei >PBES <12Ci",
        ">PBES <12G >dcS <Ei >Q <Ei",
        ">QdSc <GEi >Q <Ci",
    ]);
    // Until then either number of ReadyForQuery is right.
    completes(&[">PBES <12G >dcS <Eii >Q <Ci"]);
    assert_eq!(play(">PBES <12GE >cS").uncertain, 1);
}

#[test]
fn what_is_sent_behind_a_failed_copy_on_suspicion_leaves_doubt() {
    // Skipped, if the first Sync was ignored; answered, if it was not.
    for exchange in [">PBESdcQS <12GE", ">PBES <12GE >Q", ">PBESdcPBES <12GE"] {
        let mut tracker = play(exchange);
        assert!(tracker.in_doubt(), "{exchange}");
        // Whatever comes now is possible, and the connection is never free again.
        for more in ["<i", "<Ci", "<12Ci", "<i", ">Q <Ci", ">S <i"] {
            assert_ne!(play_on(&mut tracker, more), ServerEvent::OutOfPlace, "{exchange} {more}");
            assert!(!tracker.is_complete(), "{exchange} {more}");
        }
    }
}

/// A client that ends a COPY which has failed by then is idle, not in a query.
#[test]
fn the_end_of_a_copy_behind_its_error_leaves_nothing_open() {
    let tracker = play(">Q <G >dc <Ei");
    assert!(tracker.expected.is_empty() && tracker.awaits_client(), "{tracker:?}");
    completes(&[">Q <G >dc <Ei >Q <Ci"]);
}

#[test]
fn stray_copy_messages_are_ignored() {
    completes(&[
        ">dcfQ <Ci",
        ">Qc <Ci",
        ">QcQ <CiCi",
        ">QcQdc <CiGCi",
        ">PBEcPBES <12C12Ci",
        ">PBEcPBEdcS <12C12GCi",
        ">PBEcfS <12Ci",
        // Behind a COPY that failed, the rest of its data.
        ">Q <G >d <Ei >dc >Q <Ci",
        ">Q <G >d <E >dcQ <iCi",
        ">PcBES <12Ci",
    ]);
}

#[test]
fn what_was_not_asked_for_leaves_doubt() {
    for (exchange, event) in [
        ("<i", ServerEvent::OutOfPlace),
        (">Q <Cii", ServerEvent::OutOfPlace),
        (">P <1i", ServerEvent::OutOfPlace),
        (">PBS <1i", ServerEvent::OutOfPlace),
        ("<K", ServerEvent::OutOfPlace),
        ("<R", ServerEvent::OutOfPlace),
        ("<D", ServerEvent::Forward),
        (">Q <CiC", ServerEvent::Forward),
        (">S <1", ServerEvent::Forward),
        (">Q <GC", ServerEvent::Forward),
    ] {
        let mut tracker = Tracker::default();
        assert_eq!(play_on(&mut tracker, exchange), event, "{exchange}");
        assert!(tracker.in_doubt() && !tracker.is_complete(), "{exchange}: {tracker:?}");
    }
}

#[test]
fn notices_notifications_and_a_last_fatal_error_are_never_out_of_place() {
    for exchange in ["<NAS", ">Q <NASCiNAS", ">PBES <N1A2SCiN", "<E"] {
        let tracker = play(exchange);
        assert!(!tracker.in_doubt() && tracker.is_complete(), "{exchange}");
    }
    assert!(!play(">Q <E").is_complete());
}

#[test]
fn a_saturated_tracker_recovers_as_the_server_catches_up() {
    let mut tracker = Tracker::default();
    while !tracker.is_saturated() {
        tracker.client_message(b'Q');
    }
    assert_eq!(tracker.owed() as usize, EXPECTED_ENTRIES_MAX);
    for left in (0..EXPECTED_ENTRIES_MAX).rev() {
        tracker.server_message(b'C');
        tracker.ready_for_query(TransactionStatus::Idle);
        assert!(!tracker.is_saturated());
        assert_eq!((tracker.owed() as usize, tracker.is_complete()), (left, left == 0));
    }
}

/// They lead to no answer before the client ends its COPY: waiting for one would be for ever.
#[test]
fn syncs_in_a_copy_do_not_saturate_the_tracker() {
    let mut tracker = play(">Q <G");
    for _ in 0..2 * EXPECTED_ENTRIES_MAX {
        tracker.client_message(b'd');
        tracker.client_message(b'S');
    }
    assert!(!tracker.is_saturated());
    assert_eq!(play_on(&mut tracker, ">c <Ci"), ServerEvent::Complete);
}

proptest! {
    /// Whatever comes in whatever order: no panic, the count is that of the entries, and a connection that was ever
    /// in doubt for good is never free again.
    #[test]
    fn any_order_of_messages_is_survived(
        messages in proptest::collection::vec((any::<bool>(), 0_usize..24), 0..200)
    ) {
        const CLIENT: &[u8] = b"PBDECHSQFdcfPBESQSdcPBES";
        const SERVER: &[u8] = b"123nTsICEGWDNSAtHdcVibfi";
        let mut tracker = Tracker::default();
        let mut doubt = false;
        for (client, at) in messages {
            let side = if client { ">" } else { "<" };
            let tag = char::from(if client { CLIENT[at] } else { SERVER[at] });
            play_on(&mut tracker, &format!("{side}{tag}"));
            doubt |= tracker.doubt;
            prop_assert!(!(doubt && tracker.is_complete()));
            prop_assert!(!(tracker.is_complete() && (tracker.owed() > 0 || tracker.copy_open())));
        }
    }

    /// Pipelines of whole batches are answered in order, however far the client is ahead.
    #[test]
    fn the_client_may_be_any_distance_ahead(
        batches in proptest::collection::vec((0_usize..8, 0_usize..6), 1..40)
    ) {
        const BATCHES: [(&str, &str); 8] = [
            (">Q", "<TDCi"), (">PBES", "<12Ci"), (">PBES", "<1Ei"), (">PQS", "<Ei"),
            (">F", "<Vi"), (">Qdc", "<GCi"), (">PBEdcS", "<12GCi"), (">S", "<i"),
        ];
        let mut tracker = Tracker::default();
        let mut answers = std::collections::VecDeque::new();
        for (batch, ahead) in batches {
            let (sent, answer) = BATCHES[batch];
            play_on(&mut tracker, sent);
            answers.push_back(answer);
            while answers.len() > ahead {
                let answer = answers.pop_front().unwrap_or_default();
                let event = play_on(&mut tracker, answer);
                let expected = if answers.is_empty() { ServerEvent::Complete } else { ServerEvent::Ready };
                prop_assert_eq!(event, expected, "{:?}", tracker);
            }
        }
        while let Some(answer) = answers.pop_front() {
            play_on(&mut tracker, answer);
        }
        prop_assert!(tracker.is_complete());
    }
}
