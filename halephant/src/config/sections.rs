//! The sections of the process as a whole: `[server]`, `[logging]`, `[admin]`, `[otel]` and `[ebpf]`.

use super::access;
use super::document::Table;
use super::findings::Reported;
use super::kind::{
    AbsolutePath, Choice, ClientListen, Credit, Endpoint, FROM_MILLISECOND, FROM_ZERO, FileMode, FilePath,
    Identifier, Item, Label, Listen, Network,
};
use super::pool::Inherited;
use super::problem::Problem;
use super::tls;
use crate::admin::AdminSettings;
use crate::net::ListenAddress;
use crate::privileges::PrivilegeSettings;
use crate::proxy::settings::ServerSettings;
use crate::splice::policy::Policy;
use crate::splice::settings::{SpliceMode, SpliceSettings};
use crate::telemetry::settings::{LogFormat, LogLevel, LoggingSettings, OtelSettings, QueryText};

const LOG_FORMATS: Choice<LogFormat> = Choice(&[("json", LogFormat::Json), ("text", LogFormat::Text)]);
const LOG_LEVELS: Choice<LogLevel> = Choice(&[
    ("trace", LogLevel::Trace),
    ("debug", LogLevel::Debug),
    ("info", LogLevel::Info),
    ("warn", LogLevel::Warn),
    ("error", LogLevel::Error),
]);
const QUERY_TEXTS: Choice<QueryText> =
    Choice(&[("off", QueryText::Off), ("sanitized", QueryText::Sanitized), ("raw", QueryText::Raw)]);
const SPLICE_MODES: Choice<SpliceMode> =
    Choice(&[("auto", SpliceMode::Auto), ("off", SpliceMode::Off), ("require", SpliceMode::Require)]);

/// More threads than any machine has CPUs.
const WORKERS_MAX: i64 = 1024;
/// More than a machine has ports for one address of ours and thousands of theirs.
pub(super) const CLIENTS_MAX: i64 = 10_000_000;
const PREPARED_STATEMENTS_MAX: i64 = 1_000_000_000;
/// The port of a Unix socket where no address names one.
const DEFAULT_PORT: u16 = 6432;
/// As PostgreSQL has it: who may connect still has to log in.
const SOCKET_MODE: u32 = 0o777;

/// The settings, and what pools have of them by itself: they need it even where another key is wrong.
pub(super) fn server(server: &mut Table<'_>) -> (Result<ServerSettings, Reported>, Inherited) {
    let listen = server.list("listen", Some("0.0.0.0:6432"), ClientListen);
    let listen = listen.and_then(|listen| give_ports(server, listen));
    let socket_mode = server.optional("socket_mode", "0777", FileMode);
    let has_unix = |listen: &Vec<ListenAddress>| listen.iter().any(|address| !address.is_tcp());
    let socket_mode = match socket_mode {
        Ok(Some(_)) if listen.as_ref().is_ok_and(|listen| !has_unix(listen)) => {
            Err(server.wrong_at("socket_mode", Problem::WithoutUnixSocket))
        }
        mode => mode.map(|mode| mode.unwrap_or(SOCKET_MODE)),
    };
    let proxy_protocol = server.optional_list("proxy_protocol", Network);
    let so_reuseport = server.boolean("so_reuseport", false);
    let pgpass = server.optional("pgpass", "~/.pgpass", FilePath);
    let workers = server.integer("workers", 0, 0..=WORKERS_MAX);
    let shutdown_timeout = server.text("shutdown_timeout", "30s", FROM_ZERO);
    let checkout_timeout = server.text("checkout_timeout", "30s", FROM_MILLISECOND);
    let client_login_timeout = server.text("client_login_timeout", "60s", FROM_MILLISECOND);
    let max_client_connections = server.integer("max_client_connections", 0, 0..=CLIENTS_MAX);
    let max_client_connections_per_address =
        server.integer("max_client_connections_per_address", 0, 0..=CLIENTS_MAX);
    let max_prepared_statements = server.integer("max_prepared_statements", 0, 0..=PREPARED_STATEMENTS_MAX);
    let privileges = privileges(server);
    let tls = server.table("tls", tls::client_leg);
    let auth = access::client_auth(server, &tls);
    let settings = || {
        Ok(ServerSettings {
            listen: listen?,
            socket_mode: socket_mode?,
            so_reuseport: so_reuseport?,
            proxy_protocol: proxy_protocol?,
            pgpass: pgpass?,
            workers: workers?,
            shutdown_timeout: shutdown_timeout?,
            checkout_timeout: checkout_timeout?,
            client_login_timeout: client_login_timeout?,
            max_client_connections: max_client_connections?,
            max_client_connections_per_address: max_client_connections_per_address?,
            max_prepared_statements: max_prepared_statements?,
            tls: tls?,
            privileges: privileges?,
            auth: auth?,
        })
    };
    (settings(), Inherited { checkout_timeout, client_login_timeout })
}

