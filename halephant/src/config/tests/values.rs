//! What a valid text becomes.

use super::{LEAST, valid};
use crate::config::{Config, parse, restart_required};
use crate::net::NodeAddress;
use crate::pool::settings::{ClientTimeouts, ListenMode, PinMode, PoolMode, RoleLimits};
use crate::splice::settings::SpliceMode;
use crate::telemetry::settings::{LogFormat, LogLevel, QueryText};
use proptest::prelude::*;
use std::path::Path;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn defaults() {
    let config = valid(LEAST);
    assert_eq!(config.server.listen, ["0.0.0.0:6432".parse().unwrap()]);
    assert_eq!(config.server.pgpass, None);
    assert_eq!(config.server.workers, 0);
    assert_eq!(config.server.shutdown_timeout, 30 * SECOND);
    assert_eq!(config.server.checkout_timeout, 30 * SECOND);
    assert_eq!(config.server.max_prepared_statements, 0);
    assert_eq!(config.server.client_login_timeout, 60 * SECOND);
    assert_eq!(
        (config.server.max_client_connections, config.server.max_client_connections_per_address),
        (0, 0)
    );
    assert_eq!(config.logging.format, LogFormat::Json);
    assert_eq!(config.logging.level, LogLevel::Info);
    assert_eq!(config.admin.listen, None);
    assert_eq!(config.otel.endpoint, None);
    assert_eq!(config.otel.service_name, "halephant");
    assert_eq!(config.otel.query_text, QueryText::Off);
    assert_eq!(config.ebpf.mode, SpliceMode::Auto);
    assert!(!config.ebpf.colocated);
    assert_eq!(config.ebpf.cgroup, Path::new("/sys/fs/cgroup"));
    assert_eq!(config.ebpf.credit_bytes, 1 << 20);

    let [cluster] = &config.clusters[..] else { panic!("{config:?}") };
    assert_eq!(cluster.name, "main");
    assert_eq!(cluster.node.nodes, [NodeAddress { host: "pg-1".to_owned(), port: 5432 }]);
    assert_eq!(cluster.node.admin_user, "halephant");
    assert_eq!(cluster.node.admin_database, "postgres");
    assert_eq!(cluster.node.connect_timeout, 5 * SECOND);
    assert_eq!(cluster.auth.query, "SELECT usename, passwd FROM pg_shadow WHERE usename = $1");
    assert_eq!(cluster.auth.cache_ttl, 300 * SECOND);
    assert_eq!(cluster.topology.interval, 5 * SECOND);
    assert_eq!(cluster.topology.timeout, 3 * SECOND);

    let [pool] = &cluster.pools[..] else { panic!("{cluster:?}") };
    assert_eq!((pool.name.as_str(), pool.database.as_str()), ("app", "app"));
    assert_eq!(pool.mode, PoolMode::Transaction);
    assert_eq!(pool.listen_mode, ListenMode::Pin);
    assert_eq!(pool.max_connections, RoleLimits { primary: 100, replica: 0 });
    assert_eq!(pool.idle_timeout, 300 * SECOND);
    assert_eq!(pool.max_lifetime, 3600 * SECOND);
    assert_eq!(pool.checkout_timeout, 30 * SECOND);
    assert_eq!((pool.client_login_timeout, pool.max_client_connections), (60 * SECOND, 0));
    assert_eq!(pool.client_timeouts, Default::default());

    let [user] = &pool.users[..] else { panic!("{pool:?}") };
    assert_eq!((user.name.as_str(), user.role()), ("app", "app"));
    assert_eq!(user.alias, None);
    assert_eq!(user.max_connections, None);
    assert_eq!(user.min_connections, RoleLimits { primary: 0, replica: 0 });
    assert_eq!(user.parameters.application_name, None);
    assert!(user.parameters.options.is_empty());
}

