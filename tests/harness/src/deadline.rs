//! Waiting for a condition, never longer than a limit.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// Asks `probe` until it gives a value. Its error ends the wait at once; silence past `limit` is an error that names
/// `what` was waited for.
pub fn wait_for<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(value) = probe()? {
            return Ok(value);
        }
        if start.elapsed() > limit {
            bail!("waited {limit:?} in vain for {what}");
        }
        std::thread::sleep(pause);
        pause = (pause * 3 / 2).min(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_value_of_the_first_probe_that_has_one() {
        let mut asked = 0;
        let value = wait_for("the third answer", Duration::from_secs(5), || {
            asked += 1;
            Ok((asked == 3).then_some(asked))
        });
        assert_eq!(value.ok(), Some(3));
    }

    #[test]
    fn names_what_never_came() {
        let outcome = wait_for("a green moon", Duration::from_millis(5), || Ok(None::<()>));
        assert!(outcome.expect_err("nothing came").to_string().contains("a green moon"));
    }
}
