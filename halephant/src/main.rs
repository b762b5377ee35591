//! The process: flags, then the configuration, then the proxy.

use clap::Parser;
use halephant::cli::{Cli, EXIT_USAGE};
use halephant::config;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let config = match config::load(&cli.config) {
        Ok(config) => config,
        Err(errors) => {
            // Nothing is left to be told where standard error is closed.
            let _ = writeln!(std::io::stderr(), "{errors}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if cli.check {
        return report_valid(&cli, &config);
    }
    ExitCode::SUCCESS
}

/// `--check`: the one line of a valid configuration.
fn report_valid(cli: &Cli, config: &config::Config) -> ExitCode {
    let pools = || config.clusters.iter().flat_map(|cluster| &cluster.pools);
    let written = writeln!(
        std::io::stdout(),
        "configuration ok: {} (clusters: {}, pools: {}, users: {})",
        cli.config.display(),
        config.clusters.len(),
        pools().count(),
        pools().map(|pool| pool.users.len()).sum::<usize>(),
    );
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