/// The shape of the first file that most people write.
#[test]
fn a_first_file() {
    let config = valid(
        r#"
        [server]
        listen = ["0.0.0.0:6432"]
        [logging]
        level = "info"
        # [admin]
        # listen = "0.0.0.0:6433"
        [cluster.main]
        nodes = ["pg-1.internal:5432"]
        admin_user = "halephant"
        [cluster.main.pool.shop]
        max_connections = { primary = 20, replica = 80 }
        [cluster.main.pool.shop.user.shop]
        min_connections = { primary = 2 }
        [cluster.main.pool.shop.user.shop.parameters]
        application_name = "shop"
        "#,
    );
    let pool = &config.clusters[0].pools[0];
    assert_eq!(pool.max_connections, RoleLimits { primary: 20, replica: 80 });
    assert_eq!(pool.users[0].min_connections, RoleLimits { primary: 2, replica: 0 });
    assert_eq!(pool.users[0].parameters.application_name.as_deref(), Some("shop"));
}

#[test]
fn every_key() {
    let config = valid(
        r#"
        [server]
        listen = ["0.0.0.0:6432", "[::]:6432"]
        pgpass = "/etc/halephant/pgpass"
        workers = 4
        shutdown_timeout = "0s"
        checkout_timeout = "1h30m"
        client_login_timeout = "20s"
        max_client_connections = 1000
        max_client_connections_per_address = 100
        max_prepared_statements = 1_000
        [logging]
        format = "text"
        level = "trace"
        [admin]
        listen = "127.0.0.1:6433"
        users = ["dba"]
        stats_users = ["dba", "monitor"]
        [otel]
        endpoint = "https://collector.internal:4317"
        service_name = "pooler"
        query_text = "sanitized"
        [ebpf]
        mode = "require"
        colocated = true
        cgroup = "/sys/fs/cgroup/db"
        credit = "64KiB"
        [cluster.main]
        nodes = ["pg-1:5432", "[2001:db8::1]:5433"]
        admin_user = "probe"
        admin_database = "admin"
        connect_timeout = "250ms"
        auth = { query = "SELECT name, verifier FROM roles WHERE name = $1", cache_ttl = "0s" }
        topology = { interval = "1s", timeout = "500ms" }
        [cluster.main.pool.app]
        database = "shop"
        listen_mode = "multiplex"
        pin = "deny"
        max_connections = { primary = 0x10, replica = 8 }
        idle_timeout = "1m"
        max_lifetime = "2h"
        checkout_timeout = "1s"
        client_login_timeout = "10s"
        client_idle_timeout = "1h"
        idle_transaction_timeout = "1m"
        query_timeout = "5m"
        defer_begin = false
        max_client_connections = 500
        [cluster.main.pool.app.user.app]
        max_client_connections = 50
        max_connections = { replica = 4 }
        min_connections = { replica = 4 }
        [cluster.main.pool.app.user.app.parameters]
        application_name = "shop"
        [cluster.main.pool.app.user.app.parameters.options]
        search_path = "app, public"
        statement_timeout = 5_000
        seq_page_cost = 1.5
        work_mem = 0xffff
        default_transaction_read_only = true
        "auto_explain.log_format" = "json"
        [cluster.main.pool.app.user.web]
        alias = "app"
        [cluster.main.pool.batch]
        mode = "session"
        [cluster.main.pool.batch.user.app]
        "#,
    );
    assert_eq!(config.server.listen, ["0.0.0.0:6432".parse().unwrap(), "[::]:6432".parse().unwrap()]);
    assert_eq!(config.server.pgpass.as_deref(), Some(Path::new("/etc/halephant/pgpass")));
    assert_eq!((config.server.workers, config.server.max_prepared_statements), (4, 1000));
    assert_eq!(config.server.shutdown_timeout, Duration::ZERO);
    assert_eq!(config.server.checkout_timeout, 5400 * SECOND);
    assert_eq!((config.logging.format, config.logging.level), (LogFormat::Text, LogLevel::Trace));
    assert_eq!(config.admin.listen, Some("127.0.0.1:6433".parse().unwrap()));
    assert_eq!((&config.admin.users[..], config.admin.stats_users.len()), (&["dba".to_owned()][..], 2));
    assert_eq!(config.otel.endpoint.as_deref(), Some("https://collector.internal:4317"));
    assert_eq!((config.otel.service_name.as_str(), config.otel.query_text), ("pooler", QueryText::Sanitized));
    assert_eq!((config.ebpf.mode, config.ebpf.colocated), (SpliceMode::Require, true));
    assert_eq!(
        (config.ebpf.cgroup.as_path(), config.ebpf.credit_bytes),
        (Path::new("/sys/fs/cgroup/db"), 65536)
    );

    let cluster = &config.clusters[0];
    let nodes: Vec<_> = cluster.node.nodes.iter().map(NodeAddress::to_string).collect();
    assert_eq!(nodes, ["pg-1:5432", "[2001:db8::1]:5433"]);
    assert_eq!((cluster.node.admin_user.as_str(), cluster.node.admin_database.as_str()), ("probe", "admin"));
    assert_eq!(cluster.node.connect_timeout, SECOND / 4);
    assert_eq!(cluster.auth.query, "SELECT name, verifier FROM roles WHERE name = $1");
    assert_eq!(cluster.auth.cache_ttl, Duration::ZERO);
    assert_eq!((cluster.topology.interval, cluster.topology.timeout), (SECOND, SECOND / 2));

    let [app, batch] = &cluster.pools[..] else { panic!("{cluster:?}") };
    assert_eq!((app.name.as_str(), app.database.as_str()), ("app", "shop"));
    assert_eq!((app.mode, app.listen_mode), (PoolMode::Transaction, ListenMode::Multiplex));
    assert_eq!((app.pin, batch.pin), (PinMode::Deny, PinMode::Allow));
    assert_eq!(app.max_connections, RoleLimits { primary: 16, replica: 8 });
    assert_eq!((app.idle_timeout, app.max_lifetime), (60 * SECOND, 7200 * SECOND));
    assert_eq!(app.checkout_timeout, SECOND);
    assert_eq!(
        (config.server.max_client_connections, config.server.max_client_connections_per_address),
        (1000, 100)
    );
    assert_eq!((app.client_login_timeout, batch.client_login_timeout), (10 * SECOND, 20 * SECOND));
    let (idle, idle_transaction, query) = (3600 * SECOND, 60 * SECOND, 300 * SECOND);
    assert!(!app.defer_begin && batch.defer_begin);
    assert_eq!(app.client_timeouts, ClientTimeouts { idle, idle_transaction, query });
    assert_eq!((app.max_client_connections, app.users[0].max_client_connections), (500, 50));
    assert_eq!((batch.mode, batch.checkout_timeout), (PoolMode::Session, 5400 * SECOND));

    let [user, web] = &app.users[..] else { panic!("{app:?}") };
    assert_eq!(user.max_connections, Some(RoleLimits { primary: 0, replica: 4 }));
    assert_eq!(user.min_connections, RoleLimits { primary: 0, replica: 4 });
    let options: Vec<_> = user.parameters.options.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(
        options,
        [
            ("auto_explain.log_format", "json"),
            ("default_transaction_read_only", "true"),
            ("search_path", "app, public"),
            ("seq_page_cost", "1.5"),
            ("statement_timeout", "5000"),
            ("work_mem", "65535"),
        ]
    );
    assert_eq!((web.name.as_str(), web.role()), ("web", "app"));
}

