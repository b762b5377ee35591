//! PgDog's configuration.

use std::path::Path;

use super::{Invocation, Server};

pub fn invocation(server: &Server, port: u16, directory: &Path, workers: u32) -> Invocation {
    let login = &server.login;
    let general = format!(
        "[general]\nhost = \"127.0.0.1\"\nport = {port}\nworkers = {workers}\ndefault_pool_size = {pool_size}\n\
         pooler_mode = \"{mode}\"\n\n[[databases]]\nname = \"{database}\"\nhost = \"{host}\"\nport = {server_port}\n",
        pool_size = server.pool_size,
        mode = server.mode.name(),
        database = login.database,
        host = login.host,
        server_port = login.port,
    );
    let users = format!(
        "[[users]]\nname = \"{}\"\ndatabase = \"{}\"\npassword = \"{}\"\n",
        login.user, login.database, login.password
    );
    let path = |name: &str| directory.join(name).display().to_string();
    Invocation {
        arguments: vec!["--config".into(), path("pgdog.toml"), "--users".into(), path("users.toml")],
        files: vec![("pgdog.toml".into(), general), ("users.toml".into(), users)],
    }
}
