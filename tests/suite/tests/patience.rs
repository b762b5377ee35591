//! What halephant itself sends to a server takes its time, or is not answered: nobody's statement is struck by it, and nobody
//! waits for ever.

use halephant_harness::Cluster;
use halephant_suite::message::{error, values};
use halephant_suite::{Client, Message, Midway, encode};

#[track_caller]
fn sqlstate(answer: &[Message]) -> Option<String> {
    error(answer).and_then(Message::sqlstate)
}

/// The query ends before its cancel arrives, which must not strike the next one.
#[test]
fn a_late_query_timeout_strikes_nothing() {
    let change = |config: halephant_harness::ProxyConfig| {
        ["app", "app_session"].iter().fold(config, |config, pool| {
            config.set(&format!("cluster.main.pool.{pool}.query_timeout"), "500ms")
        })
    };
    let (midway, stage) = Midway::stage(Cluster::builder(), change).expect("it starts");
    for login in [stage.transaction(), stage.session()] {
        let mut client = Client::connect(&login).expect("it may log in");
        for _ in 0..3 {
            // So that the next query may go through the kernel, where that is tested.
            assert_eq!(client.value("SELECT 1").expect("it answers"), "1");
        }
        midway.hold_cancels();
        client.query("BEGIN").expect("it answers");
        let slept = client.query("SELECT 'slept' FROM pg_sleep(1.5)").expect("it ends by itself");
        assert_eq!(values(&slept), ["slept"]);
        midway.wait_until_held().expect("it took too long");
        client.send(&encode::query("SELECT 'next' FROM pg_sleep(0.1)")).expect("it reads");
        client.send(&encode::query("COMMIT")).expect("it reads");
        client.set_limit(std::time::Duration::from_millis(400));
        client.receive().expect_err("it waits for the cancel");
        client.set_limit(halephant_suite::client::LIMIT);
        midway.release();
        let next = client.receive_until(b'Z').expect("it is answered");
        assert_eq!((values(&next), sqlstate(&next)), (vec!["next".to_owned()], None));
        let commit = client.receive_until(b'Z').expect("it is answered");
        assert_eq!(commit.last().map(|ready| ready.body.clone()), Some(b"I".to_vec()));
    }
}