/// Whether there is such a user shows when the process starts: a file is checked on other machines, too.
fn privileges(server: &mut Table<'_>) -> Result<PrivilegeSettings, Reported> {
    let user = server.optional("user", "the user that starts it", Label);
    let group = server.optional("group", "the user's own", Label);
    let seccomp = server.boolean("seccomp", false);
    let (user, group) = (user?, group?);
    if user.is_none() && group.is_some() {
        return Err(server.wrong_at("user", Problem::NeededWith("group")));
    }
    Ok(PrivilegeSettings { user, group, seccomp: seccomp? })
}

/// Unix sockets without a port of their own have the one of the first TCP address, as PostgreSQL's have.
fn give_ports(server: &Table<'_>, listen: Vec<ListenAddress>) -> Result<Vec<ListenAddress>, Reported> {
    let first = listen.iter().find_map(ListenAddress::tcp).map_or(DEFAULT_PORT, |address| address.port());
    let mut all: Vec<ListenAddress> = Vec::with_capacity(listen.len());
    for address in listen {
        let address = match address {
            ListenAddress::Unix { directory, port } => {
                ListenAddress::Unix { directory, port: Some(port.unwrap_or(first)) }
            }
            tcp @ ListenAddress::Tcp(_) => tcp,
        };
        if let Some(other) = all.iter().position(|other| other.overlaps(&address)) {
            let problem = ClientListen::duplicate(&address, format!("server.listen[{other}]"));
            return Err(server.wrong_at("listen", problem));
        }
        all.push(address);
    }
    Ok(all)
}

pub(super) fn logging(logging: &mut Table<'_>) -> Result<LoggingSettings, Reported> {
    let format = logging.text("format", "json", LOG_FORMATS);
    let level = logging.text("level", "info", LOG_LEVELS);
    Ok(LoggingSettings { format: format?, level: level? })
}

/// `server`: the addresses that the admin API cannot have, where they are known.
pub(super) fn admin(
    admin: &mut Table<'_>,
    server: &Result<ServerSettings, Reported>,
) -> Result<AdminSettings, Reported> {
    let listen = admin.optional("listen", "none", Listen);
    let users = admin.optional_list("users", Identifier);
    let stats_users = admin.optional_list("stats_users", Identifier);
    let listen = listen?;
    if let (Some(address), Ok(server)) = (&listen, server)
        && let Some(index) = server
            .listen
            .iter()
            .position(|other| other.tcp().is_some_and(|other| Listen::clash(other, address)))
    {
        let problem = Listen::duplicate(address, format!("server.listen[{index}]"));
        return Err(admin.wrong_at("listen", problem));
    }
    Ok(AdminSettings { listen, users: users?, stats_users: stats_users? })
}

pub(super) fn otel(otel: &mut Table<'_>) -> Result<OtelSettings, Reported> {
    let endpoint = otel.optional("endpoint", "none", Endpoint);
    let service_name = otel.text("service_name", "halephant", Label);
    let query_text = otel.text("query_text", "off", QUERY_TEXTS);
    Ok(OtelSettings { endpoint: endpoint?, service_name: service_name?, query_text: query_text? })
}

pub(super) fn ebpf(ebpf: &mut Table<'_>) -> Result<SpliceSettings, Reported> {
    let mode = ebpf.text("mode", "auto", SPLICE_MODES);
    let colocated = ebpf.boolean("colocated", false);
    let cgroup = ebpf.text("cgroup", "/sys/fs/cgroup", AbsolutePath);
    let credit_bytes = ebpf.text("credit", "1MiB", Credit);
    let (mode, colocated, cgroup, credit_bytes) = (mode?, colocated?, cgroup?, credit_bytes?);
    Ok(SpliceSettings { mode, colocated, cgroup, policy: Policy::Measured, credit_bytes })
}
