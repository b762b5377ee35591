//! How sessions end, and how the kernel path is taken away from them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use halephant::splice::Path;
use halephant_kernel_tests::messages::{query, ready, stream};
use halephant_kernel_tests::rig::{ADDRESSES, CREDIT_BYTES, DEADLINE, Rig, Session, carry};
use rand::RngExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

async fn warm(session: &mut Session) -> Result<()> {
    for _ in 0..5 {
        carry(&mut session.client, &mut session.server, &query(b"x\0"), |_| usize::MAX).await?;
        carry(&mut session.server, &mut session.client, &ready(b'I'), |_| usize::MAX).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_kill_switch_loses_nothing() -> Result<()> {
    const THROWS: usize = 250;
    let rig = Rig::start(ADDRESSES[0]).await?;
    for path in Path::ALL {
        let session = rig.session(path).await?;
        let (mut client_read, mut client_write) = session.client.into_split();
        let (mut server_read, mut server_write) = session.server.into_split();
        let echo = tokio::spawn(async move {
            let mut buffer = vec![0; 16 * 1024];
            while let bytes @ 1.. = server_read.read(&mut buffer).await? {
                server_write.write_all(&buffer[..bytes]).await?;
            }
            anyhow::Ok(())
        });
        let splice = rig.splice.clone();
        let thrower = tokio::task::spawn_blocking(move || {
            let mut random = rand::rng();
            let mut arms = 0;
            for _ in 0..THROWS {
                let deadline = std::time::Instant::now() + DEADLINE;
                while splice.counters(0).arms == arms {
                    assert!(std::time::Instant::now() < deadline, "the session is never spliced again");
                    std::thread::yield_now();
                }
                // Not a wait for anything: the moment is random.
                std::thread::sleep(Duration::from_micros(random.random_range(0..2000)));
                arms = splice.counters(0).arms;
                splice.kill();
                std::thread::sleep(Duration::from_micros(random.random_range(0..2000)));
                assert!(splice.revive());
            }
        });
        let mut round = 0;
        while !thrower.is_finished() {
            round += 1;
            let request = stream(round, b'Q', 300, 400);
            let mut answer = vec![0; request.len()];
            client_write.write_all(&request).await?;
            timeout(DEADLINE, client_read.read_exact(&mut answer))
                .await
                .with_context(|| format!("{path}: round {round} hangs"))??;
            ensure!(answer == request, "{path}: round {round}");
        }
        thrower.await?;
        drop((client_read, client_write));
        let summary = timeout(DEADLINE, session.relay).await???;
        timeout(DEADLINE, echo).await???;
        ensure!(rig.splice.faults() == 0 && summary.reclaims >= THROWS as u64, "{path}: {summary:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_half_close_arrives_after_the_last_byte() -> Result<()> {
    let rig = Rig::start(ADDRESSES[0]).await?;
    for path in Path::ALL {
        for round in 0..20 {
            let mut session = rig.session(path).await?;
            warm(&mut session).await?;
            let (up, down) = (stream(round, b'd', 50_000, 3000), stream(round, b'D', 50_000, 3000));
            session.client.write_all(&up).await?;
            session.client.shutdown().await?;
            let mut arrived = Vec::new();
            timeout(DEADLINE, session.server.read_to_end(&mut arrived))
                .await
                .with_context(|| format!("{path}"))??;
            ensure!(arrived == up, "{path}: {} of {} bytes", arrived.len(), up.len());
            session.server.write_all(&down).await?;
            session.server.shutdown().await?;
            let mut arrived = Vec::new();
            timeout(DEADLINE, session.client.read_to_end(&mut arrived))
                .await
                .with_context(|| format!("{path}"))??;
            ensure!(arrived == down, "{path}: {} of {} bytes", arrived.len(), down.len());
            session.finish().await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_reset_ends_the_session() -> Result<()> {
    let rig = Rig::start(ADDRESSES[0]).await?;
    for path in Path::ALL {
        let mut session = rig.session(path).await?;
        warm(&mut session).await?;
        session.client.set_zero_linger()?;
        drop(session.client);
        let mut rest = Vec::new();
        timeout(DEADLINE, session.server.read_to_end(&mut rest))
            .await
            .with_context(|| format!("{path}"))??;
        ensure!(rest.is_empty());
        drop(session.server);
        timeout(DEADLINE, session.relay).await???;
    }
    Ok(())
}

/// Bytes of the system's TCP buffers.
fn tcp_memory() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/net/sockstat")?;
    let line = text.lines().find(|line| line.starts_with("TCP:")).context("no TCP line")?;
    let pages: u64 = line.rsplit(' ').next().context("no figure")?.parse()?;
    Ok(pages * 4096)
}

#[tokio::test]
async fn a_reader_that_stops_is_waited_for() -> Result<()> {
    let rig = Rig::start(ADDRESSES[0]).await?;
    for path in Path::ALL {
        let mut session = rig.session(path).await?;
        warm(&mut session).await?;
        let before = tcp_memory()?;
        let result = stream(9, b'D', 128 << 20, 8000);
        let Session { client, server, .. } = &mut session;
        // The sender gets stuck: nothing goes in for half a second.
        let (mut sent, mut moved) = (0, Instant::now());
        while moved.elapsed() < Duration::from_millis(500) {
            let step = Duration::from_millis(20);
            if timeout(step, server.writable()).await.is_ok()
                && let Ok(bytes) = server.try_write(&result[sent..result.len().min(sent + 8192)])
            {
                (sent, moved) = (sent + bytes, Instant::now());
                ensure!(sent < result.len(), "{path}: the kernel holds the whole result");
            }
        }
        let held = tcp_memory()?.saturating_sub(before);
        ensure!(held < 32 * CREDIT_BYTES, "{path}: {held} bytes are held after {sent} were sent");
        let mut arrived = vec![0; result.len()];
        let send = async { anyhow::Ok(server.write_all(&result[sent..]).await?) };
        let receive = async { Ok(client.read_exact(&mut arrived).await.map(|_| ())?) };
        timeout(DEADLINE, async { tokio::try_join!(send, receive) })
            .await
            .with_context(|| format!("{path}"))??;
        ensure!(arrived == result, "{path}: another result");
        let summary = session.finish().await?;
        ensure!(rig.splice.faults() == 0, "{path}: {summary:?}");
    }
    Ok(())
}

#[tokio::test]
async fn unread_bytes_are_told_to_the_process_that_asks() -> Result<()> {
    let rig = Rig::start(ADDRESSES[0]).await?;
    let mut session = rig.session(Path::Colocated).await?;
    for spliced in [false, true] {
        if spliced {
            warm(&mut session).await?;
        }
        session.server.write_all(&ready(b'I')).await?;
        let deadline = Instant::now() + DEADLINE;
        loop {
            let unread = rustix::io::ioctl_fionread(&session.client)?;
            if unread == 6 {
                break;
            }
            ensure!(Instant::now() < deadline, "FIONREAD says {unread}, spliced: {spliced}");
            tokio::task::yield_now().await;
        }
        session.client.read_exact(&mut [0; 6]).await?;
    }
    session.finish().await?;
    Ok(())
}
