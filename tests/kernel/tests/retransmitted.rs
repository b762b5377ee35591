//! Segments that begin with bytes the socket has had: a retransmission merged with what follows it. TCP's own readers skip
//! them, and so does every path.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, ensure};
use halephant::splice::{Path, Sockets};
use halephant_kernel_tests::messages::stream;
use halephant_kernel_tests::misplaced::misplace;
use halephant_kernel_tests::repeated::{every_socket, receive};
use halephant_kernel_tests::rig::{ADDRESSES, DEADLINE, Rig};
use halephant_kernel_tests::segment::Sender;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

#[tokio::test]
async fn bytes_that_come_again_are_received_once() -> Result<()> {
    let rig = Rig::start(ADDRESSES[0]).await?;
    for path in Path::ALL {
        every_socket(&rig, path).await.with_context(|| format!("{path}"))?;
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
    Sender::of(&client)?.inject(&client, 1000, &bytes[SENT - 1000..SENT + 500])?;
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
