//! The process's log: one line per event on standard output, as JSON or text.

use super::settings::{LogFormat, LogLevel, LoggingSettings};
use std::io::{self, IsTerminal, Write};
use std::time::Duration;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::{LookupSpan, Registry};

/// Lines that wait for a slow reader of standard output; beyond them lines are dropped and counted, so that a
/// stuck log never holds up a client.
const QUEUED_LINES_MAX: usize = 16_384;
/// Bytes that are written at once.
const BATCH_BYTES: usize = 64 * 1024;
/// After a batch. Lines that come meanwhile wake nobody up, which costs more than to write them: two for each client.
const PAUSE: Duration = Duration::from_millis(5);

#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error("the log has been set up before")]
    SetTwice(#[from] tracing::subscriber::SetGlobalDefaultError),
}

/// Keeps the log's writer alive. Dropping it, as the last thing in `main`, writes out what is queued.
#[derive(Debug)]
pub struct Logging {
    _worker: WorkerGuard,
    dropped: ErrorCounter,
}

impl Logging {
    /// Lines that were lost because nobody read standard output.
    pub fn dropped_lines(&self) -> usize {
        self.dropped.dropped_lines()
    }
}

/// Sends the process's events to standard output from now on. The configuration alone decides what is shown: no
/// environment variable overrides it.
pub fn init(settings: &LoggingSettings) -> Result<Logging, LoggingError> {
    let (writer, worker) = NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUED_LINES_MAX)
        .thread_name("log")
        .finish(Batches::new(io::stdout(), PAUSE));
    let dropped = writer.error_counter();
    let is_coloured = std::io::stdout().is_terminal();
    tracing::subscriber::set_global_default(Registry::default().with(layer(settings, is_coloured, writer)))?;
    Ok(Logging { _worker: worker, dropped })
}

/// Writes many lines at once, and then none for a while. A line that comes after a longer silence is written at once.
struct Batches<W> {
    lines: Vec<u8>,
    pause: Duration,
    writer: W,
}

impl<W: Write> Batches<W> {
    fn new(writer: W, pause: Duration) -> Self {
        Self { lines: Vec::with_capacity(BATCH_BYTES), pause, writer }
    }

    /// Lines that cannot be written are lost: the next ones may be taken.
    fn write_out(&mut self) -> io::Result<()> {
        let written = self.writer.write_all(&self.lines);
        self.lines.clear();
        written
    }
}

impl<W: Write> Write for Batches<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.lines.len() + line.len() > BATCH_BYTES {
            self.write_out()?;
        }
        self.lines.extend_from_slice(line);
        Ok(line.len())
    }

    /// Called when no line waits.
    fn flush(&mut self) -> io::Result<()> {
        let written = self.write_out().and_then(|()| self.writer.flush());
        std::thread::sleep(self.pause);
        written
    }
}

/// The log as a layer, with its level; colours are for text on a terminal.
pub fn layer<S, W>(
    settings: &LoggingSettings,
    is_coloured: bool,
    writer: W,
) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let level = LevelFilter::from(settings.level);
    match settings.format {
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).with_filter(level).boxed(),
        LogFormat::Text => lines.with_ansi(is_coloured).with_filter(level).boxed(),
    }
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Trace => Self::TRACE,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Info => Self::INFO,
            LogLevel::Warn => Self::WARN,
            LogLevel::Error => Self::ERROR,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    /// What was logged while a test ran.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The log of `run`, on this thread.
    pub(crate) fn log_of(format: LogFormat, level: LogLevel, run: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = layer(&LoggingSettings { format, level }, false, move || writer.clone());
        tracing::subscriber::with_default(Registry::default().with(layer), run);
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    fn log_at_every_level() {
        tracing::error!("at error");
        tracing::warn!("at warn");
        tracing::info!("at info");
        tracing::debug!("at debug");
        tracing::trace!("at trace");
    }

    #[test]
    fn levels() {
        let levels = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];
        for (lines, level) in (1..).zip(levels) {
            let log = log_of(LogFormat::Text, level, log_at_every_level);
            assert_eq!(log.lines().count(), lines, "{level:?}: {log}");
        }
    }

    #[test]
    fn text_lines() {
        let log = log_of(LogFormat::Text, LogLevel::Info, || {
            tracing::info_span!("client", id = 7).in_scope(|| tracing::info!(pool = "app", "checked\nout"));
        });
        assert!(log.contains("client{id=7}") && log.contains("pool=\"app\""), "{log}");
        assert!(!log.contains('\x1b'), "{log}");
    }

    #[test]
    fn json_lines() {
        let log = log_of(LogFormat::Json, LogLevel::Info, || {
            tracing::info_span!("client", id = 7).in_scope(|| tracing::warn!(pool = "a\"b\n", "checked out"));
        });
        assert_eq!(log.lines().count(), 1, "{log}");
        for part in [
            "\"level\":\"WARN\"",
            "\"message\":\"checked out\"",
            "\"pool\":\"a\\\"b\\n\"",
            "\"span\":{\"id\":7,\"name\":\"client\"}",
            "\"timestamp\":\"",
            "\"target\":\"halephant::telemetry::logging::tests\"",
        ] {
            assert!(log.contains(part), "{part} is not in {log}");
        }
    }

    /// Each write, or an error for one whose bytes begin with "!".
    #[derive(Clone, Default)]
    struct Writes(Arc<Mutex<Vec<String>>>);

    impl Write for Writes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if bytes.starts_with(b"!") {
                return Err(io::Error::from(io::ErrorKind::BrokenPipe));
            }
            self.0.lock().unwrap().push(String::from_utf8(bytes.to_vec()).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_written_together() {
        let writes = Writes::default();
        let mut batches = Batches::new(writes.clone(), Duration::ZERO);
        let long = "x".repeat(BATCH_BYTES);
        for line in ["one\n", "two\n"] {
            batches.write_all(line.as_bytes()).unwrap();
        }
        assert!(writes.0.lock().unwrap().is_empty());
        batches.flush().unwrap();
        batches.write_all(b"three\n").unwrap();
        batches.write_all(long.as_bytes()).unwrap();
        batches.flush().unwrap();
        assert_eq!(*writes.0.lock().unwrap(), ["one\ntwo\n", "three\n", &long]);
    }

    #[test]
    fn lines_that_cannot_be_written_hold_up_none_that_follow() {
        let writes = Writes::default();
        let mut batches = Batches::new(writes.clone(), Duration::ZERO);
        batches.write_all(b"!lost\n").unwrap();
        assert_eq!(batches.flush().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        batches.write_all(b"next\n").unwrap();
        batches.flush().unwrap();
        assert_eq!(*writes.0.lock().unwrap(), ["next\n"]);
    }
}
