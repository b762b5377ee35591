//! How long and with which randomness load tests run: as the environment says.

use rand::RngExt;
use std::env;
use std::time::Duration;

/// Seconds of each load; a few where it is not set.
pub const SECONDS: &str = "HALEPHANT_SOAK_SECONDS";
/// The number that random choices come from; a new one where it is not set.
pub const SEED: &str = "HALEPHANT_SEED";

pub fn duration() -> Duration {
    Duration::from_secs(number(SECONDS).unwrap_or(4).max(1))
}

/// Says which it is, so that a failure can be tried again.
pub fn seed() -> u64 {
    let seed = number(SEED).unwrap_or_else(|| rand::rng().random());
    eprintln!("{SEED}={seed}");
    seed
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}
