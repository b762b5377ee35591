//! The command line.

use clap::Parser;
use std::path::PathBuf;

/// Wrong usage and a wrong configuration leave the process with this code, as clap's own errors do.
pub const EXIT_USAGE: u8 = 2;

/// An eBPF-assisted PostgreSQL connection pooler and proxy.
///
/// SIGHUP reads the configuration again; SIGTERM lets transactions finish, then exits. SIGUSR1 switches the kernel path
/// off.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(name = "halephant", version)]
pub struct Cli {
    /// The configuration file (TOML)
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,

    /// Check the configuration, report every error in it and exit
    #[arg(long)]
    pub check: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    fn parse(arguments: &[&str]) -> Result<Cli, ErrorKind> {
        Cli::try_parse_from(["halephant"].iter().chain(arguments)).map_err(|error| {
            let is_usage = error.exit_code() == i32::from(EXIT_USAGE);
            assert_eq!(is_usage, !matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion));
            error.kind()
        })
    }

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn arguments() {
        let cli = |check| Ok(Cli { config: PathBuf::from("a.toml"), check });
        assert_eq!(parse(&["-c", "a.toml"]), cli(false));
        assert_eq!(parse(&["-ca.toml"]), cli(false));
        assert_eq!(parse(&["--config=a.toml", "--check"]), cli(true));
        assert_eq!(parse(&["--check", "-c", "a.toml"]), cli(true));
        assert_eq!(parse(&[]), Err(ErrorKind::MissingRequiredArgument));
        assert_eq!(parse(&["--check"]), Err(ErrorKind::MissingRequiredArgument));
        assert_eq!(parse(&["-c"]), Err(ErrorKind::InvalidValue));
        assert_eq!(parse(&["a.toml"]), Err(ErrorKind::UnknownArgument));
        assert_eq!(parse(&["-c", "a.toml", "-c", "b.toml"]), Err(ErrorKind::ArgumentConflict));
        assert_eq!(parse(&["--help"]), Err(ErrorKind::DisplayHelp));
        assert_eq!(parse(&["-V"]), Err(ErrorKind::DisplayVersion));
    }
}
