//! Other clients of the same pool, who have statements by names that drivers use and change what they can.

use halephant_harness::Login;
use halephant_suite::encode::{bind, describe_portal, execute, parse, query, sync};
use halephant_suite::{Client, message};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Names of first statements, as drivers give them.
const NAMES: [&str; 8] = [
    "S_1",
    "_pg3_0",
    "__asyncpg_stmt_1__",
    "sqlx_s_1",
    "s0",
    "lrupsc_1_0",
    "pdo_stmt_00000001",
    "dbdpg_p1_1",
];

#[derive(Debug)]
pub struct Others {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<u64>>,
}

impl Others {
    pub fn start(login: &Login) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..2).map(|number| {
            let (login, stop) = (login.clone(), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut rounds = 0;
                while !stop.load(Ordering::Relaxed) {
                    round(&login, &format!("other {number} {rounds}"));
                    rounds += 1;
                }
                rounds
            })
        });
        Self { threads: threads.collect(), stop }
    }

    /// None of them saw what was not its own.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            assert_ne!(thread.join().expect("nobody saw what was not its own"), 0);
        }
    }
}

/// A client from its login to its end.
fn round(login: &Login, mark: &str) {
    let mut client = Client::connect(login).expect("it may log in");
    let set =
        format!("SET DateStyle = 'SQL, DMY'; SET application_name = '{mark}'; SET TimeZone = 'Africa/Lagos'");
    client.values(&set).expect("it may be set");
    for name in NAMES {
        client.send(&[parse(name, &format!("SELECT '{mark} {name}'")), sync()].concat()).expect("it is read");
        client.receive_until(b'Z').expect("it is answered");
    }
    for _ in 0..5 {
        for name in NAMES {
            let run = [bind("", name, &[]), describe_portal(""), execute("", 0), sync()].concat();
            client.send(&run).expect("it is read");
            let messages = client.receive_until(b'Z').expect("it is answered");
            assert_eq!(message::values(&messages), [format!("{mark} {name}")], "{messages:?}");
        }
        let shown = client.values("SELECT '2020-01-02'::date::text || current_setting('application_name')");
        assert_eq!(shown.expect("it answers"), [format!("02/01/2020{mark}")]);
        // Every statement in one Query, one of them an error.
        client.send(&query("BEGIN; SELECT 1; SELECT 1 / 0; COMMIT")).expect("it is read");
        client.receive_until(b'Z').expect("it is answered");
        client.values("ROLLBACK").expect("it answers");
    }
    client.values("DEALLOCATE ALL").expect("it may");
    client.terminate().expect("it leaves");
}
