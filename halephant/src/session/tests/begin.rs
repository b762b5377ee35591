//! A BEGIN that no server knows of, and what the server is sent when it has to.

use super::*;

const FAILED: &[u8] = b"Z\0\0\0\x05E";
const BEGUN: &[u8] = b"C\0\0\0\x0aBEGIN\0";
const SYNC: &[u8] = b"S\0\0\0\x04";
const FLUSH: &[u8] = b"H\0\0\0\x04";
const REFUSED: &[u8] = b"SERROR\0VERROR\0C0A000\0Mno\0\0";

fn stage() -> Stage {
    Stage::changed(PoolMode::Transaction, |settings| settings.defer_begin = true)
}

/// A BEGIN on its way.
fn ahead(text: &str) -> Vec<u8> {
    encode_ahead(text, false)
}

fn encode_ahead(text: &str, has_portal: bool) -> Vec<u8> {
    let mut out = BytesMut::new();
    crate::server::apply::encode_begin(text.as_bytes(), has_portal, &mut out).expect("it is short");
    out.to_vec()
}

fn ahead_answers() -> Vec<u8> {
    [message(b'1', b""), message(b'2', b""), BEGUN.to_vec(), message(b'3', b"")].concat()
}

fn parse(sql: &str) -> Vec<u8> {
    message(b'P', &[b"\0", sql.as_bytes(), b"\0\0\0"].concat())
}

async fn begin(client: &mut Peer) {
    send(&mut client.socket, &query("BEGIN")).await;
    expect(&mut client.socket, &[BEGUN, IN_TRANSACTION].concat()).await;
}

/// The connection is in order, and the client's transaction has failed.
async fn ends_in_failed(mut client: Peer, mut server: TcpStream) {
    send(&mut client.socket, &query("ROLLBACK")).await;
    expect(&mut client.socket, &[&message(b'C', b"ROLLBACK\0"), IDLE].concat()).await;
    send(&mut client.socket, &query("SELECT 'after'")).await;
    expect(&mut server, &query("SELECT 'after'")).await;
    send(&mut server, &[COMPLETE, IDLE].concat()).await;
    expect(&mut client.socket, &[COMPLETE, IDLE].concat()).await;
    send(&mut client.socket, b"X\0\0\0\x04").await;
    assert_eq!(client.end().await, SessionEnd::Terminated);
}

#[tokio::test]
async fn begin_and_the_first_query_take_one_round_trip() {
    let mut stage = stage();
    let mut client = stage.client(&[]).await;
    begin(&mut client).await;
    assert_eq!(stage.pool.connections(), 0);
    // The second statement would not be skipped if the BEGIN were refused.
    send(&mut client.socket, &[query("SELECT 1"), query("SELECT 2")].concat()).await;
    let mut server = stage.server().await;
    expect(&mut server, &[ahead("BEGIN"), query("SELECT 1")].concat()).await;
    expect_nothing(&mut server).await;
    send(&mut server, &[&ahead_answers(), COMPLETE, IN_TRANSACTION].concat()).await;
    expect(&mut client.socket, &[COMPLETE, IN_TRANSACTION].concat()).await;
    expect(&mut server, &query("SELECT 2")).await;
    send(&mut server, &[COMPLETE, IN_TRANSACTION].concat()).await;
    expect(&mut client.socket, &[COMPLETE, IN_TRANSACTION].concat()).await;
    send(&mut client.socket, &query("COMMIT")).await;
    expect(&mut server, &query("COMMIT")).await;
    send(&mut server, &[COMPLETE, IDLE].concat()).await;
    expect(&mut client.socket, &[COMPLETE, IDLE].concat()).await;
}

#[tokio::test]
async fn begin_and_the_first_batch_take_one_round_trip() {
    let mut stage = stage();
    let mut client = stage.client(&[]).await;
    begin(&mut client).await;
    // It goes on before its Sync is there.
    send(&mut client.socket, &[&parse("SELECT 1"), FLUSH].concat()).await;
    let mut server = stage.server().await;
    expect(&mut server, &[&ahead("BEGIN"), &parse("SELECT 1"), FLUSH].concat()).await;
    send(&mut server, &[ahead_answers(), message(b'1', b"")].concat()).await;
    expect(&mut client.socket, &message(b'1', b"")).await;
    send(&mut client.socket, SYNC).await;
    expect(&mut server, SYNC).await;
    send(&mut server, IN_TRANSACTION).await;
    expect(&mut client.socket, IN_TRANSACTION).await;
}

