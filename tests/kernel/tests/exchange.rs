//! Bytes in, the same bytes out, on every path.

use anyhow::{Context as _, Result, ensure};
use halephant::splice::Path;
use halephant_kernel_tests::messages::{query, ready, stream, terminate};
use halephant_kernel_tests::rig::{ADDRESSES, DEADLINE, Rig, Session, carry};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

/// Per path and address family: 100,000 together.
const EXCHANGES: u64 = 12_500;

async fn exchange(session: &mut Session, request: &[u8], answer: &[u8]) -> Result<()> {
    carry(&mut session.client, &mut session.server, request, |_| usize::MAX).await?;
    carry(&mut session.server, &mut session.client, answer, |_| usize::MAX).await
}

#[tokio::test]
async fn short_exchanges_go_through_the_kernel() -> Result<()> {
    for address in ADDRESSES {
        let rig = Rig::start(address).await?;
        for path in Path::ALL {
            let mut session = rig.session(path).await?;
            let (request, answer) = (query(b"select 1\0"), [stream(1, b'D', 100, 50), ready(b'I')].concat());
            for i in 0..EXCHANGES {
                exchange(&mut session, &request, &answer)
                    .await
                    .with_context(|| format!("{path} {address} exchange {i}"))?;
            }
            session.client.write_all(&terminate()).await?;
            let summary = timeout(DEADLINE, session.relay).await???;
            ensure!(summary.terminated && summary.server_reusable, "{path}: {summary:?}");
            for which in [0, 1] {
                let all = EXCHANGES * if which == 0 { request.len() } else { answer.len() } as u64;
                ensure!(summary.copied[which] + summary.redirected[which] == all, "{path}: {summary:?}");
                ensure!(summary.redirected[which] > all * 9 / 10, "{path}: {summary:?}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn messages_may_be_cut_anywhere() -> Result<()> {
    let rig = Rig::start(ADDRESSES[0]).await?;
    for path in Path::ALL {
        let mut session = rig.session(path).await?;
        let (request, answer) = (query(b"select 1\0"), [stream(1, b'D', 10, 20), ready(b'T')].concat());
        for cut in 0..request.len().max(answer.len()) {
            let (up, down) = (request.repeat(2), answer.repeat(2));
            carry(&mut session.client, &mut session.server, &up, |i| if i == 0 { cut } else { usize::MAX })
                .await?;
            carry(&mut session.server, &mut session.client, &down, |i| if i == 0 { cut } else { usize::MAX })
                .await?;
        }
        for size in [1, 2, 3, 5, 7] {
            carry(&mut session.client, &mut session.server, &request.repeat(5), |_| size).await?;
            carry(&mut session.server, &mut session.client, &answer.repeat(5), |_| size).await?;
        }
        let summary = session.finish().await?;
        ensure!(summary.redirected[0] > summary.copied[0], "{path}: {summary:?}");
        ensure!(summary.redirected[1] > summary.copied[1], "{path}: {summary:?}");
    }
    Ok(())
}

#[tokio::test]
async fn bulk_both_ways_arrives_whole() -> Result<()> {
    let rig = Rig::start(ADDRESSES[0]).await?;
    for path in Path::ALL {
        let mut session = rig.session(path).await?;
        exchange(&mut session, &query(b"x\0"), &ready(b'I')).await?;
        for (round, body_bytes_max) in [(1, 100), (2, 2000), (3, 100_000)] {
            let bulk = stream(round, b'd', 32 << 20, body_bytes_max);
            let cut = |i: usize| 1 + (i * 7919) % 70_000;
            carry(&mut session.client, &mut session.server, &bulk, cut)
                .await
                .with_context(|| format!("{path} up"))?;
            carry(&mut session.server, &mut session.client, &bulk, cut)
                .await
                .with_context(|| format!("{path} down"))?;
            exchange(&mut session, &query(b"x\0"), &ready(b'I')).await?;
        }
        let summary = session.finish().await?;
        ensure!(rig.splice.faults() == 0, "{path}: {summary:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_pipeline_keeps_its_order() -> Result<()> {
    let rig = Rig::start(ADDRESSES[0]).await?;
    for path in Path::ALL {
        let mut session = rig.session(path).await?;
        exchange(&mut session, &query(b"x\0"), &ready(b'I')).await?;
        exchange(&mut session, &query(b"x\0"), &ready(b'I')).await?;
        let numbered = |tag: u8| {
            (0..10_000_u32)
                .flat_map(move |i| halephant_kernel_tests::messages::message(tag, &i.to_be_bytes()))
        };
        let (up, down): (Vec<u8>, Vec<u8>) = (numbered(b'Q').collect(), numbered(b'D').collect());
        let Session { client, server, .. } = &mut session;
        carry(client, server, &up, |_| 9).await.with_context(|| format!("{path} up"))?;
        carry(server, client, &down, |_| 900).await.with_context(|| format!("{path} down"))?;
        session.finish().await?;
    }
    Ok(())
}
