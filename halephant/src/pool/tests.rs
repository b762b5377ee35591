//! Tests of the pool, over connections whose servers do nothing.

use super::settings::{ListenMode, PinMode, PoolMode, PoolSettings, RoleLimits, UserSettings};
use super::state::OPENING_PER_NODE_MAX;
use super::*;
use crate::net::NodeAddress;
use crate::server::fake::{Fake, FakeOpener, Outcome};
use crate::server::parameters::SessionParameters;
use crate::topology::NodeIndex;
use crate::topology::settings::TopologySettings;
use std::time::Instant;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

mod faults;
mod pause;
mod properties;
mod races;

/// Far longer than anything takes.
const LIMIT: Duration = Duration::from_secs(30);
const A: UserIndex = UserIndex(0);
const B: UserIndex = UserIndex(1);

/// A pool of users `a` and `b` over nodes of these roles.
struct Stage {
    pool: Arc<Pool>,
    opener: Arc<FakeOpener>,
}

fn limits(primary: u32, replica: u32) -> RoleLimits {
    RoleLimits { primary, replica }
}

fn user(name: &str) -> UserSettings {
    UserSettings {
        name: name.into(),
        alias: None,
        max_connections: None,
        min_connections: RoleLimits::default(),
        max_client_connections: 0,
        parameters: Default::default(),
    }
}

impl Stage {
    fn new(max: RoleLimits, roles: &[Role]) -> Self {
        Self::with(max, roles, |_| {}, FakeOpener::default())
    }

    fn with(
        max: RoleLimits,
        roles: &[Role],
        change: impl FnOnce(&mut PoolSettings),
        opener: FakeOpener,
    ) -> Self {
        let mut settings = PoolSettings {
            name: "p".into(),
            database: "d".into(),
            mode: PoolMode::Transaction,
            listen_mode: ListenMode::Pin,
            pin: PinMode::Allow,
            max_connections: max,
            idle_timeout: LIMIT,
            max_lifetime: LIMIT,
            checkout_timeout: LIMIT,
            client_login_timeout: LIMIT,
            client_timeouts: Default::default(),
            defer_begin: false,
            max_client_connections: 0,
            users: vec![user("a"), user("b")],
        };
        change(&mut settings);
        let address = |port| NodeAddress { host: "node".into(), port };
        let ports = 1..=u16::try_from(roles.len()).expect("few nodes");
        let topology = TopologySettings { interval: LIMIT, timeout: LIMIT };
        let cluster = Arc::new(Cluster::new("c".into(), ports.map(address), topology));
        for (at, &role) in roles.iter().enumerate() {
            cluster.observe(NodeIndex(at), Some(role));
        }
        let fake = Fake(Arc::new(opener));
        let opener = Arc::clone(&fake.0);
        let workers = Workers::new(vec![Handle::current()]);
        Self { pool: Pool::new(settings, cluster, Arc::new(fake), workers), opener }
    }

    fn primary(max: u32) -> Self {
        Self::new(limits(max, 0), &[Role::Primary])
    }

    async fn take(&self, user: UserIndex, role: Role) -> Lease {
        self.pool.checkout(user, role, &SessionParameters::default()).await.expect("a connection")
    }

    /// A checkout in the background, which is in the queue when this returns.
    async fn queue(&self, user: UserIndex, role: Role) -> JoinHandle<Result<Lease, CheckoutError>> {
        let before = self.pool.queue(user, role).0;
        let pool = Arc::clone(&self.pool);
        let task =
            tokio::spawn(async move { pool.checkout(user, role, &SessionParameters::default()).await });
        eventually("the waiter is in the queue", || self.pool.queue(user, role).0 > before).await;
        task
    }
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: it did not come to that");
        tokio::task::yield_now().await;
    }
}

async fn granted(task: JoinHandle<Result<Lease, CheckoutError>>) -> Lease {
    tokio::time::timeout(LIMIT, task).await.expect("in time").expect("no panic").expect("a connection")
}

#[tokio::test]
async fn a_freed_connection_goes_to_the_longest_waiter() {
    let stage = Stage::primary(1);
    let mut lease = stage.take(A, Role::Primary).await;
    let mut waiters = Vec::new();
    for _ in 0..5 {
        waiters.push(stage.queue(A, Role::Primary).await);
    }
    for (served, waiter) in waiters.into_iter().enumerate() {
        assert_eq!(stage.pool.queue(A, Role::Primary).0, 5 - served);
        lease.checkin();
        lease = granted(waiter).await;
    }
    assert_eq!(stage.opener.counts().attempts, 1);
}

#[tokio::test]
async fn a_connection_that_came_back_before_the_client_was_in_the_queue_is_not_lost() {
    let stage = Stage::primary(1);
    let lease = stage.take(A, Role::Primary).await;
    assert!(stage.pool.try_checkout(A, Role::Primary, &SessionParameters::default()).is_none());
    lease.checkin();
    let waited = tokio::time::timeout(LIMIT, stage.pool.shared.wait(A, Role::Primary, LIMIT)).await;
    waited.expect("in time").expect("the idle connection");
}

