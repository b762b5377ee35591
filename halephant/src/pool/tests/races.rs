//! What changes while a decision is being made.

use super::*;
use crate::pool::state::Step;
use crate::pool::waiter::{Grant, Waiter, WaiterId};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

/// Connections given back while another thread drains their node and takes that back.
const ROUNDS: usize = 200_000;

/// A decision looks at a node's role once: it may be another one in the next moment.
#[tokio::test]
async fn a_drain_that_ends_while_a_connection_comes_back_is_no_contradiction() {
    let stage = Stage::primary(1);
    let mut lease = stage.take(A, Role::Primary).await;
    let node = stage.pool.cluster().node(NodeIndex(0));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                node.set_draining(true);
                node.set_draining(false);
            }
        });
        let (mut state, limits) = stage.pool.shared.locked();
        let mut steps = Vec::new();
        for _ in 0..ROUNDS {
            state.settle(&limits, lease, &mut steps);
            let node_use = &mut state.users[A.0].nodes[0];
            lease = node_use.idle.pop_front().unwrap_or_else(|| match steps.pop() {
                Some(Step::Close(mut lease)) => {
                    // Not this time.
                    lease.slot.closing = false;
                    node_use.closing -= 1;
                    lease
                }
                _ => unreachable!("it is idle or to be closed"),
            });
        }
        over.store(true, Ordering::Relaxed);
    });
}

/// Waits until the thread sleeps.
fn until_asleep(thread: i32) {
    let path = format!("/proc/self/task/{thread}/stat");
    let deadline = Instant::now() + LIMIT;
    loop {
        let stat = std::fs::read_to_string(&path).expect("it runs");
        if stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S')) {
            return;
        }
        assert!(Instant::now() < deadline, "it does not wait for the lock");
        std::thread::yield_now();
    }
}

/// A reload adds a user, whose first client waits, while somebody is about to decide something.
fn add_a_waiter_while_somebody_decides(pool: &Pool) -> (Arc<Pool>, tokio::sync::oneshot::Receiver<Grant>) {
    let shared = &pool.shared;
    let (mut state, _) = shared.locked();
    let (tell, told) = mpsc::channel();
    let decider = std::thread::spawn({
        let shared = Arc::clone(shared);
        move || {
            tell.send(nix::unistd::gettid().as_raw()).expect("it is waited for");
            shared.wake();
        }
    });
    until_asleep(told.recv().expect("it starts"));
    let mut settings = pool.settings().clone();
    settings.users.push(user("c"));
    let pool = pool.reconfigured(settings);
    let c = pool.user("c").expect("it is configured");
    state.cover(&shared.limits());
    let (grant, granted) = tokio::sync::oneshot::channel();
    state.enqueue(c, Role::Primary, Waiter { id: WaiterId(0), since: Instant::now(), worker: None, grant });
    drop(state);
    decider.join().expect("it decides");
    (pool, granted)
}

#[tokio::test]
async fn who_waits_for_the_lock_knows_the_users_that_a_reload_adds_meanwhile() {
    let stage = Stage::primary(1);
    let lease = stage.take(A, Role::Primary).await;
    let (_pool, granted) = add_a_waiter_while_somebody_decides(&stage.pool);
    lease.checkin();
    let granted = tokio::time::timeout(LIMIT, granted).await.expect("in time").expect("it is served");
    granted.expect("with a connection").checkin();
}

#[tokio::test]
async fn a_pool_that_is_configured_again_goes_on_with_what_it_has() {
    let stage = Stage::primary(1);
    let lease = stage.take(A, Role::Primary).await;
    let retired = stage.pool.retire();
    let again = retired.revived(stage.pool.settings().clone()).expect("it has a connection");
    let a = again.user("a").expect("it is configured");
    assert!(again.try_checkout(a, Role::Primary, &SessionParameters::default()).is_none());
    assert_eq!(again.connections(), 1);
    lease.checkin();
    assert!(again.try_checkout(a, Role::Primary, &SessionParameters::default()).is_some());
    assert_eq!(stage.opener.counts().attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_pool_in_which_nothing_is_left_is_not_configured_again() {
    let Stage { pool, .. } = Stage::primary(1);
    let settings = pool.settings().clone();
    let tending = tokio::spawn(pool.tend());
    let retired = pool.retire();
    assert!(!retired.is_over(), "somebody may still ask it for a connection");
    drop(pool);
    tending.await.expect("it ends");
    assert!(retired.is_over());
    assert!(retired.revived(settings).is_none());
}

/// A walsender comes in place of the connection that it was.
#[tokio::test]
async fn a_walsender_is_not_one_connection_more() {
    let stage = Stage::primary(1);
    let mut lease = stage.take(A, Role::Primary).await;
    let wanted = SessionParameters::default();
    lease.become_walsender(crate::server::Replication::Logical, &wanted).await.expect("it is opened");
    assert_eq!(stage.opener.counts().attempts, 2);
    assert_eq!(stage.opener.counts().most[&1], 1);
    assert!(lease.connection().replicates);
}
