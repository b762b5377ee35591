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

    /// Seconds to wait, where one is refused.
    fn refused(&self, user: &str, address: &str) -> u64 {
        let admitted = self.throttle.admit(&SETTINGS, user, at(address), self.now);
        admitted.map_or_else(|throttled| seconds(throttled.retry_after), |_| 0)
    }

    fn delay(&self, user: &str, address: &str) -> Duration {
        self.throttle.admit(&SETTINGS, user, at(address), self.now).unwrap()
    }

    fn fail(&self, user: &str, address: &str) {
        self.throttle.failed(&SETTINGS, user, at(address), self.now);
    }

    fn succeed(&self, user: &str, address: &str) {
        self.throttle.succeeded(&SETTINGS, user, at(address), self.now);
    }
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
        throttle.failed(&off, "u", Origin::Local, now);
        assert_eq!(throttle.admit(&off, "u", Origin::Local, now), Ok(Duration::ZERO));
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
