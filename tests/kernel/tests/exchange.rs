//! Bytes in, the same bytes out, on every path.

use anyhow::{Context as _, Result, ensure};
use halephant::splice::Path;
use halephant_kernel_tests::messages::{query, ready, stream, terminate};
use halephant_kernel_tests::rig::{ADDRESSES, DEADLINE, Rig, Session};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

/// Sends and sees the same bytes arrive.
async fn carry(
    from: &mut tokio::net::TcpStream,
    to: &mut tokio::net::TcpStream,
    bytes: &[u8],
    cut: impl Fn(usize) -> usize,
) -> Result<()> {
    let mut arrived = vec![0; bytes.len()];
    let send = async {
        let (mut rest, mut i) = (bytes, 0);
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(cut(i).clamp(1, rest.len()));
            from.write_all(chunk).await?;
            (rest, i) = (after, i + 1);
        }
        anyhow::Ok(())
    };
    let receive = async { Ok(to.read_exact(&mut arrived).await.map(|_| ())?) };
    timeout(DEADLINE, async { tokio::try_join!(send, receive) })
        .await
        .context("the bytes do not arrive")??;
    ensure!(arrived == bytes, "other bytes arrive");
    Ok(())
}

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
            for i in 0..1000 {
                exchange(&mut session, &request, &answer)
                    .await
                    .with_context(|| format!("{path} {address} exchange {i}"))?;
            }
            session.client.write_all(&terminate()).await?;
            let summary = timeout(DEADLINE, session.relay).await???;
            ensure!(summary.terminated && summary.server_reusable, "{path}: {summary:?}");
            for which in [0, 1] {
                let all = 1000 * if which == 0 { request.len() } else { answer.len() } as u64;
                ensure!(summary.copied[which] + summary.redirected[which] == all, "{path}: {summary:?}");
                ensure!(summary.redirected[which] > all * 9 / 10, "{path}: {summary:?}");
            }
        }
    }
    Ok(())
}
