//! Reading the configuration file again while the process runs.

use crate::config;
use crate::proxy::reload::{ReloadError, Reread};
use crate::proxy::settings::Config;
use std::path::PathBuf;

/// The file, and what the process runs with.
#[derive(Debug)]
pub struct ConfigFile {
    path: PathBuf,
    running: Config,
}

impl ConfigFile {
    pub fn new(path: PathBuf, running: Config) -> Self {
        Self { path, running }
    }
}

impl Reread for ConfigFile {
    fn reread(&mut self) -> Result<Config, ReloadError> {
        let config = config::load(&self.path)
            .map_err(|errors| ReloadError::ParseFailed { errors: errors.to_string() })?;
        let keys = config::restart_required(&self.running, &config);
        if !keys.is_empty() {
            return Err(ReloadError::RestartRequired { keys });
        }
        self.running = config;
        Ok(self.running.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "[cluster.c]\nnodes = [\"pg:5432\"]\n[cluster.c.pool.p.user.u]\n";

    #[test]
    fn a_rejected_reload_changes_nothing() {
        let directory = tempfile::tempdir().expect("there is room");
        let path = directory.path().join("halephant.toml");
        let write = |text: &str| std::fs::write(&path, text).expect("it is ours");
        write(BASE);
        let mut file = ConfigFile::new(path.clone(), config::load(&path).expect("it is valid"));
        let before = file.running.clone();

        write(&format!("[logging]\nlevel = \"debug\"\n[server]\nworkers = 3\n{BASE}"));
        let keys = vec!["server.workers", "logging.level"];
        assert_eq!(file.reread(), Err(ReloadError::RestartRequired { keys }));
        write("[cluster.c]");
        let error = file.reread().expect_err("it is not valid");
        assert_eq!(error.outcome(), "parse_failed");
        assert!(error.to_string().contains("nodes"), "{error}");
        assert_eq!(file.running, before);

        write(&format!("{BASE}[server]\ncheckout_timeout = \"1s\"\n"));
        let settings = file.reread().expect("it may change at run time");
        assert_eq!(settings.server.checkout_timeout.as_secs(), 1);
        assert_ne!(file.running, before);
    }
}
