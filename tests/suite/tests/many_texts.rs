//! More texts than anybody should prepare: memory stays within what `server.max_prepared_statements` allows.
//!
//! For a million of them, `HALEPHANT_TEXTS=1000000 cargo test -p halephant-suite --test many_texts -- --nocapture`.

use halephant_harness::Cluster;
use halephant_suite::{Client, Stage, encode};

/// How many; without it, as many as take some seconds.
const VARIABLE: &str = "HALEPHANT_TEXTS";
const TEXTS: u32 = 60_000;
/// `server.max_prepared_statements`.
const STATEMENTS_MAX: u32 = 2_000;
/// What one of them may take: the text, the entry, its copy on the server connection, and what the allocator adds.
const STATEMENT_BYTES_MAX: u64 = 1024;
/// Buffers, and whatever else is made while much goes by.
const REST_KIB_MAX: u64 = 2 * 1024;
const GROWTH_KIB_MAX: u64 = STATEMENTS_MAX as u64 * STATEMENT_BYTES_MAX / 1024 + REST_KIB_MAX;

const CLIENTS: usize = 4;
/// Names that a client has at a time.
const NAMES: u32 = 100;
/// Texts that a client sends at a time.
const AT_ONCE: u32 = 500;

fn texts() -> u32 {
    let set = std::env::var(VARIABLE).ok();
    set.map_or(TEXTS, |text| text.parse().unwrap_or_else(|_| panic!("{VARIABLE}={text} is not a number")))
}

/// Has the client prepare as many texts that nobody has sent before, and each name stand for the newest.
fn prepare(client: &mut Client, first: u32) {
    let mut bytes = Vec::new();
    for number in first..first + AT_ONCE {
        let name = format!("s{}", number % NAMES);
        bytes.extend(encode::close_statement(&name));
        bytes.extend(encode::parse(&name, &format!("SELECT {number} AS a")));
        bytes.extend(encode::sync());
    }
    client.send(&bytes).expect("it reads");
    for _ in 0..AT_ONCE {
        let answer = client.receive_until(b'Z').expect("it is answered");
        let tags: String = answer.iter().map(|message| char::from(message.tag)).collect();
        assert_eq!(tags, "31Z");
    }
}

#[test]
fn many_texts_take_no_more_memory_than_few() {
    let stage = Stage::with(Cluster::builder(), |config| {
        config.set("server.max_prepared_statements", i64::from(STATEMENTS_MAX)).set("logging.level", "info")
    });
    let stage = stage.expect("it starts");
    let mut clients = [(); CLIENTS].map(|()| stage.client().expect("it may log in"));
    let (mut at, mut most, mut begin) = (0, 0, None);
    // The bound is reached, and copies make room for others, before anything is compared.
    let begins_at = 2 * STATEMENTS_MAX;
    while at < texts() {
        for client in &mut clients {
            prepare(client, at);
            at += AT_ONCE;
        }
        if at >= begins_at {
            let now = stage.proxy.resident_kib().expect("it runs");
            begin.get_or_insert(now);
            most = most.max(now);
        }
    }
    let begin = begin.expect("there are more texts than that");
    eprintln!("{at} texts: {begin} KiB after {begins_at}, {most} KiB at most");
    assert!(most - begin <= GROWTH_KIB_MAX, "{most} KiB, and {begin} KiB after {begins_at} texts");
    // Names stand for what they stood for last.
    for (number, client) in clients.iter_mut().enumerate() {
        let newest = at - AT_ONCE * (CLIENTS - number) as u32 + AT_ONCE - 1;
        let name = format!("s{}", newest % NAMES);
        let run = [encode::bind("", &name, &[]), encode::execute("", 0), encode::sync()].concat();
        client.send(&run).expect("it reads");
        let answer = client.receive_until(b'Z').expect("it is answered");
        assert_eq!(halephant_suite::message::values(&answer), [newest.to_string()]);
    }
}