#[tokio::test]
async fn more_waiters_than_are_opened_at_once_are_all_served() {
    let many = 3 * OPENING_PER_NODE_MAX;
    let stage = Stage::primary(many);
    let takes: Vec<_> = (0..many)
        .map(|_| {
            let pool = Arc::clone(&stage.pool);
            tokio::spawn(async move { pool.checkout(A, Role::Primary, &SessionParameters::default()).await })
        })
        .collect();
    let mut leases = Vec::new();
    for take in takes {
        leases.push(granted(take).await);
    }
    assert_eq!(stage.opener.open_now(), many);
}

#[tokio::test]
async fn a_waiter_that_left_is_passed_over() {
    let stage = Stage::primary(1);
    let lease = stage.take(A, Role::Primary).await;
    let (gone, next) = (stage.queue(A, Role::Primary).await, stage.queue(A, Role::Primary).await);
    gone.abort();
    eventually("it left", || stage.pool.queue(A, Role::Primary).0 == 1).await;
    lease.checkin();
    granted(next).await;
}

#[tokio::test]
async fn a_connection_granted_to_a_waiter_that_left_goes_on_to_the_next() {
    let stage = Stage::primary(1);
    let lease = stage.take(A, Role::Primary).await;
    let (gone, next) = (stage.queue(A, Role::Primary).await, stage.queue(A, Role::Primary).await);
    // On this one thread, nothing runs between the two: the grant is on its way when the waiter is dropped.
    lease.checkin();
    gone.abort();
    granted(next).await;
}

#[tokio::test]
async fn idle_connections_of_other_users_make_room_on_any_node() {
    let stage = Stage::new(limits(0, 1), &[Role::Replica, Role::Replica]);
    let (first, second) = (stage.take(A, Role::Replica).await, stage.take(A, Role::Replica).await);
    let (kept, idle) = if first.node() == NodeIndex(0) { (first, second) } else { (second, first) };
    idle.checkin();
    // The first node has none that is idle; the second one has.
    assert_eq!(stage.take(B, Role::Replica).await.node(), NodeIndex(1));
    drop(kept);
}