/// Moving sections about is no change, so that a reload of it does nothing.
#[test]
fn order_does_not_matter() {
    let users = |one, other| {
        let section = |name| format!("[cluster.main.pool.app.user.{name}]\n");
        valid(&format!("{LEAST}{}{}", section(one), section(other)))
    };
    assert_eq!(users("a", "z"), users("z", "a"));
}

#[test]
fn changes_that_need_a_restart() {
    let old = valid(LEAST);
    assert!(restart_required(&old, &old).is_empty());

    let new = valid(&format!(
        r#"
        [server]
        listen = ["127.0.0.1:6432"]
        pgpass = "/etc/pgpass"
        workers = 2
        [logging]
        format = "text"
        level = "debug"
        [admin]
        listen = "127.0.0.1:6433"
        [otel]
        endpoint = "http://localhost:4317"
        service_name = "pooler"
        [ebpf]
        mode = "off"
        colocated = true
        cgroup = "/cgroup"
        {LEAST}"#
    ));
    assert_eq!(
        restart_required(&old, &new),
        [
            "server.listen",
            "server.pgpass",
            "server.workers",
            "admin.listen",
            "otel.endpoint",
            "otel.service_name",
            "logging.format",
            "logging.level",
            "ebpf.mode",
            "ebpf.colocated",
            "ebpf.cgroup",
        ]
    );
}

