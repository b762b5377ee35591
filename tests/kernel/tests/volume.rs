//! A gigabyte each way on every path, through a reader that stops.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use halephant::splice::Path;
use halephant_kernel_tests::messages::{query, ready};
use halephant_kernel_tests::relay::Summary;
use halephant_kernel_tests::rig::{ADDRESSES, CREDIT_BYTES, Rig, carry};
use halephant_kernel_tests::volume::{Volume, Watch};
use tokio::sync::oneshot;
use tokio::time::timeout;

const VOLUME_BYTES: u64 = 1 << 30;
/// For so long, in the middle of its gigabyte, the client does not read.
const STOP: Duration = Duration::from_secs(10);
const DEADLINE: Duration = Duration::from_secs(280);
/// Half of each volume is sent no faster than it is read, so that the credit lasts and the kernel moves it.
const WINDOW: u64 = CREDIT_BYTES / 4;

/// All that a session may hold while its client does not read. Nearly all of it are TCP's own buffers, as large as the
/// system lets them grow.
const HELD_BYTES_MAX: u64 = VOLUME_BYTES / 8;

/// Of these, what the redirected bytes of both directions may take beyond the buffers: the kernel counts packets with their overhead,
/// which on a busy host was more than twice the bytes (0 to 4.5 MB were seen).
const BEYOND_BYTES_MAX: u64 = 2 * 4 * CREDIT_BYTES;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gigabyte_each_way_survives_a_reader_that_stops() -> Result<()> {
    let rig = Rig::start(ADDRESSES[0]).await?;
    let rig = &rig;
    let sessions = Path::ALL.map(|path| async move {
        let summary = timeout(DEADLINE, gigabytes(rig, path)).await.context("it takes too long")?;
        anyhow::Ok((path, summary.with_context(|| format!("{path}"))?))
    });
    let [own, client, server, colocated] = sessions;
    let (own, client, server, colocated) = tokio::try_join!(own, client, server, colocated)?;
    for (path, summary) in [own, client, server, colocated] {
        for which in [0, 1] {
            ensure!(summary.copied[which] + summary.redirected[which] >= VOLUME_BYTES, "{path}: {summary:?}");
            ensure!(summary.redirected[which] > CREDIT_BYTES, "{path}: {summary:?}");
        }
    }
    ensure!(rig.splice.faults() == 0);
    Ok(())
}

async fn gigabytes(rig: &Rig, path: Path) -> Result<Summary> {
    let mut session = rig.session(path).await?;
    for _ in 0..2 {
        carry(&mut session.client, &mut session.server, &query(b"x\0"), |_| usize::MAX).await?;
        carry(&mut session.server, &mut session.client, &ready(b'I'), |_| usize::MAX).await?;
    }
    let watch = Watch::new(&session.client, &session.server)?;
    let (up, down) = (volume(b'd', 1), volume(b'D', 2));
    let (mut client_read, mut client_write) = session.client.into_split();
    let (mut server_read, mut server_write) = session.server.into_split();
    let (tell, held) = oneshot::channel();
    let pause = async move {
        let most = watch.most_held(STOP).await?;
        ensure!(tell.send(most).is_ok(), "nobody asks");
        Ok(())
    };
    let (up_sent, up_arrived, down_sent, down_arrived) = tokio::try_join!(
        up.send(&mut client_write),
        up.receive(&mut server_read, None::<(u64, std::future::Ready<Result<()>>)>),
        down.send(&mut server_write),
        down.receive(&mut client_read, Some((VOLUME_BYTES / 2, pause))),
    )?;
    ensure!(up_sent == up_arrived, "to the server: another hash");
    ensure!(down_sent == down_arrived, "to the client: another hash");
    let (all, beyond) = held.await?;
    ensure!(beyond <= BEYOND_BYTES_MAX, "{beyond} bytes are held beyond the sockets' buffers");
    ensure!(all <= HELD_BYTES_MAX, "{all} bytes are held");
    eprintln!("{path}: {all} bytes held, {beyond} of them beyond the buffers");
    drop((client_read, client_write, server_read, server_write));
    timeout(DEADLINE, session.relay).await.context("the relay does not end")??
}

fn volume(tag: u8, seed: u64) -> Volume {
    Volume::new(tag, seed, VOLUME_BYTES, VOLUME_BYTES / 2 - 2 * WINDOW, WINDOW)
}
