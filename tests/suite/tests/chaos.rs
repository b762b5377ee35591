//! Two tenants share halephant while clients break off, messages are cut and backends are terminated at random: every
//! answer is right or an error, none is another's, nobody waits for ever, and nothing is left behind.

mod chaos {
    pub mod tenant;
    pub mod vandal;
}

use chaos::tenant::{self, Tenant};
use chaos::vandal;
use halephant_harness::{Cluster, wait_for};
use halephant_suite::{Client, Stage, soak};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);
/// Of each tenant.
const CLIENTS: u64 = 16;
/// Shared by both tenants: fewer than there are clients.
const CONNECTIONS: u32 = 10;

fn stage() -> Stage {
    let builder = tenant::NAMES.iter().fold(Cluster::builder(), |builder, name| {
        builder.role(name, tenant::PASSWORD).setting("log_min_messages", "fatal")
    });
    let stage = Stage::with(builder, |config| {
        config
            .pool("postgres", "transaction", CONNECTIONS, &tenant::NAMES)
            .pool("sessions", "session", CONNECTIONS, &tenant::NAMES)
            .set("cluster.main.pool.sessions.database", "postgres")
            .set("logging.level", "warn")
    });
    let stage = stage.expect("it starts");
    for name in tenant::NAMES {
        stage.cluster.primary().script("postgres", &tenant::schema(name)).expect("the superuser may");
    }
    stage
}

fn run(pool: &str, session: bool) {
    let seed = soak::seed();
    let stage = stage();
    let done = AtomicBool::new(false);
    let start = Instant::now();
    let tallies = std::thread::scope(|scope| {
        let (stage, done) = (&stage, &done);
        let clients: Vec<_> = (0..CLIENTS * 2)
            .map(|number| {
                let name = tenant::NAMES[usize::from(number % 2 == 1)];
                let login = stage.proxy.login(stage.cluster.login(name, pool));
                let random = StdRng::seed_from_u64(seed.wrapping_add(number));
                let tenant = Tenant { login, number, session, random };
                scope.spawn(move || {
                    let outcome = tenant.live(done);
                    // One wrong answer is enough.
                    done.fetch_or(outcome.is_err(), Ordering::SeqCst);
                    outcome
                })
            })
            .collect();
        let vandal = scope.spawn(|| vandal::rage(stage, seed, done));
        wait_for("the end of the soak", soak::duration() + LIMIT, || {
            Ok((done.load(Ordering::SeqCst) || start.elapsed() > soak::duration()).then_some(()))
        })
        .expect("time passes");
        done.store(true, Ordering::SeqCst);
        let ended = vandal.join().expect("the vandal does not panic").expect("the vandal finds the server");
        eprintln!("{ended} backends ended or cancelled");
        assert!(ended > 0);
        clients.into_iter().map(|client| client.join().expect("no client panics")).collect::<Vec<_>>()
    });
    let mut total = tenant::Tally::default();
    for tally in tallies {
        total.add(&tally.unwrap_or_else(|error| panic!("{error:#}\n{}", stage.proxy.log_tail())));
    }
    eprintln!("{total:?}");
    assert!(total.answers > 100 && total.broken > 0 && total.errors > 0, "the chaos was none: {total:?}");
    check_afterwards(stage, pool);
}

/// The pool is whole, and empty hands are left on the server.
fn check_afterwards(mut stage: Stage, pool: &str) {
    let names = tenant::NAMES.map(|name| format!("'{name}'")).join(", ");
    let of_tenants = format!("FROM pg_stat_activity WHERE usename IN ({names})");
    stage
        .wait_until(&format!("SELECT count(*) {of_tenants} AND state <> 'idle'"), "0", LIMIT)
        .expect("all is idle");
    let locks = format!("SELECT count(*) FROM pg_locks WHERE pid IN (SELECT pid {of_tenants})");
    stage.wait_until(&locks, "0", LIMIT).expect("no lock is held");
    let count =
        stage.cluster.query("postgres", &format!("SELECT count(*) {of_tenants}")).expect("it answers");
    assert!(count.parse::<u32>().is_ok_and(|count| count <= CONNECTIONS), "{count} connections");

    for name in tenant::NAMES {
        let never = format!("SELECT count(*) FROM {name}.note WHERE mark LIKE '{}%'", tenant::NEVER);
        assert_eq!(stage.cluster.query("postgres", &never).expect("it answers"), "0", "committed by nobody");
    }

    // As many clients as the pool has connections, at the same time: none was lost on the way.
    let login = stage.proxy.login(stage.cluster.login(tenant::NAMES[0], pool));
    let mut clients: Vec<Client> =
        (0..CONNECTIONS).map(|_| Client::connect(&login).expect("it may log in")).collect();
    for client in &mut clients {
        client.query("BEGIN; SELECT 1").expect("there is a connection for each");
    }
    drop(clients);

    let status = stage.proxy.stop(LIMIT).expect("it ends");
    assert_eq!(status.code(), Some(0), "{}", stage.proxy.log_tail());
    stage
        .wait_until(&format!("SELECT count(*) {of_tenants}"), "0", LIMIT)
        .expect("no server connection is left");
}

#[test]
fn transaction_mode() {
    run("postgres", false);
}

#[test]
fn session_mode() {
    run("sessions", true);
}