#[test]
fn changes_that_a_reload_takes_over() {
    let old = valid(LEAST);
    let new = valid(
        r#"
        [server]
        shutdown_timeout = "1s"
        checkout_timeout = "1s"
        max_prepared_statements = 1
        [otel]
        query_text = "raw"
        [ebpf]
        credit = "2MiB"
        [cluster.other]
        nodes = ["pg-2:5432"]
        admin_user = "probe"
        admin_database = "admin"
        connect_timeout = "1s"
        auth = { query = "SELECT $1", cache_ttl = "1s" }
        topology = { interval = "1s", timeout = "1s" }
        [cluster.other.pool.shop]
        database = "db"
        max_connections = { primary = 1 }
        [cluster.other.pool.shop.user.shop]
        "#,
    );
    assert!(restart_required(&old, &new).is_empty());
}

fn example_with(range: std::ops::Range<usize>, insert: &str) -> String {
    let text = include_str!("../../../../deploy/halephant.toml");
    let boundary = |offset: usize| (0..=offset.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    let start = boundary(range.start).unwrap_or(0);
    let end = boundary(range.end).unwrap_or(0).max(start);
    format!("{}{insert}{}", &text[..start], &text[end..])
}

/// Errors have a place inside the text, and the text of an error can always be written.
fn check_any(text: &str) -> Result<(), TestCaseError> {
    let lines = text.split('\n').count();
    if let Err(errors) = parse(text, "halephant.toml") {
        prop_assert!(errors.iter().count() > 0);
        for error in errors.iter() {
            let position = error.position.ok_or_else(|| TestCaseError::fail("no position"))?;
            prop_assert!((1..=lines).contains(&position.line) && position.column >= 1, "{position:?}");
        }
        prop_assert!(errors.to_string().starts_with("halephant.toml:"));
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in any::<String>()) {
        check_any(&text)?;
    }

    #[test]
    fn any_tokens_are_parsed_or_refused(
        tokens in prop::collection::vec(
            prop::sample::select(vec![
                "[", "]", "{", "}", "=", ".", ",", "\n", " ", "\"", "'", "\\", "\\u00e9", "#", "server", "cluster",
                "pool", "user", "main", "nodes", "listen", "alias", "max_connections", "primary", "-1", "0x",
                "99999999999999999999", "1e999", "nan", "true", "\"5s\"", "\"h:1\"", "2020-01-01", "é", "\0", "\r",
            ]),
            0..60,
        )
    ) {
        check_any(&tokens.concat())?;
    }

    #[test]
    fn a_damaged_file_is_parsed_or_refused(start in 0_usize..8000, length in 0_usize..40, insert in any::<String>()) {
        check_any(&example_with(start..start + length, &insert))?;
    }
}

#[test]
fn a_configuration_can_be_compared_and_copied() {
    let config: Config = valid(LEAST);
    assert_eq!(config.clone(), config);
}
