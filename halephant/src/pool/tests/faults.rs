//! Servers that fail, refuse or vanish.

use super::*;
use crate::pool::state::NodeUse;

/// What a checkout that cannot succeed is told.
async fn refused(stage: &Stage, user: UserIndex, role: Role) -> String {
    let wanted = SessionParameters::default();
    let checkout = stage.pool.checkout(user, role, &wanted);
    let result = tokio::time::timeout(LIMIT, checkout).await.expect("in time");
    result.expect_err("there is nothing to be had").to_string()
}

fn impatient(settings: &mut PoolSettings) {
    settings.checkout_timeout = Duration::from_millis(50);
    settings.users[1].max_connections = Some(limits(1, 1));
}

#[tokio::test]
async fn a_timeout_names_the_limit_and_its_value() {
    let stage = Stage::with(limits(2, 0), &[Role::Primary], impatient, FakeOpener::default());
    let own = stage.take(B, Role::Primary).await;
    let text = "no server connection became free within checkout_timeout (50ms): pool \"p\"";
    assert_eq!(
        refused(&stage, B, Role::Primary).await,
        format!("{text}, user \"b\": max_connections.primary = 1 is reached")
    );
    let other = stage.take(A, Role::Primary).await;
    assert_eq!(
        refused(&stage, A, Role::Primary).await,
        format!("{text}: max_connections.primary = 2 is reached")
    );
    assert_eq!(
        refused(&stage, A, Role::Replica).await,
        "user \"a\" has no connections to a replica in pool \"p\" (max_connections.replica = 0)"
    );
    drop((own, other));
}

#[tokio::test]
async fn a_timeout_while_a_connection_is_being_opened_blames_no_limit() {
    let opener = FakeOpener::gated();
    let stage = Stage::with(limits(2, 0), &[Role::Primary], impatient, opener);
    let text = refused(&stage, A, Role::Primary).await;
    assert!(text.ends_with("none could be opened in time"), "{text}");
}

#[tokio::test]
async fn a_cluster_without_the_role_says_so() {
    let stage = Stage::with(limits(2, 2), &[Role::Replica], impatient, FakeOpener::default());
    assert_eq!(refused(&stage, A, Role::Primary).await, "cluster \"c\" has no primary (waited 50ms)");
}

#[tokio::test]
async fn failures_back_off_and_the_waiter_is_served_when_they_end() {
    let stage = Stage::primary(1);
    stage.opener.counts().outcomes.extend([Outcome::Failed; 3]);
    stage.take(A, Role::Primary).await.checkin();
    assert_eq!(stage.opener.counts().attempts, 4);
    assert_eq!(stage.pool.connections(), 1);
}

#[tokio::test]
async fn attempts_that_fail_together_are_one_failure() {
    let (attempts, opener) = (OPENING_PER_NODE_MAX, FakeOpener::gated());
    let stage = Stage::with(limits(attempts, 0), &[Role::Primary], |_| {}, opener);
    stage.opener.counts().outcomes.extend(vec![Outcome::Failed; attempts as usize]);
    let mut waiters = Vec::new();
    for _ in 0..attempts {
        waiters.push(stage.queue(A, Role::Primary).await);
    }
    eventually("they are tried", || stage.opener.counts().attempts == attempts).await;
    let gate = stage.opener.gate.as_ref().expect("there is a gate");
    gate.add_permits(attempts as usize);
    let use_of = |of: fn(&NodeUse) -> u32| of(&stage.pool.shared.locked().0.users[0].nodes[0]);
    // The next attempts wait at the gate.
    eventually("they are tried again", || stage.opener.counts().attempts > attempts).await;
    assert_eq!(use_of(|node| node.failures), 1);
    gate.add_permits(attempts as usize);
    for waiter in waiters {
        granted(waiter).await.checkin();
    }
    assert_eq!(use_of(|node| node.failures), 0);
}

#[tokio::test]
async fn an_error_that_waiting_does_not_mend_is_told_to_who_waited_when_it_began() {
    let opener = FakeOpener::gated();
    let stage = Stage::with(limits(1, 0), &[Role::Primary], |_| {}, opener);
    stage.opener.counts().outcomes.push_back(Outcome::Refused);
    let first = stage.queue(A, Role::Primary).await;
    eventually("it is tried", || stage.opener.counts().attempts == 1).await;
    // It may have brought what was missing: there is another try for it.
    let second = stage.queue(A, Role::Primary).await;
    stage.opener.gate.as_ref().expect("there is a gate").add_permits(100);
    let told = tokio::time::timeout(LIMIT, first).await.expect("in time").expect("no panic");
    assert!(matches!(told, Err(CheckoutError::Open(_))), "{told:?}");
    granted(second).await.checkin();
}

#[tokio::test]
async fn a_node_that_refuses_does_not_fail_who_another_one_serves() {
    let opener = FakeOpener::gated();
    let stage = Stage::with(limits(0, 1), &[Role::Replica, Role::Replica], |_| {}, opener);
    stage.opener.counts().outcomes.push_back(Outcome::Refused);
    let waiters = [stage.queue(A, Role::Replica).await, stage.queue(A, Role::Replica).await];
    eventually("both nodes are tried", || stage.opener.counts().attempts == 2).await;
    stage.opener.gate.as_ref().expect("there is a gate").add_permits(100);
    for waiter in waiters {
        granted(waiter).await.checkin();
    }
}

#[tokio::test]
async fn one_users_failure_is_not_told_to_another_nor_after_a_success() {
    let stage = Stage::with(limits(1, 0), &[Role::Primary], impatient, FakeOpener::default());
    stage.opener.counts().outcomes.push_back(Outcome::Refused);
    assert!(refused(&stage, A, Role::Primary).await.contains("role \"a\""));
    let lease = stage.take(B, Role::Primary).await;
    let text = refused(&stage, A, Role::Primary).await;
    assert!(text.contains("role \"a\""), "its own failure it is told: {text}");
    drop(lease);
    eventually("it is closed", || stage.pool.connections() == 0).await;
    let lease = stage.take(A, Role::Primary).await;
    let text = refused(&stage, B, Role::Primary).await;
    assert!(text.contains("is reached"), "{text}");
    let text = refused(&stage, A, Role::Primary).await;
    assert!(text.contains("is reached"), "{text}");
    drop(lease);
}

#[tokio::test]
async fn a_dead_idle_connection_is_replaced_and_not_handed_out() {
    let stage = Stage::primary(1);
    let mut lease = stage.take(A, Role::Primary).await;
    lease.connection().dirty = true;
    lease.checkin();
    stage.opener.kill.notify_waiters();
    eventually("it is dead", || stage.opener.open_now() == 0).await;
    let mut lease = stage.take(A, Role::Primary).await;
    assert!(!lease.connection().dirty, "a new one");
    assert_eq!(stage.opener.counts().attempts, 2);
}

#[tokio::test]
async fn a_waiter_that_is_granted_a_dead_connection_keeps_its_place() {
    let stage = Stage::primary(1);
    let lease = stage.take(A, Role::Primary).await;
    let (first, second) = (stage.queue(A, Role::Primary).await, stage.queue(A, Role::Primary).await);
    stage.opener.kill.notify_waiters();
    eventually("it is dead", || stage.opener.open_now() == 0).await;
    lease.checkin();
    let lease = granted(first).await;
    assert!(!second.is_finished());
    lease.checkin();
    granted(second).await;
}
