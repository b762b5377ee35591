//! Odyssey's configuration.

use std::path::Path;

use super::{Invocation, Server};

pub fn invocation(server: &Server, port: u16, directory: &Path, workers: u32) -> Invocation {
    let login = &server.login;
    let text = format!(
        r#"daemonize no
unix_socket_dir "{directory}"
unix_socket_mode "0644"
locks_dir "{directory}"
graceful_die_on_errors no
enable_online_restart no
bindwith_reuseport no
log_format "%p %t %l [%i %s] (%c) %m\n"
log_to_stdout yes
log_config no
log_debug no
log_session no
log_query no
log_stats no
workers {workers}
client_max 15000

listen {{
    host "127.0.0.1"
    port {port}
}}

storage "server" {{
    type "remote"
    host "{host}"
    port {server_port}
}}

database "{database}" {{
    user "{user}" {{
        authentication "scram-sha-256"
        password "{password}"
        storage "server"
        storage_db "{database}"
        storage_user "{user}"
        storage_password "{password}"
        pool "{mode}"
        pool_size {pool_size}
        pool_timeout 60000
        pool_discard no
        pool_reserve_prepared_statement {reserve}
    }}
}}
"#,
        directory = directory.display(),
        host = login.host,
        server_port = login.port,
        database = login.database,
        user = login.user,
        password = login.password,
        mode = server.mode.name(),
        pool_size = server.pool_size,
        reserve = if server.mode == crate::bench::lane::Mode::Transaction { "yes" } else { "no" },
    );
    Invocation {
        arguments: vec![directory.join("odyssey.conf").display().to_string()],
        files: vec![("odyssey.conf".into(), text)],
    }
}
