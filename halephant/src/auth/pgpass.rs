//! The password file, as libpq reads it (the PostgreSQL manual, "The Password File").

use crate::secret::Secret;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

#[cfg(test)]
mod tests;

/// Thousands of lines, tokens of cloud providers among them.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Any access of group or others makes libpq ignore the file.
const GROUP_AND_OTHERS: u32 = 0o077;
const NAME_IN_HOME: &str = ".pgpass";

/// The lines of the password file; none where there is no file.
#[derive(Debug, Default)]
pub struct PgPass {
    lines: Vec<Secret<Vec<u8>>>,
}

#[derive(Debug, thiserror::Error)]
pub enum PgPassError {
    #[error("password file {}: cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("password file {}: is larger than {FILE_BYTES_MAX} bytes", path.display())]
    TooLarge { path: PathBuf },
    #[error("password file {}: is not a plain file", path.display())]
    NotPlain { path: PathBuf },
    #[error(
        "password file {}: group or others have access (mode {mode:04o}); chmod 0600 it",
        path.display()
    )]
    Permissions { path: PathBuf, mode: u32 },
    #[error("password file {}: there is no home directory", path.display())]
    NoHome { path: PathBuf },
}

impl PgPassError {
    fn is_missing(&self) -> bool {
        matches!(self, Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// What libpq warns of and goes on without the file.
    fn is_ignored_by_libpq(&self) -> bool {
        matches!(self, Self::NotPlain { .. } | Self::Permissions { .. })
    }
}

/// Where a password file may be named other than in the configuration.
#[derive(Clone, Debug, Default)]
struct Environment {
    /// `PGPASSFILE`
    pgpassfile: Option<PathBuf>,
    home: Option<PathBuf>,
}

impl Environment {
    fn of_process() -> Self {
        let is_set = |path: &PathBuf| !path.as_os_str().is_empty();
        Self {
            pgpassfile: std::env::var_os("PGPASSFILE").map(PathBuf::from).filter(is_set),
            home: std::env::home_dir().filter(is_set),
        }
    }
}

impl PgPass {
    /// Reads the password file: `configured` (`server.pgpass`, where a leading `~/` is the home directory), else
    /// `PGPASSFILE`, else `~/.pgpass`. Blocks; it is called once, at start.
    ///
    /// A file that is not plain or that others may access is ignored with a warning, as libpq does. The configured
    /// file must be there; `PGPASSFILE` is warned of where it is not, and a missing `~/.pgpass` is nothing unusual.
    pub fn load(configured: Option<&Path>) -> Result<Self, PgPassError> {
        Self::load_from(configured, &Environment::of_process())
    }

    fn load_from(configured: Option<&Path>, environment: &Environment) -> Result<Self, PgPassError> {
        let in_home = || environment.home.as_ref().map(|home| home.join(NAME_IN_HOME));
        let path = match (configured, &environment.pgpassfile) {
            (Some(path), _) => expand_home(path, environment)?,
            (None, Some(path)) => path.clone(),
            (None, None) => match in_home() {
                Some(path) => path,
                None => return Ok(Self::default()),
            },
        };
        match read_file(&path) {
            Ok(bytes) => Ok(Self::parse(&bytes)),
            Err(error) if configured.is_some() && !error.is_ignored_by_libpq() => Err(error),
            Err(error) => {
                if environment.pgpassfile.is_some() || !error.is_missing() {
                    tracing::warn!(%error, "the password file is ignored");
                }
                Ok(Self::default())
            }
        }
    }

    fn parse(bytes: &[u8]) -> Self {
        let lines = bytes.split(|byte| *byte == b'\n').map(strip_carriage_returns);
        let is_entry = |line: &&[u8]| !line.is_empty() && line[0] != b'#' && !line.contains(&0);
        Self { lines: lines.filter(is_entry).map(|line| Secret::new(line.to_vec())).collect() }
    }

    /// The password of the first line that matches, its escapes undone. `None` where no line matches, and where the
    /// one that does has an empty password, which libpq takes for none.
    ///
    /// `host` is compared as text with what the file says, an IPv6 address without brackets. (libpq looks for
    /// `localhost` where it connects to a Unix socket in the default directory: that is left to the caller.)
    pub fn lookup(&self, host: &str, port: u16, database: &str, user: &str) -> Option<Secret<Vec<u8>>> {
        let port = port.to_string();
        let matching = |line| {
            [host, &port, database, user]
                .iter()
                .try_fold(line, |rest, value| strip_field(rest, value.as_bytes()))
        };
        let password = self.lines.iter().find_map(|line| matching(line.expose().as_slice()))?;
        let password = unescape(password);
        (!password.is_empty()).then(|| Secret::new(password))
    }
}

fn expand_home(path: &Path, environment: &Environment) -> Result<PathBuf, PgPassError> {
    match (path.strip_prefix("~"), &environment.home) {
        (Err(_), _) => Ok(path.to_owned()),
        (Ok(rest), Some(home)) => Ok(home.join(rest)),
        (Ok(_), None) => Err(PgPassError::NoHome { path: path.to_owned() }),
    }
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, PgPassError> {
    let unreadable = |source| PgPassError::Unreadable { path: path.to_owned(), source };
    // Without O_NONBLOCK, opening a named pipe would wait for somebody to write to it.
    let file: File =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(PgPassError::NotPlain { path: path.to_owned() });
    }
    if metadata.mode() & GROUP_AND_OTHERS != 0 {
        return Err(PgPassError::Permissions { path: path.to_owned(), mode: metadata.mode() & 0o7777 });
    }
    // Room for all of it from the start: a buffer that grows leaves copies of passwords behind.
    let capacity = metadata.len().min(FILE_BYTES_MAX) as usize + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(PgPassError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

fn strip_carriage_returns(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|byte| *byte != b'\r').map_or(0, |last| last + 1);
    &line[..end]
}

/// What follows the first field of `line` and its colon, if the field matches `value`. As in libpq a field ends at
/// the first plain colon behind a full match, so that the colons of an IPv6 address may stand without backslashes.
fn strip_field<'l>(line: &'l [u8], value: &[u8]) -> Option<&'l [u8]> {
    if let Some(rest) = line.strip_prefix(b"*:") {
        return Some(rest);
    }
    let mut rest = line;
    for expected in value {
        let (byte, behind) = match rest {
            [b'\\', byte, behind @ ..] | [byte, behind @ ..] => (byte, behind),
            [] => return None,
        };
        if byte != expected {
            return None;
        }
        rest = behind;
    }
    rest.strip_prefix(b":")
}

/// The last field: up to a plain colon or the end, a backslash before any byte dropped.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(field.len());
    let mut rest = field;
    loop {
        match rest {
            [] | [b':', ..] => return value,
            [b'\\', byte, behind @ ..] | [byte, behind @ ..] => {
                value.push(*byte);
                rest = behind;
            }
        }
    }
}
