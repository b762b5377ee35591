//! Ends and cancels backends of the tenants at random.

use anyhow::Result;
use halephant_suite::{Client, Stage};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::atomic::{AtomicBool, Ordering};

use super::tenant;

/// Until `done`; gives how many it hit.
pub fn rage(stage: &Stage, seed: u64, done: &AtomicBool) -> Result<u64> {
    let mut random = StdRng::seed_from_u64(seed ^ u64::MAX);
    let mut client = Client::connect(&stage.cluster.primary().superuser("postgres"))?;
    let mut hits = 0;
    while !done.load(Ordering::SeqCst) {
        let names = tenant::NAMES.map(|name| format!("'{name}'")).join(", ");
        let all = format!("SELECT pid FROM pg_stat_activity WHERE usename IN ({names}) ORDER BY pid");
        let pids = client.values(&all)?;
        if !pids.is_empty() {
            let pid = &pids[random.random_range(0..pids.len())];
            let verb = if random.random_ratio(2, 3) { "pg_terminate_backend" } else { "pg_cancel_backend" };
            client.values(&format!("SELECT {verb}({pid})"))?;
            hits += 1;
        }
        // The server sets the pace.
        let pause = f64::from(random.random_range(10..60_u32)) / 1000.0;
        client.values(&format!("SELECT pg_sleep({pause})"))?;
    }
    Ok(hits)
}