#[tokio::test]
async fn parameters_begin_and_the_first_statement_take_one_round_trip() {
    let mut stage = stage();
    let mut client = stage.client(&[("work_mem", "1MB")]).await;
    send(&mut client.socket, &[query("BEGIN"), query("SELECT 1")].concat()).await;
    let mut server = stage.server().await;
    let expected = [super::joined(), ahead("BEGIN"), query("SELECT 1")].concat();
    expect(&mut server, &expected).await;
    send(&mut server, &[&super::joined_answers(), &ahead_answers(), COMPLETE, IN_TRANSACTION].concat()).await;
    expect(&mut client.socket, &[BEGUN, IN_TRANSACTION, COMPLETE, IN_TRANSACTION].concat()).await;
}

/// What the statement sets could not be told from what was set for it.
#[tokio::test]
async fn begin_goes_with_a_statement_that_waits_for_its_parameters() {
    let mut stage = stage();
    let mut client = stage.client(&[("work_mem", "1MB")]).await;
    send(&mut client.socket, &[query("BEGIN"), query("SET DateStyle = German")].concat()).await;
    let mut server = stage.server().await;
    let mut sets = BytesMut::new();
    crate::server::apply::encode_parameters(&[("work_mem", "1MB")], &[], false, &mut sets)
        .expect("it is short");
    expect(&mut server, &sets).await;
    expect_nothing(&mut server).await;
    send(&mut server, IDLE).await;
    expect(&mut server, &[ahead("BEGIN"), query("SET DateStyle = German")].concat()).await;
}

/// PostgreSQL skips the Query, and answers it as little.
#[tokio::test]
async fn a_query_behind_a_refused_begin_gets_its_error() {
    let mut stage = stage();
    let mut client = stage.client(&[]).await;
    begin(&mut client).await;
    send(&mut client.socket, &[query("SELECT 1"), query("SELECT 2")].concat()).await;
    let mut server = stage.server().await;
    expect(&mut server, &[ahead("BEGIN"), query("SELECT 1")].concat()).await;
    send(&mut server, &message(b'E', REFUSED)).await;
    expect(&mut server, SYNC).await;
    send(&mut server, IDLE).await;
    expect(&mut client.socket, &[&message(b'E', REFUSED), FAILED].concat()).await;
    // What came behind it is refused here.
    let mut aborted = BytesMut::new();
    let text = "current transaction is aborted, commands ignored until end of transaction block";
    ErrorReport::error(SqlState::IN_FAILED_SQL_TRANSACTION, text).encode_error(&mut aborted);
    expect(&mut client.socket, &[&aborted, FAILED].concat()).await;
    ends_in_failed(client, server).await;
}

#[tokio::test]
async fn a_batch_behind_a_refused_begin_gets_its_error() {
    let mut stage = stage();
    for cut in [false, true] {
        let mut client = stage.client(&[]).await;
        begin(&mut client).await;
        let (first, rest) = (parse("SELECT 1"), [&query("SELECT 'skipped'"), SYNC].concat());
        let at_once = if cut { first.clone() } else { [first, rest.clone()].concat() };
        send(&mut client.socket, &at_once).await;
        let mut server = stage.server().await;
        // Behind a Query nothing goes before the BEGIN is answered.
        let before_sync = if cut { &at_once[..] } else { &at_once[..at_once.len() - SYNC.len()] };
        expect(&mut server, &[&ahead("BEGIN"), before_sync].concat()).await;
        expect_nothing(&mut server).await;
        send(&mut server, &message(b'E', REFUSED)).await;
        expect(&mut client.socket, &message(b'E', REFUSED)).await;
        if cut {
            send(&mut client.socket, &rest).await;
            expect(&mut server, &rest).await;
        } else {
            expect(&mut server, SYNC).await;
        }
        send(&mut server, IDLE).await;
        expect(&mut client.socket, FAILED).await;
        ends_in_failed(client, server).await;
        stage = self::stage();
    }
}

