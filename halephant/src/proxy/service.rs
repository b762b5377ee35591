//! What the service manager is told (sd_notify). Without one, nothing is.

use sd_notify::NotifyState;
use std::time::Duration;

/// Serving; the start is over.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// A reload began; [`ready`] ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        // Newer versions of systemd want to know when, to tell one reload from the next.
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says that the control runtime is alive, twice in each period that the service manager waits for it. Never returns
/// where it waits for nothing.
pub async fn feed_watchdog() {
    let Some(period) = sd_notify::watchdog_enabled().filter(|period| *period > Duration::ZERO) else {
        return std::future::pending().await;
    };
    let mut clock = tokio::time::interval(period / 2);
    loop {
        clock.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager was not told");
    }
}
