//! The configuration in force as JSON, with the keys of the file: what the admin API and the console show.

use super::settings::{ClusterConfig, Config, ServerSettings};
use crate::auth::settings::AuthSettings;
use crate::auth::throttle::ThrottleSettings;
use crate::pool::settings::{ListenMode, PinMode, PoolMode, PoolSettings, RoleLimits, UserSettings};
use crate::splice::settings::SpliceMode;
use crate::telemetry::settings::{LogFormat, LogLevel, QueryText};
use crate::tls::{ClientLegSettings, ServerLegSettings, TlsMode};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Shown in place of a run-time parameter's value whose name says that it is a secret.
const REDACTED: &str = "***";
/// Parts of such names. Passwords stand in no configuration; extensions' own parameters may hold keys.
const SECRET_WORDS: [&str; 5] = ["password", "secret", "token", "key", "credential"];

/// Everything with its default filled in; what is left out in the file and has no value is left out here.
pub fn effective(config: &Config) -> Value {
    let mut clusters = Map::new();
    for settings in &config.clusters {
        clusters.insert(settings.name.clone(), cluster(settings));
    }
    without_nulls(json!({
        "server": {
            "listen": config.server.listen.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "so_reuseport": config.server.so_reuseport,
            "socket_mode": socket_mode(&config.server),
            "proxy_protocol": config.server.proxy_protocol.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "pgpass": config.server.pgpass,
            "workers": config.server.workers,
            "shutdown_timeout": duration(config.server.shutdown_timeout),
            "checkout_timeout": duration(config.server.checkout_timeout),
            "client_login_timeout": duration(config.server.client_login_timeout),
            "max_client_connections": config.server.max_client_connections,
            "max_client_connections_per_address": config.server.max_client_connections_per_address,
            "max_prepared_statements": config.server.max_prepared_statements,
            "user": config.server.privileges.user,
            "group": config.server.privileges.group,
            "seccomp": config.server.privileges.seccomp,
            "tls": client_leg(&config.server.tls.settings),
            "hba": config.server.auth.hba_file,
            "ident": config.server.auth.ident_file,
            "throttle": throttle(&config.server.auth.throttle),
        },
        "logging": { "format": log_format(config.logging.format), "level": log_level(config.logging.level) },
        "admin": {
            "listen": config.admin.listen,
            "users": config.admin.users,
            "stats_users": config.admin.stats_users,
        },
        "otel": {
            "endpoint": config.otel.endpoint,
            "service_name": config.otel.service_name,
            "query_text": query_text(config.otel.query_text),
        },
        "ebpf": {
            "mode": splice_mode(config.ebpf.mode),
            "colocated": config.ebpf.colocated,
            "cgroup": config.ebpf.cgroup,
            "credit": format!("{}B", config.ebpf.credit_bytes),
        },
        "cluster": clusters,
    }))
}

fn socket_mode(server: &ServerSettings) -> Option<String> {
    let has_unix = server.listen.iter().any(|address| !address.is_tcp());
    has_unix.then(|| format!("{:04o}", server.socket_mode))
}

fn cluster(settings: &ClusterConfig) -> Value {
    let mut pools = Map::new();
    for settings in &settings.pools {
        pools.insert(settings.name.clone(), pool(settings));
    }
    let nodes: Vec<_> = settings.node.nodes.iter().map(ToString::to_string).collect();
    json!({
        "nodes": nodes,
        "admin_user": settings.node.admin_user,
        "admin_database": settings.node.admin_database,
        "connect_timeout": duration(settings.node.connect_timeout),
        "tls": server_leg(&settings.node.tls.settings),
        "auth": {
            "query": settings.auth.query,
            "cache_ttl": duration(settings.auth.cache_ttl),
            "password_passthrough": settings.auth.password_passthrough,
            "verifiers": verifiers(&settings.auth),
        },
        "topology": {
            "interval": duration(settings.topology.interval),
            "timeout": duration(settings.topology.timeout),
        },
        "pool": pools,
    })
}

fn throttle(settings: &ThrottleSettings) -> Value {
    json!({
        "failures": settings.failures,
        "delay": duration(settings.delay),
        "max_delay": duration(settings.max_delay),
        "reset_after": duration(settings.reset_after),
        "max_entries": settings.max_entries,
    })
}

/// Whose there are; what they are is nobody's business.
fn verifiers(settings: &AuthSettings) -> Map<String, Value> {
    settings.verifiers.keys().map(|role| (role.clone(), REDACTED.into())).collect()
}

