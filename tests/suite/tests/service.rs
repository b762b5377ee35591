//! What a service manager hears: ready, reloading, stopping, and that the process is alive.

use halephant_harness::{Cluster, wait_for};
use halephant_suite::Stage;
use nix::sys::signal::Signal;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);
/// As systemd passes it on, in microseconds.
const WATCHDOG: &str = "200000";

/// The other end of NOTIFY_SOCKET.
struct Supervisor {
    socket: UnixDatagram,
    heard: VecDeque<String>,
}

impl Supervisor {
    /// The next notification that is not about the watchdog.
    fn next(&mut self) -> String {
        self.find(|text| !text.contains("WATCHDOG="))
    }

    /// The next notification for which `holds`; those before it are passed over.
    fn find(&mut self, holds: impl Fn(&str) -> bool) -> String {
        let found = wait_for("a notification", LIMIT, || {
            let mut buffer = [0; 4096];
            match self.socket.recv(&mut buffer) {
                Ok(bytes) => self.heard.push_back(String::from_utf8_lossy(&buffer[..bytes]).into_owned()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            while let Some(text) = self.heard.pop_front() {
                if holds(&text) {
                    return Ok(Some(text));
                }
            }
            Ok(None)
        });
        found.expect("it comes")
    }
}

/// The values of a notification.
fn value<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
}

#[test]
fn a_supervisor_hears_of_every_change() {
    let directory = tempfile::tempdir().expect("there is room");
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("the path is free");
    socket.set_nonblocking(true).expect("it is a socket");
    let mut supervisor = Supervisor { socket, heard: VecDeque::new() };
    let path = path.to_str().expect("it is text");
    let environment = [("NOTIFY_SOCKET", path), ("WATCHDOG_USEC", WATCHDOG)];
    let mut stage = Stage::within(&environment, Cluster::builder(), |config| config).expect("it starts");
    assert_eq!(value(&supervisor.next(), "READY"), Some("1"));
    for _ in 0..3 {
        supervisor.find(|text| value(text, "WATCHDOG") == Some("1"));
    }

    // Once with success and once without: the service runs on either way.
    for config in [Stage::config(&stage.cluster), Stage::config(&stage.cluster).set("server.nonsense", 1)] {
        stage.proxy.write_config(&config).expect("there is room");
        stage.proxy.signal(Signal::SIGHUP).expect("it runs");
        let reloading = supervisor.next();
        assert_eq!(value(&reloading, "RELOADING"), Some("1"), "{reloading}");
        let since: u64 =
            value(&reloading, "MONOTONIC_USEC").and_then(|us| us.parse().ok()).expect(&reloading);
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("there is a clock");
        let now = Duration::from(now).as_micros();
        assert!(u128::from(since) <= now && now - u128::from(since) < LIMIT.as_micros(), "{since} of {now}");
        assert_eq!(value(&supervisor.next(), "READY"), Some("1"));
    }

    stage.proxy.signal(Signal::SIGTERM).expect("it runs");
    assert_eq!(value(&supervisor.next(), "STOPPING"), Some("1"));
    assert!(stage.proxy.wait(LIMIT).expect("it ends").success());
}
