//! Ctrl-C and SIGTERM: during the set-up they end the program at once, afterwards they are waited for.

use anyhow::Result;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// As shells report a program that SIGINT ended.
const EXIT_CODE: i32 = 130;

pub struct Interrupt {
    waiting: Arc<AtomicBool>,
    signals: Receiver<i32>,
}

impl Interrupt {
    pub fn watch() -> Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let waiting = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = channel();
        let is_waiting = Arc::clone(&waiting);
        std::thread::spawn(move || {
            for signal in signals.forever() {
                if !is_waiting.load(Ordering::SeqCst) {
                    // The guards of the scratch directories see us go and remove everything.
                    std::process::exit(EXIT_CODE);
                }
                let _ = sender.send(signal);
            }
        });
        Ok(Self { waiting, signals: receiver })
    }

    /// True if a signal came within `time`.
    pub fn wait(&self, time: Duration) -> bool {
        self.waiting.store(true, Ordering::SeqCst);
        self.signals.recv_timeout(time).is_ok()
    }
}
