//! Who has to wait, and who has not.

use super::*;
use proptest::prelude::*;

const SETTINGS: ThrottleSettings = ThrottleSettings {
    failures: 3,
    delay: Duration::from_secs(1),
    max_delay: Duration::from_secs(60),
    reset_after: Duration::from_secs(600),
    max_entries: 100,
};

fn at(address: &str) -> Origin {
    Origin::of_address(address.parse().unwrap())
}

/// A clock that a test moves.
struct Clock {
    throttle: Throttle,
    now: Instant,
}

impl Clock {
    fn new() -> Self {
        Self { throttle: Throttle::default(), now: Instant::now() }
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn admit(&self, user: &str, address: &str) -> Result<Admission<'_>, Throttled> {
        self.throttle.admit(&SETTINGS, &candidate(user, address), self.now)
    }

    /// Seconds to wait, where one is refused.
    fn refused(&self, user: &str, address: &str) -> u64 {
        self.admit(user, address).map_or_else(|throttled| seconds(throttled.retry_after), |_| 0)
    }

    fn delay(&self, user: &str, address: &str) -> Duration {
        self.admit(user, address).unwrap().delay
    }

    fn fail(&self, user: &str, address: &str) {
        self.throttle.attempt(&SETTINGS, &candidate(user, address), self.now).failed(self.now);
    }

    fn succeed(&self, user: &str, address: &str) {
        self.throttle.attempt(&SETTINGS, &candidate(user, address), self.now).succeeded(self.now);
    }
}

fn candidate<'a>(user: &'a str, address: &str) -> Candidate<'a> {
    Candidate { realm: Realm::Cluster("main"), user, origin: at(address) }
}

/// Whether a password would be looked at now, without waiting.
fn judged_at_once(admission: &mut Admission<'_>) -> Option<Result<(), Throttled>> {
    let mut judged = std::pin::pin!(admission.judge());
    match judged.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(outcome) => Some(outcome),
        std::task::Poll::Pending => None,
    }
}

#[test]
fn users_of_two_clusters_are_two() {
    let clock = Clock::new();
    for _ in 0..10 {
        clock.fail("u", "10.0.0.1");
    }
    assert!(clock.refused("u", "10.0.0.1") > 0);
    for realm in [Realm::Cluster("other"), Realm::Elsewhere, Realm::External] {
        let candidate = Candidate { realm, ..candidate("u", "10.0.0.1") };
        assert!(clock.throttle.admit(&SETTINGS, &candidate, clock.now).is_ok(), "{realm:?}");
        // Nor does a success there forgive anything here.
        clock.throttle.attempt(&SETTINGS, &candidate, clock.now).succeeded(clock.now);
    }
    assert!(clock.refused("u", "10.0.0.1") > 0);
}

/// All of them were admitted before the first of them failed.
#[test]
fn logins_that_began_together_get_no_more_guesses() {
    let clock = Clock::new();
    let mut admissions: Vec<_> = (0..100).map(|_| clock.admit("u", "10.0.0.1").unwrap()).collect();
    let mut looked_at: Vec<usize> = Vec::new();
    for (index, admission) in admissions.iter_mut().enumerate() {
        if judged_at_once(admission).is_some() {
            looked_at.push(index);
        }
    }
    assert_eq!(looked_at, [0, 1, 2], "as many as may fail");
    for admission in admissions.drain(..3) {
        admission.failed(clock.now);
    }
    for admission in &mut admissions {
        assert!(matches!(judged_at_once(admission), Some(Err(_))), "the others are too late");
    }
}

/// An application that opens all of its connections at once has a password that is right.
#[test]
fn logins_that_began_together_and_are_right_wait_for_one_another() {
    let clock = Clock::new();
    let mut admissions: Vec<_> = (0..100).map(|_| clock.admit("u", "10.0.0.1").unwrap()).collect();
    while let Some(at) = admissions.iter_mut().position(|admission| judged_at_once(admission).is_some()) {
        admissions.swap_remove(at).succeeded(clock.now);
    }
    assert!(admissions.is_empty());
    assert_eq!(clock.throttle.entries(), 1, "that the user has logged in from there");
}

/// Turns that were given while nobody answered are worth one guess.
#[test]
fn turns_cannot_be_saved_up() {
    let clock = Clock::new();
    for _ in 0..3 {
        clock.fail("u", "10.0.0.1");
    }
    let later = |second| clock.now + Duration::from_secs(second);
    let admit = |second| clock.throttle.admit(&SETTINGS, &candidate("u", "10.0.0.1"), later(second)).unwrap();
    let mut saved: Vec<_> = (1..=20).map(admit).collect();
    let mut last = saved.pop().unwrap();
    assert_eq!(judged_at_once(&mut last), Some(Ok(())));
    assert!(saved.iter_mut().all(|admission| judged_at_once(admission).is_none()), "one at a time");
    last.failed(later(21));
    for admission in &mut saved {
        assert!(matches!(judged_at_once(admission), Some(Err(_))));
    }
}

/// A client that goes away while its password is looked at holds up nobody.
#[tokio::test]
async fn who_leaves_makes_room() {
    let clock = Clock::new();
    let mut first: Vec<_> = (0..3).map(|_| clock.admit("u", "10.0.0.1").unwrap()).collect();
    for admission in &mut first {
        admission.judge().await.unwrap();
    }
    let mut next = clock.admit("u", "10.0.0.1").unwrap();
    assert_eq!(judged_at_once(&mut next), None);
    let (outcome, ()) = tokio::join!(next.judge(), async { drop(first.pop()) });
    assert_eq!(outcome, Ok(()));
    drop((first, next));
    assert_eq!(clock.throttle.entries(), 0);
}

