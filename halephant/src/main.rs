//! The process: flags, then the configuration, then the proxy.

use clap::Parser;
use halephant::cli::{Cli, EXIT_USAGE};
use halephant::config::{self, Config};
use halephant::proxy::run::{Event, Shutdown, Source, run};
use halephant::reload::ConfigFile;
use halephant::telemetry::logging;
use std::io::Write;
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};

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
    match serve(&cli, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "halephant: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(cli: &Cli, config: Config) -> Result<(), Box<dyn std::error::Error>> {
    // Dropped last: it writes out the log lines that are still queued.
    let _logging = logging::init(&config.logging)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let file = ConfigFile::new(cli.config.clone(), config.clone());
    let result = runtime.block_on(async { run(config, Signals::new()?, file).await.map_err(Box::from) });
    // What is still running in the background must not hold the process.
    runtime.shutdown_background();
    result
}

/// SIGTERM lets transactions finish; SIGINT, or a second signal, does not wait. SIGHUP reads the configuration again.
/// SIGUSR1 switches the kernel path off.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    user: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            user: signal(SignalKind::user_defined1())?,
        })
    }
}

impl Source for Signals {
    async fn next(&mut self) -> Event {
        tokio::select! {
            _ = self.hangup.recv() => Event::Reload,
            _ = self.user.recv() => Event::SpliceOff,
            _ = self.terminate.recv() => Event::Shutdown(Shutdown::Graceful),
            _ = self.interrupt.recv() => Event::Shutdown(Shutdown::Immediate),
        }
    }
}

/// `--check`: the one line of a valid configuration.
fn report_valid(cli: &Cli, config: &Config) -> ExitCode {
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
