//! PgBouncer's configuration: its own defaults, but for where it is, whom it serves and how many.

use anyhow::{Context, Result};
use std::path::Path;

use super::{Invocation, Server, version_line};
use crate::bench::lane::Mode;

/// From here on, prepared statements work in transaction mode.
pub const PREPARED_STATEMENTS: (u32, u32) = (1, 21);

/// Which process of how many.
#[derive(Clone, Copy)]
pub struct Share {
    pub number: u32,
    pub processes: u32,
}

/// `PgBouncer 1.18.0` as (1, 18).
pub fn version(file: &Path) -> Result<(u32, u32)> {
    let line = version_line(file)?;
    parse(&line).with_context(|| format!("{line:?} is no version of PgBouncer"))
}

fn parse(line: &str) -> Option<(u32, u32)> {
    let mut numbers = line.strip_prefix("PgBouncer ")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

pub fn invocation(
    server: &Server,
    port: u16,
    directory: &Path,
    version: (u32, u32),
    share: Share,
) -> Invocation {
    let login = &server.login;
    let (users, ini) = (format!("users-{}.txt", share.number), format!("pgbouncer-{}.ini", share.number));
    // Server connections of a transaction pool are divided; each process of a session pool may be given any client.
    let pool_size = match server.mode {
        Mode::Session => server.pool_size,
        Mode::Transaction => (server.pool_size / share.processes).max(1),
    };
    let mut text = format!(
        "[databases]\n{database} = host={host} port={server_port} dbname={database}\n\n[pgbouncer]\n\
         listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
         auth_type = scram-sha-256\nauth_file = {users_path}\n\
         pool_mode = {mode}\ndefault_pool_size = {pool_size}\nmax_client_conn = 15000\n",
        database = login.database,
        host = login.host,
        server_port = login.port,
        users_path = directory.join(&users).display(),
        mode = server.mode.name(),
    );
    if share.processes > 1 {
        text += "so_reuseport = 1\n";
    }
    if version >= PREPARED_STATEMENTS {
        text += "max_prepared_statements = 200\n";
    }
    let mut files = Vec::new();
    if let Some(identity) = &server.tls {
        let (certificate, key) = (format!("tls-{}.crt", share.number), format!("tls-{}.key", share.number));
        text += &format!(
            "client_tls_sslmode = require\nclient_tls_cert_file = {}\nclient_tls_key_file = {}\n",
            directory.join(&certificate).display(),
            directory.join(&key).display(),
        );
        files.extend([(certificate, identity.certificate.clone()), (key, identity.key.clone())]);
    }
    // The verifier, so that PgBouncer need not derive one for each login.
    let user_line = format!("\"{}\" \"{}\"\n", login.user, server.verifier);
    let arguments = vec![directory.join(&ini).display().to_string()];
    files.extend([(users, user_line), (ini, text)]);
    Invocation { arguments, files }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn reads_its_version() {
        assert_eq!(parse("PgBouncer 1.18.0"), Some((1, 18)));
        assert_eq!(parse("PgBouncer 1.26.1"), Some((1, 26)));
        assert_eq!(parse("psql (PostgreSQL) 15.1"), None);
    }
}
