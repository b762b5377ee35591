//! Both sides of a stream against each other, and against bytes that are no TLS. The suite has PostgreSQL and libpq.

use super::settings::{ClientLegSettings, ServerLegSettings};
use super::{Acceptor, Connector, Identity, TlsError, TlsMode, TlsStream, name};
use halephant_harness::certificates::{Authority, Subject};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use std::future::poll_fn;
use std::sync::LazyLock;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// Far longer than anything takes.
const LIMIT: Duration = Duration::from_secs(30);

static ACCEPTOR: LazyLock<Acceptor> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("there is room");
    let authority = Authority::new("root").expect("it signs itself");
    let identity = authority.issue(&Subject::new("server", &["localhost"])).expect("it is signed");
    let files = identity.write(directory.path(), "server").expect("it is ours");
    let identity = Identity::load(&files.certificate, &files.key).expect("they fit");
    let settings = ClientLegSettings { mode: TlsMode::Prefer, ..Default::default() };
    Acceptor::new(&settings, identity, None, Vec::new()).expect("it is complete")
});

fn connector() -> Connector {
    let settings = ServerLegSettings { mode: TlsMode::Require, sni: true, ..Default::default() };
    Connector::new(&settings, None, None).expect("it is complete")
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
    (ours.expect("it listens"), theirs.expect("somebody connected").0)
}

async fn pair() -> (TlsStream, TlsStream) {
    let (client, server) = sockets().await;
    let connector = connector();
    let (client, server) = tokio::join!(connector.connect(client, "localhost"), ACCEPTOR.accept(server, &[]));
    let ((client, bound), (server, peer)) = (client.expect("a handshake"), server.expect("a handshake"));
    assert_eq!(bound.as_deref(), peer.end_point.as_deref());
    assert!(peer.named_protocol && peer.certificate.is_none());
    (client, server)
}

async fn write(stream: &mut TlsStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let written = poll_fn(|cx| stream.poll_write(cx, bytes)).await.expect("it is read");
        bytes = &bytes[written..];
    }
    poll_fn(|cx| stream.poll_flush(cx)).await.expect("it is read");
}

/// In pieces of random sizes, on both sides.
async fn transfer(from: &mut TlsStream, to: &mut TlsStream, bytes: &[u8], seed: u64) {
    let sending = async {
        let mut random = StdRng::seed_from_u64(seed);
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(random.random_range(1..=rest.len().min(100_000)));
            write(from, now).await;
            rest = later;
        }
    };
    let receiving = async {
        let mut random = StdRng::seed_from_u64(seed + 1);
        let mut received = Vec::new();
        while received.len() < bytes.len() {
            let mut buffer = vec![0; [1, 100, 4096, 65_536][random.random_range(0..4)]];
            let read = poll_fn(|cx| to.poll_read(cx, &mut buffer)).await.expect("it is sent");
            assert!(read > 0, "an end after {} of {}", received.len(), bytes.len());
            received.extend_from_slice(&buffer[..read]);
        }
        received
    };
    let (received, ()) =
        tokio::time::timeout(LIMIT, async { tokio::join!(receiving, sending) }).await.expect("it goes on");
    assert!(received == bytes, "the bytes differ");
}

#[tokio::test]
async fn bytes_arrive_as_they_were_sent_and_nothing_is_kept() {
    let (mut client, mut server) = pair().await;
    for seed in 0..20 {
        let mut bytes = vec![0; StdRng::seed_from_u64(seed).random_range(1..300_000)];
        StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
        transfer(&mut client, &mut server, &bytes, seed).await;
        transfer(&mut server, &mut client, &bytes, seed).await;
    }
    for stream in [&client, &server] {
        assert_eq!(stream.kept_bytes(), 0);
        assert!(stream.is_flushed() && !stream.holds_input());
    }
}