/// A Query in two parts, of which the second comes when the BEGIN has been refused.
#[tokio::test]
async fn a_long_query_behind_a_refused_begin_is_read_to_its_end() {
    let mut stage = stage();
    let mut client = stage.client(&[]).await;
    begin(&mut client).await;
    let call = message(b'F', &[7; 200]);
    let (first, rest) = call.split_at(100);
    send(&mut client.socket, first).await;
    let mut server = stage.server().await;
    expect(&mut server, &[&ahead("BEGIN"), first].concat()).await;
    send(&mut server, &message(b'E', REFUSED)).await;
    expect(&mut client.socket, &message(b'E', REFUSED)).await;
    expect_nothing(&mut server).await;
    send(&mut client.socket, rest).await;
    expect(&mut server, &[rest, SYNC].concat()).await;
    send(&mut server, IDLE).await;
    expect(&mut client.socket, FAILED).await;
    ends_in_failed(client, server).await;
}

#[tokio::test]
async fn a_batch_that_begins_is_answered_as_a_query_is() {
    let mut stage = stage();
    let mut client = stage.client(&[]).await;
    let bind = message(b'B', b"\0\0\0\0\0\0\0\0");
    let batch =
        |describe: &[u8]| [&parse("BEGIN"), &bind, describe, &message(b'E', b"\0\0\0\0\0"), SYNC].concat();
    let answers = |described: &[u8]| {
        [&message(b'1', b""), &message(b'2', b""), described, BEGUN, IN_TRANSACTION].concat()
    };
    for (describe, described) in [(vec![], vec![]), (message(b'D', b"P\0"), message(b'n', b""))] {
        send(&mut client.socket, &batch(&describe)).await;
        expect(&mut client.socket, &answers(&described)).await;
        send(&mut client.socket, &query("COMMIT")).await;
        expect(&mut client.socket, &[&message(b'C', b"COMMIT\0"), IDLE].concat()).await;
    }
    assert_eq!(stage.pool.connections(), 0);
    // The statement is still there.
    send(&mut client.socket, &batch(b"")).await;
    expect(&mut client.socket, &answers(b"")).await;
    send(&mut client.socket, &[&bind[..], SYNC].concat()).await;
    let mut server = stage.server().await;
    // So is the portal.
    expect(&mut server, &[&encode_ahead("BEGIN", true), &parse("BEGIN"), &bind, SYNC].concat()).await;
}

/// It may do what a client with a server connection may.
#[tokio::test]
async fn a_transaction_that_has_begun_may_end_when_sessions_are_drained() {
    let mut stage = stage();
    let (mut empty, mut client) = (stage.client(&[]).await, stage.client(&[]).await);
    begin(&mut empty).await;
    begin(&mut client).await;
    stage.sessions.signal_all(Signal::Drain);
    send(&mut client.socket, &query("SELECT 1")).await;
    let mut server = stage.server().await;
    expect(&mut server, &[ahead("BEGIN"), query("SELECT 1")].concat()).await;
    send(&mut server, &[&ahead_answers(), COMPLETE, IN_TRANSACTION].concat()).await;
    expect(&mut client.socket, &[COMPLETE, IN_TRANSACTION].concat()).await;
    send(&mut client.socket, &query("COMMIT")).await;
    expect(&mut server, &query("COMMIT")).await;
    send(&mut server, &[COMPLETE, IDLE].concat()).await;
    expect(&mut client.socket, &[COMPLETE, IDLE].concat()).await;
    assert_eq!(client.end().await, SessionEnd::Shutdown);
    send(&mut empty.socket, &query("COMMIT")).await;
    expect(&mut empty.socket, &[&message(b'C', b"COMMIT\0"), IDLE].concat()).await;
    assert_eq!(empty.end().await, SessionEnd::Shutdown);
}
