//! [`send_with_overlaps`]: a stream some of whose segments repeat what was sent before.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::messages::{query, ready, stream};
use crate::rig::{DEADLINE, Rig, carry};
use crate::segment::Sender;
use halephant::splice::Path;

/// Bytes in front of a segment that were sent before, and bytes that were not.
const OVERLAPS: [(usize, usize); 7] =
    [(1, 1), (1, 4000), (50, 50), (4095, 10), (4096, 1), (20_000, 20_000), (60_000, 5000)];
pub const SENT_BYTES: usize = 64 * 1024;
/// Nothing more arrives for so long.
const SILENCE: Duration = Duration::from_millis(100);

/// Sends bytes and, for each overlap, a segment that repeats some of them; `to` must receive all of them once.
pub async fn send_with_overlaps(from: &mut TcpStream, to: &mut TcpStream) -> Result<()> {
    let sender = Sender::of(from)?;
    for (seed, (before, after)) in (0..).zip(OVERLAPS) {
        let bytes = stream(seed, b'd', SENT_BYTES + after + 1, 3000);
        from.write_all(&bytes[..SENT_BYTES]).await?;
        receive(to, &bytes[..SENT_BYTES]).await.with_context(|| format!("before {before} and {after}"))?;
        sender.inject(from, before, &bytes[SENT_BYTES - before..SENT_BYTES + after])?;
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

pub async fn receive(to: &mut TcpStream, expected: &[u8]) -> Result<()> {
    let mut arrived = vec![0; expected.len()];
    timeout(DEADLINE, to.read_exact(&mut arrived)).await.context("the bytes do not arrive")??;
    ensure!(arrived == expected, "other bytes arrive");
    Ok(())
}

/// Every socket of the path that is under a verdict, before and while the kernel moves its bytes.
pub async fn every_socket(rig: &Rig, path: Path) -> Result<()> {
    enrolled(rig, path).await?;
    if path != Path::Colocated {
        ours(rig, path).await?;
    }
    Ok(())
}

async fn enrolled(rig: &Rig, path: Path) -> Result<()> {
    let [mut client, mut accepted, mut dialled, mut server] = rig.pairs(path).await?;
    send_with_overlaps(&mut accepted, &mut client).await.context("to the client's socket")?;
    send_with_overlaps(&mut dialled, &mut server).await.context("to the server's socket")
}

async fn ours(rig: &Rig, path: Path) -> Result<()> {
    let mut session = rig.session(path).await?;
    for spliced in [false, true] {
        if spliced {
            for _ in 0..2 {
                carry(&mut session.client, &mut session.server, &query(b"x\0"), |_| usize::MAX).await?;
                carry(&mut session.server, &mut session.client, &ready(b'I'), |_| usize::MAX).await?;
            }
        }
        let place = || format!("spliced: {spliced}");
        if path != Path::ClientLocal {
            let sent = send_with_overlaps(&mut session.client, &mut session.server).await;
            sent.context("from the client").with_context(place)?;
        }
        if path != Path::ServerLocal {
            let sent = send_with_overlaps(&mut session.server, &mut session.client).await;
            sent.context("from the server").with_context(place)?;
        }
    }
    let summary = session.finish().await?;
    ensure!(summary.redirected.iter().sum::<u64>() > SENT_BYTES as u64, "{summary:?}");
    Ok(())
}
