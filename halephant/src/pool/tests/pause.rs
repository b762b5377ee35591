//! Pools that are paused, and pools whose connections are replaced.

use super::*;

#[tokio::test]
async fn a_paused_pool_closes_what_comes_back_and_lends_nothing() {
    let stage = Stage::primary(3);
    let (one, two) = (stage.take(A, Role::Primary).await, stage.take(A, Role::Primary).await);
    one.checkin();
    assert!(stage.pool.pause());
    assert!(!stage.pool.pause(), "it was paused before");
    let waiter = stage.queue(B, Role::Primary).await;
    eventually("the idle connection is closed", || stage.opener.open_now() == 1).await;
    assert!(!waiter.is_finished());
    let closed = tokio::spawn({
        let pool = Arc::clone(&stage.pool);
        async move { pool.paused().await }
    });
    two.checkin();
    tokio::time::timeout(LIMIT, closed).await.expect("in time").expect("no panic");
    assert_eq!((stage.pool.connections(), stage.opener.open_now()), (0, 0));
    assert!(stage.pool.snapshot().paused && !waiter.is_finished());

    assert!(stage.pool.resume());
    assert!(!stage.pool.resume());
    granted(waiter).await.checkin();
    assert_eq!(stage.opener.counts().attempts, 3);
}

#[tokio::test]
async fn whoever_waits_too_long_for_a_paused_pool_is_told_why() {
    let impatient = |settings: &mut PoolSettings| settings.checkout_timeout = Duration::from_millis(20);
    let stage = Stage::with(limits(1, 0), &[Role::Primary], impatient, FakeOpener::default());
    stage.pool.pause();
    let wanted = SessionParameters::default();
    let error = stage.pool.checkout(A, Role::Primary, &wanted).await.expect_err("it is paused");
    assert_eq!(error.to_string(), "pool \"p\" is paused by an order of the console (waited 20ms)");
    assert_eq!(error.sqlstate().as_str(), "57P03");
    stage.pool.resume();
    stage.take(A, Role::Primary).await;
}

#[tokio::test]
async fn nothing_is_kept_open_ahead_while_a_pool_is_paused() {
    let warm = |settings: &mut PoolSettings| settings.users[0].min_connections = limits(2, 0);
    let stage = Stage::with(limits(3, 0), &[Role::Primary], warm, FakeOpener::default());
    stage.pool.tend_now();
    eventually("the minimum is open", || stage.opener.open_now() == 2).await;
    stage.pool.pause();
    stage.pool.tend_now();
    eventually("it is closed", || stage.pool.connections() == 0).await;
    stage.pool.resume();
    eventually("the minimum is open again", || stage.opener.open_now() == 2).await;
}

#[tokio::test]
async fn a_connection_that_is_being_opened_meanwhile_is_not_lent() {
    let stage = Stage::with(limits(1, 0), &[Role::Primary], |_| {}, FakeOpener::gated());
    let waiter = stage.queue(A, Role::Primary).await;
    let gate = stage.opener.gate.as_ref().expect("it has one");
    eventually("it is being opened", || stage.pool.connections() == 1).await;
    stage.pool.pause();
    gate.add_permits(1);
    eventually("it is closed again", || stage.pool.connections() == 0).await;
    assert!(!waiter.is_finished());
    gate.add_permits(1);
    stage.pool.resume();
    granted(waiter).await.checkin();
}

#[tokio::test]
async fn reconnecting_replaces_every_connection_when_it_is_free() {
    let stage = Stage::primary(2);
    let (one, two) = (stage.take(A, Role::Primary).await, stage.take(A, Role::Primary).await);
    one.checkin();
    stage.pool.reconnect();
    // One that was idle is replaced at once, one that is lent when it comes back.
    stage.take(A, Role::Primary).await.checkin();
    assert_eq!(stage.opener.counts().attempts, 3);
    two.checkin();
    eventually("the old one is closed", || stage.opener.open_now() == 1).await;
    let (three, four) = (stage.take(A, Role::Primary).await, stage.take(A, Role::Primary).await);
    assert_eq!(stage.opener.counts().attempts, 4);
    three.checkin();
    four.checkin();
    assert_eq!(stage.pool.connections(), 2);
}