#[test]
fn waits_double_up_to_the_longest() {
    let mut clock = Clock::new();
    for expected in [0, 0, 1, 2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(clock.refused("u", "10.0.0.1"), 0);
        clock.fail("u", "10.0.0.1");
        assert_eq!(clock.refused("u", "10.0.0.1"), expected);
        clock.pass(expected);
    }
}

#[test]
fn a_user_is_refused_at_one_address_only() {
    let clock = Clock::new();
    for _ in 0..20 {
        clock.fail("u", "10.0.0.1");
    }
    assert_eq!(clock.refused("u", "10.0.0.1"), 60);
    assert_eq!(clock.refused("u", "10.0.0.2"), 0);
    assert_eq!(clock.refused("v", "10.0.0.1"), 0);
}

#[test]
fn an_address_is_refused_for_users_that_it_does_not_know() {
    let clock = Clock::new();
    clock.succeed("app", "10.0.0.1");
    for user in 0..30 {
        clock.fail(&format!("guess{user}"), "10.0.0.1");
    }
    assert!(clock.refused("another", "10.0.0.1") > 0);
    assert_eq!(clock.refused("app", "10.0.0.1"), 0, "it has logged in from there");
    assert_eq!(clock.refused("another", "10.0.0.2"), 0);
}

/// Who has one account cannot use it to go on guessing others.
#[test]
fn a_success_is_forgiven_to_its_own_user_only() {
    let clock = Clock::new();
    for user in 0..30 {
        clock.fail(&format!("guess{user}"), "10.0.0.1");
    }
    clock.succeed("own", "10.0.0.1");
    assert!(clock.refused("victim", "10.0.0.1") > 0);
    for _ in 0..5 {
        clock.fail("u", "10.0.0.2");
    }
    clock.succeed("u", "10.0.0.2");
    clock.fail("u", "10.0.0.2");
    assert_eq!(clock.refused("u", "10.0.0.2"), 0);
}

/// From many addresses: the user is never refused elsewhere, and not even held up where it logged in before.
#[test]
fn nobody_is_locked_out_from_elsewhere() {
    let clock = Clock::new();
    clock.succeed("u", "10.9.9.9");
    for address in 0..200 {
        for _ in 0..10 {
            clock.fail("u", &format!("10.1.0.{address}"));
        }
    }
    assert_eq!(clock.delay("u", "10.9.9.9"), Duration::ZERO);
    assert_eq!(clock.delay("u", "10.8.8.8"), USER_DELAY_MAX);
    assert_eq!(clock.delay("v", "10.8.8.8"), Duration::ZERO);
}

#[test]
fn many_at_once_get_one_turn() {
    let mut clock = Clock::new();
    for _ in 0..3 {
        clock.fail("u", "10.0.0.1");
    }
    clock.pass(1);
    let admitted = (0..100).filter(|_| clock.refused("u", "10.0.0.1") == 0).count();
    assert_eq!(admitted, 1);
}

#[test]
fn all_is_forgotten_in_time() {
    let mut clock = Clock::new();
    for _ in 0..40 {
        clock.fail("u", "10.0.0.1");
    }
    clock.pass(600);
    assert_eq!(clock.refused("u", "10.0.0.1"), 0);
    assert_eq!(clock.delay("u", "10.0.0.2"), Duration::ZERO);
    clock.fail("u", "10.0.0.1");
    assert_eq!(clock.refused("u", "10.0.0.1"), 0, "it counts from the beginning");
}

#[test]
fn a_network_of_ipv6_is_one_place() {
    let clock = Clock::new();
    for host in 0..20 {
        clock.fail("u", &format!("2001:db8::{host:x}"));
    }
    assert!(clock.refused("u", "2001:db8::ffff") > 0);
    assert_eq!(clock.refused("u", "2001:db8:0:1::1"), 0);
}

#[test]
fn it_can_be_switched_off() {
    let off = ThrottleSettings { failures: 0, ..SETTINGS };
    let (throttle, now) = (Throttle::default(), Instant::now());
    for _ in 0..100 {
        let candidate = Candidate { realm: Realm::Elsewhere, user: "u", origin: Origin::Local };
        throttle.attempt(&off, &candidate, now).failed(now);
        let mut admission = throttle.admit(&off, &candidate, now).unwrap();
        assert_eq!((admission.delay, judged_at_once(&mut admission)), (Duration::ZERO, Some(Ok(()))));
    }
    assert_eq!(throttle.entries(), 0);
}

#[test]
fn the_oldest_entries_go_first() {
    let mut clock = Clock::new();
    for _ in 0..10 {
        clock.fail("first", "10.0.0.1");
    }
    clock.pass(1);
    for host in 0..99 {
        clock.fail("u", &format!("10.7.0.{host}"));
    }
    assert!(clock.refused("first", "10.0.0.1") > 0);
    clock.pass(1);
    clock.fail("u", "10.7.1.1");
    assert_eq!(clock.refused("first", "10.0.0.1"), 0);
}

proptest! {
    #[test]
    fn tables_stay_within_their_bound(tries in prop::collection::vec((0_u32..1000, 0_u32..1000, any::<bool>(), 0_u64..3), 1..600)) {
        let mut clock = Clock::new();
        for (user, host, good, seconds) in tries {
            let user = format!("u{user}");
            let address = std::net::Ipv4Addr::from_bits(host).to_string();
            if good { clock.succeed(&user, &address) } else { clock.fail(&user, &address) }
            clock.pass(seconds);
            prop_assert!(clock.throttle.entries() <= 4 * SETTINGS.max_entries);
        }
    }
}