#[tokio::test]
async fn a_user_is_not_starved_by_one_that_never_stops_asking() {
    let quick = |settings: &mut PoolSettings| settings.checkout_timeout = Duration::from_secs(8);
    let stage = Stage::with(limits(1, 0), &[Role::Primary], quick, FakeOpener::default());
    let busy: Vec<_> = (0..4)
        .map(|_| {
            let pool = Arc::clone(&stage.pool);
            tokio::spawn(async move {
                loop {
                    let lease = pool.checkout(A, Role::Primary, &SessionParameters::default()).await;
                    tokio::task::yield_now().await;
                    lease.expect("nobody starves").checkin();
                }
            })
        })
        .collect();
    eventually("it is busy", || stage.pool.queue(A, Role::Primary).0 > 2).await;
    for _ in 0..2 {
        stage.take(B, Role::Primary).await.checkin();
    }
    assert!(busy.iter().all(|task| !task.is_finished()));
    busy.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn a_freed_slot_goes_to_the_user_with_fewer_connections() {
    let stage = Stage::primary(3);
    let mut leases = Vec::new();
    for _ in 0..3 {
        leases.push(stage.take(A, Role::Primary).await);
    }
    let own = stage.queue(A, Role::Primary).await;
    let other = stage.queue(B, Role::Primary).await;
    // Not given back: closed. Its slot is what both wait for.
    drop(leases.pop());
    granted(other).await.checkin();
    assert!(!own.is_finished());
    leases.pop().expect("two are left").checkin();
    granted(own).await;
}

#[tokio::test]
async fn a_new_primary_serves_with_new_connections() {
    let stage = Stage::new(limits(1, 1), &[Role::Primary, Role::Replica]);
    stage.take(A, Role::Replica).await.checkin();
    let used = stage.take(A, Role::Primary).await;
    let waiter = stage.queue(A, Role::Primary).await;
    let cluster = stage.pool.cluster();
    cluster.observe(NodeIndex(0), None);
    cluster.observe(NodeIndex(1), Some(Role::Primary));
    stage.pool.tend_now();
    assert_eq!(granted(waiter).await.node(), NodeIndex(1));
    assert_eq!(stage.opener.counts().attempts, 3, "the idle one was a replica's");
    drop(used);
}

#[tokio::test]
async fn what_was_opened_in_another_role_is_closed() {
    let stage = Stage::new(limits(4, 4), &[Role::Replica]);
    let mut leases = Vec::new();
    for _ in 0..4 {
        leases.push(stage.take(A, Role::Replica).await);
    }
    leases.drain(..2).for_each(Lease::checkin);
    stage.pool.cluster().observe(NodeIndex(0), Some(Role::Primary));
    assert!(stage.pool.try_checkout(A, Role::Primary, &SessionParameters::default()).is_none());
    stage.pool.tend_now();
    eventually("the idle ones are closed", || stage.opener.open_now() == 2).await;
    leases.into_iter().for_each(Lease::checkin);
    eventually("none is left", || stage.pool.connections() == 0).await;
}

#[tokio::test]
async fn lowered_limits_close_what_is_idle_and_then_what_comes_back() {
    let stage = Stage::primary(4);
    let mut leases = Vec::new();
    for _ in 0..4 {
        leases.push(stage.take(A, Role::Primary).await);
    }
    leases.drain(..1).for_each(Lease::checkin);
    let lower = PoolSettings { max_connections: limits(2, 0), ..stage.pool.settings().clone() };
    let pool = stage.pool.reconfigured(lower);
    assert_eq!(pool.user("a"), Some(A), "a user that is the same keeps its place");
    pool.tend_now();
    eventually("the idle one is closed", || stage.opener.open_now() == 3).await;
    leases.into_iter().for_each(Lease::checkin);
    eventually("two are left", || stage.opener.open_now() == 2 && pool.connections() == 2).await;
}

#[tokio::test]
async fn a_user_that_is_gone_keeps_its_connections_for_its_sessions() {
    let stage = Stage::primary(4);
    stage.take(A, Role::Primary).await.checkin();
    let without = PoolSettings { users: vec![user("b")], ..stage.pool.settings().clone() };
    let pool = stage.pool.reconfigured(without.clone());
    assert_eq!((pool.user("a"), pool.user("b")), (None, Some(B)));
    pool.tend_now();
    // Somebody still has the pool as it was.
    stage.take(A, Role::Primary).await.checkin();
    assert_eq!(stage.opener.counts().attempts, 1);
    let Stage { pool: before, opener } = stage;
    drop(before);
    pool.tend_now();
    eventually("it is closed", || opener.open_now() == 0 && pool.connections() == 0).await;
    // Its place is free for somebody else.
    let other = pool.reconfigured(PoolSettings { users: vec![user("b"), user("c")], ..without });
    assert_eq!(other.user("c"), Some(A));
}

#[tokio::test]
async fn a_user_that_logs_in_differently_is_another() {
    let stage = Stage::primary(4);
    let mut settings = stage.pool.settings().clone();
    settings.users[0].parameters.application_name = Some("x".into());
    let pool = stage.pool.reconfigured(settings);
    assert_ne!(pool.user("a"), Some(A));
    assert_eq!(stage.pool.user("a"), Some(A), "as it was for those who came before");
}

#[tokio::test]
async fn the_janitor_keeps_the_minimum_and_ends_the_rest() {
    let change = |settings: &mut PoolSettings| {
        settings.users[0].min_connections = limits(2, 0);
        settings.idle_timeout = Duration::ZERO;
    };
    let stage = Stage::with(limits(5, 0), &[Role::Primary], change, FakeOpener::default());
    stage.pool.tend_now();
    eventually("the minimum is open", || stage.opener.open_now() == 2).await;
    let mut leases = Vec::new();
    for _ in 0..4 {
        leases.push(stage.take(A, Role::Primary).await);
    }
    leases.into_iter().for_each(Lease::checkin);
    stage.pool.tend_now();
    eventually("the minimum is left", || stage.pool.connections() == 2).await;
    stage.pool.tend_now();
    assert_eq!(stage.pool.connections(), 2);
}

#[tokio::test]
async fn a_connection_past_its_lifetime_is_replaced() {
    let change = |settings: &mut PoolSettings| settings.max_lifetime = Duration::ZERO;
    let stage = Stage::with(limits(1, 0), &[Role::Primary], change, FakeOpener::default());
    // Nobody may be given it, were it not for a grant: an opened connection is past its life at once.
    let waiter = stage.queue(A, Role::Primary).await;
    eventually("it is opened again and again", || stage.opener.counts().attempts > 2).await;
    waiter.abort();
    assert_eq!(stage.opener.counts().most[&1], 1);
}

#[tokio::test]
async fn close_ends_what_is_idle_refuses_who_waits_and_takes_nothing_back() {
    let stage = Stage::primary(2);
    let (used, idle) = (stage.take(A, Role::Primary).await, stage.take(A, Role::Primary).await);
    let other = stage.queue(B, Role::Primary).await;
    stage.pool.close();
    assert!(matches!(other.await.expect("no panic"), Err(CheckoutError::Closed)));
    assert!(matches!(stage.pool.shared.wait(A, Role::Primary, LIMIT).await, Err(CheckoutError::Closed)));
    idle.checkin();
    used.checkin();
    eventually("all are closed", || stage.pool.connections() == 0 && stage.opener.open_now() == 0).await;
}
