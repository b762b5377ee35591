//! Directions that are taken back one by one, each at moments of its own, while bytes go both ways.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use halephant::splice::{Direction, Path, Splice};
use halephant_kernel_tests::messages::stream;
use halephant_kernel_tests::relay::Take;
use halephant_kernel_tests::rig::{ADDRESSES, DEADLINE, Rig, Session, carry};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Of each direction on each path: 1,000 together.
const TAKES: usize = 125;
/// Longest from the first byte in the kernel to the take.
const MOMENT_US_MAX: u64 = 2000;
const BURST_BYTES_MAX: usize = 400_000;
/// Longest writes and messages of a burst. None of the messages are so small that one run of a program has more headers than it
/// follows; the largest writes keep the kernel's worker busy, so that bytes are on their way when the direction is taken.
const SIZES: [(usize, usize); 3] = [(1000, 300), (6000, 2000), (120_000, 30_000)];
/// Another seed than a random one; what runs at the same time differs all the same.
const SEED: &str = "TAKEN_SEED";

fn seed() -> Result<u64> {
    let seed = match std::env::var(SEED) {
        Ok(text) => text.parse().context(SEED)?,
        Err(_) => rand::random(),
    };
    // Shown when the test fails.
    eprintln!("{SEED}={seed}");
    Ok(seed)
}

/// Sends bursts of messages and sees them arrive, until `done`. How many bytes.
async fn load(
    mut from: impl AsyncWrite + Unpin,
    mut to: impl AsyncRead + Unpin,
    tag: u8,
    seed: u64,
    done: &AtomicBool,
) -> Result<u64> {
    let (mut random, mut bytes) = (StdRng::seed_from_u64(seed), 0);
    while !done.load(Ordering::Acquire) {
        let (write_bytes_max, body_bytes_max) = SIZES[random.random_range(0..SIZES.len())];
        let burst = stream(random.random(), tag, random.random_range(1..=BURST_BYTES_MAX), body_bytes_max);
        let salt: usize = random.random_range(0..write_bytes_max);
        let cut = |i: usize| 1 + (i * 7919 + salt) % write_bytes_max;
        carry(&mut from, &mut to, &burst, cut).await.with_context(|| format!("behind {bytes} bytes"))?;
        bytes += burst.len() as u64;
    }
    Ok(bytes)
}

/// Takes the direction back as often as it has to be taken, each time after the kernel has moved something.
fn take(
    splice: &Splice,
    direction: Direction,
    takes: &mpsc::Sender<Take>,
    mut random: StdRng,
    done: &AtomicBool,
) -> Result<()> {
    let moved = || splice.counters(0).bytes[direction as usize];
    let mut taken = 0;
    while taken < TAKES {
        let (before, deadline) = (moved(), Instant::now() + DEADLINE);
        while moved() == before {
            if done.load(Ordering::Acquire) {
                bail!("its load has ended");
            }
            ensure!(Instant::now() < deadline, "after {taken} takes it does not go to the kernel again");
            thread::sleep(Duration::from_micros(100));
        }
        // Not a wait for anything: the moment is random.
        thread::sleep(Duration::from_micros(random.random_range(0..MOMENT_US_MAX)));
        let (tell, told) = oneshot::channel();
        takes.blocking_send(Take { direction, taken: tell }).context("the relay has ended")?;
        // The program may have given it back by itself meanwhile.
        taken += usize::from(told.blocking_recv().context("the relay has ended")? > 0);
    }
    Ok(())
}

#[tokio::test]
async fn each_direction_may_be_taken_back_at_any_moment() -> Result<()> {
    let mut random = StdRng::seed_from_u64(seed()?);
    let rig = Rig::start(ADDRESSES[0]).await?;
    for path in Path::ALL {
        let session = rig.session(path).await?;
        take_each(&rig, session, &mut random).await.with_context(|| format!("{path}"))?;
    }
    Ok(())
}

async fn take_each(rig: &Rig, session: Session, random: &mut StdRng) -> Result<()> {
    let Session { client, server, relay, takes } = session;
    let ((client_read, client_write), (server_read, server_write)) =
        (client.into_split(), server.into_split());
    let done = Arc::new(AtomicBool::new(false));
    let takers = Direction::BOTH.map(|direction| {
        let (splice, takes, done) = (rig.splice.clone(), takes.clone(), Arc::clone(&done));
        let random = StdRng::seed_from_u64(random.random());
        tokio::task::spawn_blocking(move || {
            take(&splice, direction, &takes, random, &done).with_context(|| format!("{direction:?}"))
        })
    });
    let (up, down) = (random.random(), random.random());
    let loads = async {
        let loaded = tokio::try_join!(
            load(client_write, server_read, b'd', up, &done),
            load(server_write, client_read, b'D', down, &done),
        );
        done.store(true, Ordering::Release);
        loaded
    };
    let all = async {
        let [first, second] = takers;
        let taken = (first.await, second.await);
        done.store(true, Ordering::Release);
        taken.0??;
        taken.1??;
        anyhow::Ok(())
    };
    let (loaded, taken) = tokio::join!(loads, all);
    let (up, down) = loaded?;
    taken?;
    let summary = timeout(DEADLINE, relay).await.context("the relay does not end")???;
    for (which, bytes) in [(0, up), (1, down)] {
        ensure!(summary.copied[which] + summary.redirected[which] == bytes, "{bytes} bytes: {summary:?}");
        ensure!(summary.redirected[which] > 0, "{summary:?}");
    }
    ensure!(rig.splice.faults() == 0 && summary.reclaims >= 2 * TAKES as u64, "{summary:?}");
    eprintln!("{summary:?}");
    Ok(())
}
