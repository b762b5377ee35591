//! Random use of a pool: the limits hold, nothing is lost, everybody is served.

use super::*;
use proptest::prelude::*;
use rand::RngExt;

const POOL_MAX: u32 = 3;
const USER_MAX: u32 = 2;

#[derive(Clone, Copy, Debug)]
enum Action {
    Checkout(UserIndex, Role),
    /// Gives up the checkout that has been waiting longest.
    GiveUp,
    Checkin,
    /// Closes instead of giving back.
    Drop,
    Fail(Outcome),
    /// The roles of both nodes change places.
    Failover,
    Tend,
    /// Every open connection ends.
    Kill,
    Settle,
}

fn action() -> impl Strategy<Value = Action> {
    let user = prop_oneof![Just(A), Just(B)];
    let role = prop_oneof![Just(Role::Primary), Just(Role::Replica)];
    let outcome = prop_oneof![Just(Outcome::Failed), Just(Outcome::Refused)];
    prop_oneof![
        8 => (user, role).prop_map(|(user, role)| Action::Checkout(user, role)),
        2 => Just(Action::GiveUp),
        5 => Just(Action::Checkin),
        2 => Just(Action::Drop),
        1 => outcome.prop_map(Action::Fail),
        1 => Just(Action::Failover),
        1 => Just(Action::Tend),
        1 => Just(Action::Kill),
        4 => Just(Action::Settle),
    ]
}

fn stage() -> Stage {
    let change = |settings: &mut PoolSettings| {
        settings.users[0].max_connections = Some(limits(USER_MAX, USER_MAX));
        settings.users[0].min_connections = limits(1, 0);
    };
    Stage::with(limits(POOL_MAX, POOL_MAX), &[Role::Primary, Role::Replica], change, FakeOpener::default())
}

type Checkouts = std::collections::VecDeque<JoinHandle<Result<Lease, CheckoutError>>>;

async fn act(stage: &Stage, action: Action, waiting: &mut Checkouts, held: &mut Vec<Lease>) {
    match action {
        Action::Checkout(user, role) => {
            let pool = Arc::clone(&stage.pool);
            let wanted = SessionParameters::default();
            waiting.push_back(tokio::spawn(async move { pool.checkout(user, role, &wanted).await }));
        }
        Action::GiveUp => waiting.pop_front().into_iter().for_each(|task| task.abort()),
        Action::Checkin => held.pop().into_iter().for_each(Lease::checkin),
        Action::Drop => drop(held.pop()),
        Action::Fail(outcome) => stage.opener.counts().outcomes.push_back(outcome),
        Action::Failover => {
            let cluster = stage.pool.cluster();
            for (index, node) in cluster.nodes().iter() {
                let other = if node.role() == Some(Role::Primary) { Role::Replica } else { Role::Primary };
                cluster.observe(index, Some(other));
            }
            stage.pool.shared.wake();
        }
        Action::Tend => stage.pool.tend_now(),
        Action::Kill => stage.opener.kill.notify_waiters(),
        Action::Settle => {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        }
    }
    for _ in 0..waiting.len() {
        let Some(task) = waiting.pop_front() else { break };
        if task.is_finished() {
            held.extend(task.await.ok().and_then(Result::ok));
        } else {
            waiting.push_back(task);
        }
    }
}

async fn holds(actions: &[Action]) {
    let stage = stage();
    let (mut waiting, mut held) = (Checkouts::new(), Vec::new());
    for &action in actions {
        act(&stage, action, &mut waiting, &mut held).await;
    }
    {
        let counts = stage.opener.counts();
        assert!(counts.most.values().all(|&most| most <= POOL_MAX), "{:?}", counts.most);
        let own = counts.most_of_role.iter().filter(|((_, role), _)| role == "a");
        assert!(own.clone().all(|(_, &most)| most <= USER_MAX), "{:?}", counts.most_of_role);
    }
    // Everybody who still waits is served as the others give back.
    stage.opener.counts().outcomes.clear();
    let deadline = Instant::now() + LIMIT;
    while !waiting.is_empty() {
        act(&stage, Action::Checkin, &mut waiting, &mut held).await;
        tokio::task::yield_now().await;
        assert!(
            Instant::now() < deadline,
            "{} wait for ever: {:?}",
            waiting.len(),
            stage.pool.shared.lock().users.len()
        );
    }
    held.clear();
    stage.pool.close();
    eventually("every slot is free", || stage.pool.connections() == 0).await;
    eventually("every connection is closed", || stage.opener.open_now() == 0).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..Default::default() })]

    #[test]
    fn limits_hold_and_nobody_is_forgotten(actions in proptest::collection::vec(action(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(holds(&actions));
    }
}

/// Checkouts and returns on several threads at once: a wake-up that is lost shows as a checkout that times out.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_threads_lose_no_wake_up() {
    let stage = Stage::new(limits(3, 0), &[Role::Primary]);
    let tasks: Vec<_> = (0..40)
        .map(|at| {
            let pool = Arc::clone(&stage.pool);
            let user = if at % 4 == 0 { B } else { A };
            tokio::spawn(async move {
                for _ in 0..50 {
                    let lease = pool.checkout(user, Role::Primary, &SessionParameters::default()).await;
                    let lease = lease.expect("everybody is served");
                    if rand::random_bool(0.5) {
                        tokio::task::yield_now().await;
                    }
                    match rand::rng().random_range(0..20) {
                        0 => drop(lease),
                        _ => lease.checkin(),
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        tokio::time::timeout(4 * LIMIT, task).await.expect("in time").expect("no panic");
    }
    assert!(stage.opener.counts().most[&1] <= 3);
}
