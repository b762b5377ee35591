//! Which changes of the configuration need a restart: what is bound, loaded or attached once, at start.

use super::Config;

type Changed = fn(&Config, &Config) -> bool;

/// Everything that is not named here takes effect on reload. `ebpf.credit` does: a direction is given its credit
/// when it is armed.
pub(super) const RESTART: &[(&str, Changed)] = &[
    ("server.listen", |old, new| old.server.listen != new.server.listen),
    ("server.so_reuseport", |old, new| old.server.so_reuseport != new.server.so_reuseport),
    ("server.socket_mode", |old, new| old.server.socket_mode != new.server.socket_mode),
    ("server.pgpass", |old, new| old.server.pgpass != new.server.pgpass),
    ("server.user", |old, new| old.server.privileges.user != new.server.privileges.user),
    ("server.group", |old, new| old.server.privileges.group != new.server.privileges.group),
    ("server.seccomp", |old, new| old.server.privileges.seccomp != new.server.privileges.seccomp),
    ("server.workers", |old, new| old.server.workers != new.server.workers),
    ("admin.listen", |old, new| old.admin.listen != new.admin.listen),
    ("otel.endpoint", |old, new| old.otel.endpoint != new.otel.endpoint),
    ("otel.service_name", |old, new| old.otel.service_name != new.otel.service_name),
    ("logging.format", |old, new| old.logging.format != new.logging.format),
    ("logging.level", |old, new| old.logging.level != new.logging.level),
    ("ebpf.mode", |old, new| old.ebpf.mode != new.ebpf.mode),
    ("ebpf.colocated", |old, new| old.ebpf.colocated != new.ebpf.colocated),
    ("ebpf.cgroup", |old, new| old.ebpf.cgroup != new.ebpf.cgroup),
];

/// The keys that differ and that a running process cannot take over; where there is one, a reload is refused.
pub fn restart_required(old: &Config, new: &Config) -> Vec<&'static str> {
    RESTART.iter().filter(|(_, changed)| changed(old, new)).map(|(key, _)| *key).collect()
}
