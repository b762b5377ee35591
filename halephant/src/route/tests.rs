//! Tests of routing.

use super::*;
use crate::pool::settings::{ListenMode, PinMode, PoolMode};
use crate::sql::Dialect;
use std::time::Duration;

fn limits((primary, replica): (u32, u32)) -> RoleLimits {
    RoleLimits { primary, replica }
}

fn access(pool: (u32, u32), user: Option<(u32, u32)>, read_only: Option<&str>) -> Access {
    let mut settings = UserSettings {
        name: "u".into(),
        alias: None,
        max_connections: user.map(limits),
        min_connections: RoleLimits::default(),
        max_client_connections: 0,
        parameters: Default::default(),
    };
    if let Some(value) = read_only {
        settings.parameters.options.insert("Default_Transaction_Read_Only".into(), value.into());
    }
    let pool = PoolSettings {
        name: "p".into(),
        database: "p".into(),
        mode: PoolMode::Transaction,
        listen_mode: ListenMode::Pin,
        pin: PinMode::Allow,
        max_connections: limits(pool),
        idle_timeout: Duration::from_secs(1),
        max_lifetime: Duration::from_secs(1),
        checkout_timeout: Duration::from_secs(1),
        client_login_timeout: Duration::from_secs(1),
        client_timeouts: Default::default(),
        defer_begin: false,
        max_client_connections: 0,
        users: vec![],
    };
    Access::of(&pool, &settings)
}

fn wanting(value: Option<&str>) -> SessionParameters {
    value.map(|value| (READ_ONLY.to_owned(), value.to_owned())).into_iter().collect()
}

/// Where a session goes by its settings alone, with and without a replica in the cluster.
fn roles(access: Access) -> (Role, Role) {
    let role = |replica| access.role(&wanting(None), None, || replica);
    (role(true), role(false))
}

#[test]
fn a_user_goes_where_it_has_capacity_and_may_write() {
    use Role::{Primary, Replica};
    assert_eq!(roles(access((10, 10), None, None)), (Primary, Primary));
    assert_eq!(roles(access((10, 0), None, None)), (Primary, Primary));
    assert_eq!(roles(access((10, 10), Some((0, 5)), None)), (Replica, Replica));
    assert_eq!(roles(access((0, 10), None, None)), (Replica, Replica));
    assert_eq!(roles(access((10, 0), None, Some("on"))), (Primary, Primary));
    for value in ["on", "true", "t", "YES", "y", "1"] {
        assert_eq!(roles(access((10, 10), None, Some(value))), (Replica, Primary), "{value}");
    }
    for value in ["off", "false", "", "o", "0"] {
        assert_eq!(roles(access((10, 10), None, Some(value))), (Primary, Primary), "{value}");
    }
}

#[test]
fn a_session_may_ask_and_a_transaction_has_the_last_word() {
    let both = access((10, 10), None, None);
    let role = |wanted, asked| both.role(&wanting(wanted), asked, || true);
    assert_eq!(role(Some("on"), None), Role::Replica);
    assert_eq!(role(Some("off"), None), Role::Primary);
    assert_eq!(role(Some("on"), Some(AccessMode::ReadWrite)), Role::Primary);
    assert_eq!(role(None, Some(AccessMode::ReadOnly)), Role::Replica);
    assert_eq!(role(None, Some(AccessMode::ReadWrite)), Role::Primary);
    let reader = access((10, 10), None, Some("on"));
    assert_eq!(reader.role(&wanting(Some("off")), Some(AccessMode::ReadWrite), || true), Role::Replica);
    assert!(reader.is_read_only() && !both.is_read_only());
    assert!(both.has_choice() && !reader.has_choice() && !access((10, 0), None, None).has_choice());
    assert!(asks_for_writes(&wanting(Some("OFF"))) && !asks_for_writes(&wanting(Some("on"))));
    assert!(!asks_for_writes(&wanting(None)));
}

#[test]
fn what_the_first_text_asks_for() {
    fn check(text: &str, expected: Option<AccessMode>) {
        assert_eq!(first_statement(text.as_bytes(), Dialect::default()), expected, "{text:?}");
    }
    for text in [
        "BEGIN READ ONLY",
        "begin transaction isolation level serializable, read only, deferrable",
        "/* a /* b */ ; */ Start -- x\n Transaction\tREAD\nONLY;",
        ";; begin read only; select 1; commit",
        "begin; set transaction read only",
        "begin; set transaction_read_only = 'on'; select 1",
    ] {
        let set = text.contains("transaction_read_only");
        check(text, (!set).then_some(AccessMode::ReadOnly));
    }
    for text in [
        "begin",
        "select 'begin read only'",
        "begin /* read only */",
        "begin -- read only",
        "insert into t values (1); begin read only",
        "begin read only; commit; insert into t values (1)",
        "set default_transaction_read_only = on",
        "set session characteristics as transaction read only",
        "begin; select 1; set transaction read only",
    ] {
        check(text, None);
    }
    for text in [
        "begin read write",
        "begin read only, read write",
        "begin read only; set transaction read write",
        "set default_transaction_read_only to 'off'",
        "set session characteristics as transaction read write",
        "select set_config('default_transaction_read_only', 'off', false)",
    ] {
        check(text, Some(AccessMode::ReadWrite));
    }
}
