//! PgCat's configuration.

use std::path::Path;

use super::{Invocation, Server};

pub fn invocation(server: &Server, port: u16, directory: &Path, workers: u32) -> Invocation {
    let login = &server.login;
    let text = format!(
        "[general]\nhost = \"127.0.0.1\"\nport = {port}\nworker_threads = {workers}\n\
         admin_username = \"admin\"\nadmin_password = \"admin\"\nconnect_timeout = 60000\n\n\
         [pools.{database}]\npool_mode = \"{mode}\"\nquery_parser_enabled = false\nprepared_statements_cache_size = 500\n\n\
         [pools.{database}.users.0]\nusername = \"{user}\"\npassword = \"{password}\"\npool_size = {pool_size}\n\n\
         [pools.{database}.shards.0]\nservers = [[\"{host}\", {server_port}, \"primary\"]]\ndatabase = \"{database}\"\n",
        database = login.database,
        mode = server.mode.name(),
        user = login.user,
        password = login.password,
        pool_size = server.pool_size,
        host = login.host,
        server_port = login.port,
    );
    Invocation {
        arguments: vec![directory.join("pgcat.toml").display().to_string()],
        files: vec![("pgcat.toml".into(), text)],
    }
}
