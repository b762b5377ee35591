//! The relay's protocol tracker against PostgreSQL itself: random sequences of messages are sent to a real server, and the
//! tracker is shown both sides in orders that a relay could have seen.

mod play;

use anyhow::{Context, Result, ensure};
use halephant::relay::Tracker;
use halephant::relay::track::ServerEvent;
use halephant_harness::{Cluster, psql};
use halephant_protocol::backend::TransactionStatus;
use halephant_suite::{Client, sequence, stage};
use play::Event;
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Random sequences on top of the known ones, from a new seed every time.
const SEQUENCES: u64 = 2000;
/// Orders of each sequence beside the one that was seen.
const ORDERS: usize = 4;
/// Most of the orders that may leave the tracker in doubt, in percent. They are made to provoke it.
const DOUBT_PERCENT_MAX: f64 = 4.0;

/// Seeds of sequences that failed once.
const KNOWN: [u64; 0] = [];

/// What became of one order of one sequence.
#[derive(Debug, Default)]
struct Outcome {
    in_doubt: bool,
    complete: bool,
    owed: u32,
}

#[test]
fn the_tracker_knows_what_postgresql_owes() {
    let cluster =
        Cluster::builder().role(stage::ROLE, stage::PASSWORD).database(stage::DATABASE, stage::ROLE).start();
    let cluster = cluster.expect("a cluster starts");
    let login = cluster.login(stage::ROLE, stage::DATABASE);
    psql::query(cluster.binaries(), &login, sequence::SCHEMA).expect("the schema is right");
    let first: u64 =
        std::env::var("TRACKER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    let mut client = Client::connect(&login).expect("the role may log in");
    let (mut doubts, mut ends) = (0, 0);
    for seed in KNOWN.into_iter().chain((0..SEQUENCES).map(|offset| first.wrapping_add(offset))) {
        let mut random = StdRng::seed_from_u64(!seed);
        let marker = format!("marker {seed}");
        let mut messages = sequence::of(seed);
        messages.extend(sequence::ending(&marker));
        let played = play::play(&client, &messages, &marker, &mut random)
            .with_context(|| format!("sequence {seed}: {}", tags(&messages)))
            .expect("the server answers");
        for order in 0..=ORDERS {
            let events = match order {
                0 => played.events.clone(),
                1 => play::ahead(&played.events, usize::MAX, &mut random),
                _ => play::ahead(&played.events, 3 * order, &mut random),
            };
            match check(&events, played.ended) {
                Ok(outcome) => doubts += u32::from(outcome.in_doubt && !played.ended),
                Err(error) => panic!("sequence {seed}, order {order}: {error:#}\n{}", text(&events)),
            }
        }
        if played.ended {
            ends += 1;
            client = Client::connect(&login).expect("the role may log in again");
        }
    }
    let share = f64::from(doubts) * 100.0 / (SEQUENCES as f64 * (ORDERS + 1) as f64);
    eprintln!(
        "{SEQUENCES} sequences from seed {first}: {doubts} orders left doubt ({share:.2} %), {ends} ended the session"
    );
    assert!(share <= DOUBT_PERCENT_MAX, "{share} % of the orders from seed {first} left doubt");
}

/// Shows `events` to a tracker.
fn check(events: &[Event], ended: bool) -> Result<Outcome> {
    let mut tracker = Tracker::default();
    for (at, event) in events.iter().enumerate() {
        let complete = tracker.is_complete();
        let before = (tracker.owed(), tracker.in_doubt());
        let seen = match *event {
            Event::Client(tag) => {
                tracker.client_message(tag);
                continue;
            }
            Event::Server(b'Z', status) => {
                let status = TransactionStatus::parse(status)?;
                ensure!(before.0 > 0 || before.1, "event {at}: ReadyForQuery, and none was owed");
                tracker.ready_for_query(status)
            }
            Event::Server(tag, _) => tracker.server_message(tag),
        };
        let asynchronous = matches!(event, Event::Server(b'N' | b'A' | b'S', _));
        let fatal = ended && !events[at..].contains(&Event::Server(b'Z', b'I'));
        ensure!(
            asynchronous || fatal || !complete,
            "event {at}: the connection counted as free, and an answer came"
        );
        ensure!(seen != ServerEvent::OutOfPlace, "event {at}: out of place");
        ensure!(
            (seen == ServerEvent::Complete)
                == (matches!(event, Event::Server(b'Z', _)) && tracker.is_complete()),
            "event {at}: {seen:?}"
        );
    }
    let outcome =
        Outcome { in_doubt: tracker.in_doubt(), complete: tracker.is_complete(), owed: tracker.owed() };
    ensure!(
        ended || outcome.in_doubt || (outcome.complete && outcome.owed == 0),
        "all is answered, and the tracker says {tracker:?}"
    );
    Ok(outcome)
}

fn tags(messages: &[Vec<u8>]) -> String {
    messages.iter().map(|message| char::from(message[0])).collect()
}

/// `>` before what the client sent, `<` before what the server sent.
fn text(events: &[Event]) -> String {
    let text = |event: &Event| match *event {
        Event::Client(tag) => format!(">{}", char::from(tag)),
        Event::Server(b'Z', status) => format!("<Z({})", char::from(status)),
        Event::Server(tag, _) => format!("<{}", char::from(tag)),
    };
    events.iter().map(text).collect::<Vec<_>>().join(" ")
}
