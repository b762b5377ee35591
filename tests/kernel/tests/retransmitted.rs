//! Segments that begin with bytes the socket has had: a retransmission merged with what follows it. TCP's own readers skip
//! them, and so does every path.

use std::os::fd::AsFd as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use halephant::splice::{Path, Sockets};
use halephant_kernel_tests::messages::{query, ready, stream};
use halephant_kernel_tests::rig::{ADDRESSES, DEADLINE, Rig, carry};
use halephant_kernel_tests::segment::Sender;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Bytes in front of a segment that were sent before, and bytes that were not.
const OVERLAPS: [(usize, usize); 7] =
    [(1, 1), (1, 4000), (50, 50), (4095, 10), (4096, 1), (20_000, 20_000), (60_000, 5000)];
const SENT_BYTES: usize = 64 * 1024;
/// Nothing more arrives for so long.
const SILENCE: Duration = Duration::from_millis(100);

/// Sends bytes and, for each overlap, a segment that repeats some of them; `to` must receive all of them once.
async fn send_with_overlaps(from: &mut TcpStream, to: &mut TcpStream) -> Result<()> {
    let sender = Sender::of(from)?;
    for (seed, (before, after)) in (0..).zip(OVERLAPS) {
        let bytes = stream(seed, b'd', SENT_BYTES + after + 1, 3000);
        from.write_all(&bytes[..SENT_BYTES]).await?;
        receive(to, &bytes[..SENT_BYTES]).await.with_context(|| format!("before {before} and {after}"))?;
        overlap(&sender, from, &bytes, SENT_BYTES, before, after)?;
        receive(to, &bytes[SENT_BYTES..SENT_BYTES + after])
            .await
            .with_context(|| format!("{before} bytes again, {after} new"))?;
        // The sender itself does not know of the new ones: it sends them, and more behind them.
        from.write_all(&bytes[SENT_BYTES..]).await?;
        receive(to, &bytes[SENT_BYTES + after..])
            .await
            .with_context(|| format!("after {before} and {after}"))?;
    }
    let more = timeout(SILENCE, to.read(&mut [0; 64])).await;
    ensure!(more.is_err(), "more than was sent");
    Ok(())
}

fn overlap(
    sender: &Sender,
    from: &TcpStream,
    bytes: &[u8],
    sent: usize,
    before: usize,
    after: usize,
) -> Result<()> {
    sender.inject(from, before, &bytes[sent - before..sent + after])
}

async fn receive(to: &mut TcpStream, expected: &[u8]) -> Result<()> {
    let mut arrived = vec![0; expected.len()];
    timeout(DEADLINE, to.read_exact(&mut arrived)).await.context("the bytes do not arrive")??;
    ensure!(arrived == expected, "other bytes arrive");
    Ok(())
}

#[tokio::test]
async fn enrolled_sockets_receive_bytes_once() -> Result<()> {
    let rig = Rig::start(ADDRESSES[0]).await?;
    let [mut client, mut accepted, mut dialled, mut server] = rig.pairs(Path::Colocated).await?;
    send_with_overlaps(&mut accepted, &mut client).await.context("to the client")?;
    send_with_overlaps(&mut dialled, &mut server).await.context("to the server")?;
    ensure!(rig.splice.faults() == 0);
    Ok(())
}

#[tokio::test]
async fn our_sockets_receive_bytes_once() -> Result<()> {
    let rig = Rig::start(ADDRESSES[0]).await?;
    for path in [Path::Own, Path::ServerLocal, Path::ClientLocal] {
        let mut session = rig.session(path).await?;
        for spliced in [false, true] {
            if spliced {
                for _ in 0..2 {
                    carry(&mut session.client, &mut session.server, &query(b"x\0"), |_| usize::MAX).await?;
                    carry(&mut session.server, &mut session.client, &ready(b'I'), |_| usize::MAX).await?;
                }
            }
            let place = || format!("{path}, spliced: {spliced}");
            if path != Path::ClientLocal {
                let sent = send_with_overlaps(&mut session.client, &mut session.server).await;
                sent.context("to the server").with_context(place)?;
            }
            if path != Path::ServerLocal {
                let sent = send_with_overlaps(&mut session.server, &mut session.client).await;
                sent.context("to the client").with_context(place)?;
            }
        }
        let summary = session.finish().await?;
        ensure!(summary.redirected.iter().sum::<u64>() > SENT_BYTES as u64, "{path}: {summary:?}");
    }
    ensure!(rig.splice.faults() == 0);
    Ok(())
}

/// What userspace has read before the socket comes under the verdict may be repeated by the first segment after it.
#[tokio::test]
async fn the_first_segment_on_the_path_may_repeat_bytes_too() -> Result<()> {
    const SENT: usize = 5000;
    let rig = Rig::start(ADDRESSES[0]).await?;
    let [mut client, mut accepted, dialled, mut server] = rig.pairs(Path::Own).await?;
    let bytes = stream(7, b'd', 2 * SENT, 900);
    client.write_all(&bytes[..SENT]).await?;
    receive(&mut accepted, &bytes[..SENT]).await?;
    let flow = rig.splice.insert(Sockets { client: accepted.as_fd(), server: dialled.as_fd() }, 0)?;
    ensure!(socket2::SockRef::from(&accepted).reuse_address()?, "the listener's option is lost");
    overlap(&Sender::of(&client)?, &client, &bytes, SENT, 1000, 500)?;
    // The test's own relay: what the verdict passes.
    receive(&mut accepted, &bytes[SENT..SENT + 500]).await?;
    client.write_all(&bytes[SENT..]).await?;
    receive(&mut accepted, &bytes[SENT + 500..]).await?;
    drop(flow);
    server.shutdown().await?;
    ensure!(rig.splice.faults() == 0);
    Ok(())
}

/// A packet that cannot be put into the stream ends the connection: nothing behind it is handed on.
#[tokio::test]
async fn a_packet_that_does_not_fit_ends_the_connection() -> Result<()> {
    let rig = Rig::start(ADDRESSES[0]).await?;
    let [mut client, mut accepted, _dialled, _server] = rig.pairs(Path::Colocated).await?;
    accepted.write_all(b"one").await?;
    receive(&mut client, b"one").await?;
    misplace(&client)?;
    accepted.write_all(b"two").await?;
    let end = timeout(DEADLINE, client.read(&mut [0; 8])).await.context("the connection does not end")?;
    ensure!(!matches!(end, Ok(1..)), "bytes are handed on");
    let end = timeout(DEADLINE, accepted.read(&mut [0; 8])).await.context("the other end does not see it")?;
    ensure!(!matches!(end, Ok(1..)), "bytes come back");
    ensure!(rig.splice.faults() == 1);
    Ok(())
}

/// Has the program believe that more has arrived at the socket than did.
fn misplace(socket: &TcpStream) -> Result<()> {
    let cookie = socket2::SockRef::from(socket).cookie()?;
    let mut moved = 0;
    for map in aya::maps::loaded_maps() {
        let map = map?;
        if map.name_as_str() != Some("ARRIVED") {
            continue;
        }
        let data = aya::maps::MapData::from_id(map.id())?;
        let mut arrived: aya::maps::HashMap<_, u64, [u64; 2]> =
            aya::maps::Map::from_map_data(data)?.try_into()?;
        if let Ok([bytes, next]) = arrived.get(&cookie, 0) {
            arrived.insert(cookie, [bytes, next - 1000], 0)?;
            moved += 1;
        }
    }
    ensure!(moved == 1, "{moved} programs know the socket");
    Ok(())
}