#[tokio::test]
async fn one_side_may_end_before_the_other() {
    let (mut client, mut server) = pair().await;
    write(&mut client, b"last").await;
    poll_fn(|cx| client.poll_shutdown(cx)).await.expect("it is open");
    let mut buffer = [0; 16];
    let mut seen = Vec::new();
    loop {
        match poll_fn(|cx| server.poll_read(cx, &mut buffer)).await.expect("an end") {
            0 => break,
            read => seen.extend_from_slice(&buffer[..read]),
        }
    }
    assert_eq!(seen, b"last");
    let closed = poll_fn(|cx| client.poll_write(cx, b"more")).await.expect_err("it is closed");
    assert_eq!(closed.kind(), std::io::ErrorKind::BrokenPipe);
    transfer(&mut server, &mut client, &[7; 100_000], 1).await;
    assert_eq!(server.try_read(&mut buffer).expect("an end"), Some(0));
}

/// What the socket does not take is kept, once, and nothing more is taken until it is gone.
#[tokio::test]
async fn what_nobody_reads_is_held_back() {
    let (mut client, mut server) = pair().await;
    let bytes = vec![1; 64 * 1024];
    let mut sent = 0;
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let deadline = std::time::Instant::now() + LIMIT;
    while client.is_flushed() {
        assert!(std::time::Instant::now() < deadline, "the socket takes everything");
        match client.poll_write(&mut context, &bytes) {
            std::task::Poll::Ready(written) => sent += written.expect("it is open"),
            std::task::Poll::Pending => tokio::task::yield_now().await,
        }
    }
    assert!(client.poll_write(&mut context, &bytes).is_pending());
    assert!(client.kept_bytes() <= 80 * 1024, "{}", client.kept_bytes());
    let mut received = 0;
    let mut buffer = vec![0; 64 * 1024];
    let reading = async {
        while received < sent {
            received += poll_fn(|cx| server.poll_read(cx, &mut buffer)).await.expect("it is sent");
        }
    };
    let flushing = async { poll_fn(|cx| client.poll_flush(cx)).await.expect("it is read") };
    tokio::time::timeout(LIMIT, async { tokio::join!(reading, flushing) }).await.expect("it goes on");
    assert_eq!(received, sent);
}

/// A record that was changed on its way ends the connection, with an alert for the peer.
#[tokio::test]
async fn a_changed_record_is_an_error() {
    let (client, mut server) = pair().await;
    let mut raw = client.into_tcp();
    raw.write_all(&[[23, 3, 3, 0, 32].as_slice(), &[0; 32]].concat()).await.expect("it is read");
    let mut buffer = [0; 16];
    let error = poll_fn(|cx| server.poll_read(cx, &mut buffer)).await.expect_err("it is not ours");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever comes instead of a handshake is refused: no panic, no wait beyond the end of the input.
    #[test]
    fn any_bytes_are_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..300), is_record in any::<bool>()) {
        if is_record {
            let length = u16::try_from(bytes.len()).expect("they are few").to_be_bytes();
            bytes.splice(0..0, [22, 3, 1, length[0], length[1]]);
        }
        let outcome = Runtime::new().expect("it starts").block_on(async {
            let (mut client, server) = sockets().await;
            let (received, later) = bytes.split_at(bytes.len() / 2);
            client.write_all(later).await.expect("it fits");
            client.shutdown().await.expect("it is open");
            tokio::time::timeout(LIMIT, ACCEPTOR.accept(server, received)).await
        });
        prop_assert!(matches!(outcome, Ok(Err(TlsError::Handshake(_) | TlsError::Io(_)))), "{outcome:?}");
    }
}

#[test]
fn host_names() {
    for (pattern, host, fits) in [
        ("db.example.com", "DB.example.com", true),
        ("db.example.com", "db.example.co", false),
        ("*.example.com", "db.example.com", true),
        ("*.example.com", "a.db.example.com", false),
        ("*.example.com", "example.com", false),
        ("*.example.com", ".example.com", false),
        ("*.com", "example.com", false),
        ("*", "example", false),
        ("", "", false),
    ] {
        assert_eq!(name::matches(pattern, host), fits, "{pattern} {host}");
    }
}
