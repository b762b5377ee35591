//! Turning one session's run-time parameters into another's, on an open server connection.

use super::connection::ServerConnection;
use super::parameters::SessionParameters;
use super::query::QueryError;
use bytes::BytesMut;
use halephant_protocol::EncodeError;
use halephant_protocol::frontend::{Bind, Close, Execute, Parse, Sync, Target};
use halephant_protocol::list::ValuesBuf;

/// Answers that end what [`encode_begin`] sends: a CommandComplete and a CloseComplete.
pub const BEGIN_ANSWERS: u32 = 2;

impl ServerConnection {
    /// Applies `wanted` and waits for the answer; after an error the connection is as it was. Not cancel safe.
    pub async fn apply(&mut self, wanted: &SessionParameters) -> Result<(), QueryError> {
        if self.applied == *wanted {
            return Ok(());
        }
        let mut out = BytesMut::new();
        let difference = self.applied.difference(wanted);
        encode_parameters(&difference.set, &difference.reset, false, &mut out)?;
        self.exchange(&out).await?;
        self.applied = wanted.clone();
        Ok(())
    }
}

/// Appends the extended-protocol messages that set and reset parameters, closed by one Sync. `discard`: what the session knows of
/// sequences, too.
pub fn encode_parameters(
    set: &[(&str, &str)],
    reset: &[&str],
    discard: bool,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    encode_changes(set, reset, discard, out)?;
    encode_discard(discard, out)?;
    Sync.encode(out);
    Ok(())
}

/// The same as a transaction, without a Sync. Returns how many CommandComplete and CloseComplete answer it.
pub fn encode_joined(
    set: &[(&str, &str)],
    reset: &[&str],
    discard: bool,
    out: &mut BytesMut,
) -> Result<u32, EncodeError> {
    encode_statement("BEGIN", &ValuesBuf::new(), out)?;
    let commands = encode_changes(set, reset, true, out)? + encode_discard(discard, out)?;
    encode_statement("COMMIT", &ValuesBuf::new(), out)?;
    close_portal(out)?;
    Ok(commands + 3)
}

/// Appends a statement that begins a transaction block, without a Sync. [`BEGIN_ANSWERS`] answer it. `has_portal`: the client ran it
/// in the unnamed portal, where it stays.
pub fn encode_begin(sql: &[u8], has_portal: bool, out: &mut BytesMut) -> Result<(), EncodeError> {
    encode_text(sql, &ValuesBuf::new(), out)?;
    match has_portal {
        // There is none of that name yet. It is answered as any other.
        true => Close { target: Target::Portal, name: b"halephant" }.encode(out),
        false => close_portal(out),
    }
}

/// What comes behind finds no portal of ours.
fn close_portal(out: &mut BytesMut) -> Result<(), EncodeError> {
    Close { target: Target::Portal, name: b"" }.encode(out)
}

/// Whether a session has a statement_timeout that may strike statements as short as ours.
pub fn has_short_timeout(applied: &SessionParameters) -> bool {
    applied.value("statement_timeout").is_some_and(is_short)
}

/// Whether a statement_timeout is below a second, or none that we know how to read.
fn is_short(timeout: &str) -> bool {
    let timeout = timeout.trim();
    let end = timeout.find(|c: char| !c.is_ascii_digit()).unwrap_or(timeout.len());
    let (number, unit) = timeout.split_at(end);
    match (number.parse::<u64>(), unit.trim()) {
        (Ok(number), "" | "ms") => (1..1_000).contains(&number),
        (Ok(_), "s" | "min" | "h" | "d") => false,
        _ => true,
    }
}

/// Appends the messages, and returns how many commands they are. `more_follow`: another one of ours is in the same transaction.
///
/// Values travel as parameters, so that no quoting rule, encoding or setting of the server can change what they mean.
fn encode_changes(
    set: &[(&str, &str)],
    reset: &[&str],
    more_follow: bool,
    out: &mut BytesMut,
) -> Result<u32, EncodeError> {
    let mut commands = 0;
    // A role may not be allowed to change the rest, and a timeout may strike what comes behind it.
    let early = |name: &&&str| matches!(**name, "role" | "statement_timeout");
    let changes_role = set.iter().any(|(name, _)| *name == "role").then_some("role");
    let first = reset.iter().filter(early).copied().chain(changes_role);
    for name in first.chain(reset.iter().filter(|name| !early(name)).copied()) {
        // Parameter names are checked to need no quoting beyond this; dots part the words of an extension's parameter.
        let quoted = name.split('.').map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(".");
        encode_statement(&format!("RESET {quoted}"), &ValuesBuf::new(), out)?;
        commands += 1;
    }
    if !set.is_empty() {
        let is_hasty = set.iter().any(|&(name, value)| name == "statement_timeout" && is_short(value));
        let (late, set): (Vec<_>, Vec<_>) = set.iter().partition(|(name, _)| early(&name));
        let mut values = ValuesBuf::new();
        let mut calls = Vec::with_capacity(set.len());
        for (at, (name, value)) in set.into_iter().chain(late).enumerate() {
            values.push(Some(name.as_bytes()))?;
            values.push(Some(value.as_bytes()))?;
            calls.push(format!("pg_catalog.set_config(${}, ${}, false)", 2 * at + 1, 2 * at + 2));
        }
        if more_follow && is_hasty {
            // Until the transaction ends; what was set above holds from then on.
            calls.push("pg_catalog.set_config('statement_timeout', '0', true)".to_owned());
        }
        encode_statement(&format!("SELECT {}", calls.join(", ")), &values, out)?;
        commands += 1;
    }
    Ok(commands)
}

fn encode_discard(discard: bool, out: &mut BytesMut) -> Result<u32, EncodeError> {
    if discard {
        encode_statement("DISCARD SEQUENCES", &ValuesBuf::new(), out)?;
    }
    Ok(discard.into())
}

/// Appends a statement with one parameter, closed by a Sync.
pub fn encode_question(sql: &str, value: &str, out: &mut BytesMut) -> Result<(), EncodeError> {
    let mut values = ValuesBuf::new();
    values.push(Some(value.as_bytes()))?;
    encode_statement(sql, &values, out)?;
    Sync.encode(out);
    Ok(())
}

fn encode_statement(sql: &str, values: &ValuesBuf, out: &mut BytesMut) -> Result<(), EncodeError> {
    encode_text(sql.as_bytes(), values, out)
}

fn encode_text(sql: &[u8], values: &ValuesBuf, out: &mut BytesMut) -> Result<(), EncodeError> {
    let unnamed = &b""[..];
    Parse { statement: unnamed, query: sql, parameter_types: Default::default() }.encode(out)?;
    Bind {
        portal: unnamed,
        statement: unnamed,
        parameter_formats: Default::default(),
        parameters: values.as_values(),
        result_formats: Default::default(),
    }
    .encode(out)?;
    Execute { portal: unnamed, rows_max: 0 }.encode(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_short_below_a_second() {
        for short in ["1", "999", "1ms", " 999 ms", "500us", "0.5s", "-1", "x", ""] {
            assert!(is_short(short), "{short:?}");
        }
        for long in ["0", "0ms", "1000", "1s", "30s", "1min", " 2 h", "1500ms"] {
            assert!(!is_short(long), "{long:?}");
        }
    }
}
