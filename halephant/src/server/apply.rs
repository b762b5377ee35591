//! Turning one session's run-time parameters into another's, on an open server connection.

use super::connection::ServerConnection;
use super::parameters::SessionParameters;
use super::query::QueryError;
use bytes::BytesMut;
use halephant_protocol::EncodeError;
use halephant_protocol::frontend::{Bind, Execute, Parse, Sync};
use halephant_protocol::list::ValuesBuf;

impl ServerConnection {
    /// Applies `wanted` and waits for the answer; after an error the connection is as it was. Not cancel safe.
    pub async fn apply(&mut self, wanted: &SessionParameters) -> Result<(), QueryError> {
        if self.applied == *wanted {
            return Ok(());
        }
        let mut out = BytesMut::new();
        let difference = self.applied.difference(wanted);
        encode_parameters(&difference.set, &difference.reset, &mut out)?;
        self.exchange(&out).await?;
        self.applied = wanted.clone();
        Ok(())
    }
}

/// Appends the extended-protocol messages that set and reset parameters, closed by one Sync.
pub fn encode_parameters(
    set: &[(&str, &str)],
    reset: &[&str],
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    encode_changes(set, reset, out)?;
    Sync.encode(out);
    Ok(())
}

/// The same as a transaction, without a Sync. Returns how many commands it is.
pub fn encode_joined(set: &[(&str, &str)], reset: &[&str], out: &mut BytesMut) -> Result<u32, EncodeError> {
    encode_statement("BEGIN", &ValuesBuf::new(), out)?;
    let commands = encode_changes(set, reset, out)?;
    encode_statement("COMMIT", &ValuesBuf::new(), out)?;
    Ok(commands + 2)
}

/// Appends the messages, and returns how many commands they are.
///
/// Values travel as parameters, so that no quoting rule, encoding or setting of the server can change what they mean.
fn encode_changes(set: &[(&str, &str)], reset: &[&str], out: &mut BytesMut) -> Result<u32, EncodeError> {
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
        let (late, set): (Vec<_>, Vec<_>) = set.iter().partition(|(name, _)| early(&name));
        let mut values = ValuesBuf::new();
        let mut calls = Vec::with_capacity(set.len());
        for (at, (name, value)) in set.into_iter().chain(late).enumerate() {
            values.push(Some(name.as_bytes()))?;
            values.push(Some(value.as_bytes()))?;
            calls.push(format!("pg_catalog.set_config(${}, ${}, false)", 2 * at + 1, 2 * at + 2));
        }
        encode_statement(&format!("SELECT {}", calls.join(", ")), &values, out)?;
        commands += 1;
    }
    Ok(commands)
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
    let unnamed = &b""[..];
    Parse { statement: unnamed, query: sql.as_bytes(), parameter_types: Default::default() }.encode(out)?;
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
