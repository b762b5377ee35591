//! Drivers that bring a TLS of their own: pgjdbc with Java's, node-postgres with Node's. Each runs once for all attempts.

use super::{Attempt, Binding, End, Ended, Habits, Maker, Mode, Negotiation};
use crate::pki::text;
use anyhow::{Context, Result, ensure};
use halephant_harness::command;
use halephant_suite::install::Runtime;
use halephant_suite::stage;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(240);

/// It trusts by Java's rules: below `verify-ca` nothing is checked, and it takes no lists of revoked certificates. What it
/// shows is chosen by the issuers that the server names.
pub(super) fn pgjdbc() -> Option<Maker> {
    let habits =
        Habits { checks_below_verify: false, falls_back: false, knows_revoked: false, shows_by_issuer: true };
    maker("pgjdbc", Runtime::Java, "pgjdbc_tls/Suite.java", habits, &Mode::ALL, false)
}

/// It has no modes of its own but what `tls.connect` is given; there is nothing like `allow` and `prefer`.
pub(super) fn node_postgres() -> Option<Maker> {
    const MODES: [Mode; 4] = [Mode::Disable, Mode::Require, Mode::VerifyCa, Mode::VerifyFull];
    let habits =
        Habits { checks_below_verify: false, falls_back: false, knows_revoked: true, shows_by_issuer: false };
    maker("node-postgres", Runtime::Node, "node_postgres.js", habits, &MODES, true)
}

fn maker(
    name: &str,
    runtime: Runtime,
    source: &str,
    habits: Habits,
    modes: &'static [Mode],
    newer: bool,
) -> Option<Maker> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls/drivers").join(source);
    let program = runtime.installed()?.prepare(&source).expect("it compiles");
    Some(Maker {
        name: name.into(),
        habits,
        modes,
        negotiations: if newer {
            &[Negotiation::Postgres, Negotiation::Direct]
        } else {
            &[Negotiation::Postgres]
        },
        // It can be told to bind where that is offered, not to insist.
        bindings: if newer { &[Binding::Disable, Binding::Prefer] } else { &[Binding::Prefer] },
        make: Box::new(move |attempts| {
            let mut list = tempfile::NamedTempFile::new()?;
            std::io::Write::write_all(&mut list, lines(attempts).as_bytes())?;
            let mut command = program.command();
            command.arg(list.path()).args([stage::DATABASE, stage::ROLE, stage::PASSWORD]);
            let output = command::run(&mut command, LIMIT)?;
            let ended = String::from_utf8_lossy(&output.stdout);
            let ended: Vec<Ended> = ended.lines().map(parse).collect::<Result<_>>()?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(ended.len() == attempts.len(), "{} of {} ended: {said}", ended.len(), attempts.len());
            Ok(ended)
        }),
    })
}

/// A line for each: port, mode, CA, list, certificate, key, negotiation, channel binding; `-` is none.
fn lines(attempts: &[Attempt]) -> String {
    let mut lines = String::new();
    for attempt in attempts {
        let path = |path: Option<&Path>| path.map_or_else(|| "-".to_owned(), text);
        let identity = attempt.identity.as_ref();
        let _ = writeln!(
            lines,
            "{} {} {} {} {} {} {} {}",
            attempt.port,
            attempt.mode.as_str(),
            path(attempt.ca.as_deref()),
            path(attempt.crl.as_deref()),
            path(identity.map(|files| files.certificate.as_path())),
            path(identity.map(|files| files.key.as_path())),
            attempt.negotiation.name(),
            attempt.binding.name(),
        );
    }
    lines
}

fn parse(line: &str) -> Result<Ended> {
    let (word, said) = line.split_once(' ').unwrap_or((line, ""));
    let ends = [End::Tls, End::Clear, End::Refused];
    let end = ends.into_iter().find(|end| end.name() == word).with_context(|| format!("no end: {line}"))?;
    Ok(Ended { end, said: said.to_owned() })
}
