//! Where a client goes and as whom.

use std::process::Command;

#[derive(Clone, Debug)]
pub struct Login {
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: String,
    pub password: String,
}

impl Login {
    /// The same, at another port of the same host.
    #[must_use]
    pub fn at(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    #[must_use]
    pub fn database(mut self, database: &str) -> Self {
        self.database = database.into();
        self
    }

    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = password.into();
        self
    }

    /// Gives it to a libpq program, by environment variables alone.
    pub fn apply(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command
            .env("PGHOST", &self.host)
            .env("PGPORT", self.port.to_string())
            .env("PGDATABASE", &self.database)
            .env("PGUSER", &self.user)
            .env("PGPASSWORD", &self.password)
            .env("PGCONNECT_TIMEOUT", "30")
            // Nothing from the home directory of whoever runs this.
            .env("PGPASSFILE", "/dev/null")
            .env("PGSYSCONFDIR", "/nonexistent")
            .env("LC_ALL", "C");
    }

    /// A line for a shell.
    pub fn psql_line(&self) -> String {
        let Self { host, port, database, user, password } = self;
        format!("PGPASSWORD={password} psql -h {host} -p {port} -U {user} {database}")
    }
}