/// Without TLS no key of it may be there.
fn client_leg(settings: &ClientLegSettings) -> Option<Value> {
    let identity = settings.identity.as_ref()?;
    let sni = settings
        .sni
        .iter()
        .map(|(host, files)| (host.clone(), json!({ "certificate": files.certificate, "key": files.key })));
    Some(json!({
        "mode": settings.mode.as_str(),
        "certificate": identity.certificate,
        "key": identity.key,
        "ca": settings.trust.as_ref().map(|trust| &trust.ca),
        "crl": settings.trust.as_ref().and_then(|trust| trust.crl.as_ref()),
        "min_version": settings.min_version.as_str(),
        "sni": sni.collect::<Map<_, _>>(),
    }))
}

fn server_leg(settings: &ServerLegSettings) -> Option<Value> {
    (settings.mode != TlsMode::Disable).then(|| {
        json!({
            "mode": settings.mode.as_str(),
            "ca": settings.trust.as_ref().map(|trust| &trust.ca),
            "crl": settings.trust.as_ref().and_then(|trust| trust.crl.as_ref()),
            "certificate": settings.identity.as_ref().map(|identity| &identity.certificate),
            "key": settings.identity.as_ref().map(|identity| &identity.key),
            "server_name": settings.server_name,
            "sni": settings.sni,
            "min_version": settings.min_version.as_str(),
            "channel_binding": if settings.requires_binding { "require" } else { "prefer" },
        })
    })
}

fn pool(settings: &PoolSettings) -> Value {
    let mut users = Map::new();
    for settings in &settings.users {
        users.insert(settings.name.clone(), user(settings));
    }
    let listen_mode = match settings.listen_mode {
        // In session mode the key must not be there.
        _ if settings.mode == PoolMode::Session => None,
        ListenMode::Pin => Some("pin"),
        ListenMode::Multiplex => Some("multiplex"),
    };
    let pin = match settings.pin {
        _ if settings.mode == PoolMode::Session => None,
        PinMode::Allow => Some("allow"),
        PinMode::Deny => Some("deny"),
    };
    json!({
        "database": settings.database,
        "mode": settings.mode.as_str(),
        "listen_mode": listen_mode,
        "pin": pin,
        "max_connections": limits(settings.max_connections),
        "idle_timeout": duration(settings.idle_timeout),
        "max_lifetime": duration(settings.max_lifetime),
        "checkout_timeout": duration(settings.checkout_timeout),
        "client_login_timeout": duration(settings.client_login_timeout),
        "client_idle_timeout": duration(settings.client_timeouts.idle),
        "idle_transaction_timeout": duration(settings.client_timeouts.idle_transaction),
        "query_timeout": duration(settings.client_timeouts.query),
        "defer_begin": (settings.mode == PoolMode::Transaction).then_some(settings.defer_begin),
        "max_client_connections": settings.max_client_connections,
        "user": users,
    })
}

fn user(settings: &UserSettings) -> Value {
    let option = |(name, value): (&String, &String)| {
        let is_secret = SECRET_WORDS.iter().any(|word| name.to_ascii_lowercase().contains(word));
        (name.clone(), Value::from(if is_secret { REDACTED } else { value }))
    };
    let options: Map<_, _> = settings.parameters.options.iter().map(option).collect();
    json!({
        "alias": settings.alias,
        "max_connections": settings.max_connections.map(limits),
        "max_client_connections": settings.max_client_connections,
        "min_connections": limits(settings.min_connections),
        "parameters": { "application_name": settings.parameters.application_name, "options": options },
    })
}

fn limits(limits: RoleLimits) -> Value {
    json!({ "primary": limits.primary, "replica": limits.replica })
}

fn duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(entries) => {
            let kept = entries.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        other => other,
    }
}

fn log_format(format: LogFormat) -> &'static str {
    match format {
        LogFormat::Json => "json",
        LogFormat::Text => "text",
    }
}

fn log_level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    }
}

fn query_text(query_text: QueryText) -> &'static str {
    match query_text {
        QueryText::Off => "off",
        QueryText::Sanitized => "sanitized",
        QueryText::Raw => "raw",
    }
}

fn splice_mode(mode: SpliceMode) -> &'static str {
    match mode {
        SpliceMode::Auto => "auto",
        SpliceMode::Off => "off",
        SpliceMode::Require => "require",
    }
}
