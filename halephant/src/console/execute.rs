//! Carrying out one command, if whoever gives it may.

use super::command::Command;
use super::table::Table;
use super::{Control, OrderError, Rights, show};
use halephant_protocol::SqlState;
use halephant_protocol::backend::ErrorReport;

/// What a command led to.
#[derive(Debug)]
pub(super) enum Outcome {
    Table(Table),
    /// Its command tag.
    Done(&'static str),
}

/// The right is looked up anew for each command: a reload may have taken it away.
pub(super) async fn execute(
    command: &Command,
    user: &str,
    control: &dyn Control,
) -> Result<Outcome, ErrorReport> {
    let may = match control.rights(user) {
        Some(Rights::Everything) => true,
        Some(Rights::Look) => command.is_harmless(),
        None => false,
    };
    if !may {
        let report =
            ErrorReport::error(SqlState::INSUFFICIENT_PRIVILEGE, "permission denied for this command");
        return Err(report.hint("admin.users names who may give it."));
    }
    if !command.is_harmless() {
        tracing::warn!(user, ?command, "an order from the console");
    }
    let done = |result: Result<(), OrderError>, tag| result.map(|()| Outcome::Done(tag)).map_err(report);
    match command {
        Command::Show(shown) => Ok(Outcome::Table(show::show(*shown, control))),
        Command::Nothing(tag) => Ok(Outcome::Done(tag)),
        Command::Pause(database) => done(control.pause(database.as_deref()).await, "PAUSE"),
        Command::Resume(database) => done(control.resume(database.as_deref()), "RESUME"),
        Command::Reconnect(database) => done(control.reconnect(database.as_deref()), "RECONNECT"),
        Command::KillClient(id) => done(control.kill(*id), "KILL"),
        Command::Drain { node, draining: true } => done(control.drain(node, true), "DRAIN"),
        Command::Drain { node, draining: false } => done(control.drain(node, false), "UNDRAIN"),
        Command::Splice(on) => done(control.switch_splice(*on), "SPLICE"),
        Command::Reload => done(control.reload().await, "RELOAD"),
        Command::Shutdown => {
            control.shut_down();
            Ok(Outcome::Done("SHUTDOWN"))
        }
    }
}

fn report(error: OrderError) -> ErrorReport {
    let sqlstate = match error {
        OrderError::Unknown { .. } => SqlState::UNDEFINED_OBJECT,
        OrderError::ReloadRejected { .. } => SqlState::CONFIG_FILE_ERROR,
        OrderError::NoKernelPath(_) | OrderError::KernelFault => SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        OrderError::Timeout(_) => SqlState::QUERY_CANCELED,
    };
    ErrorReport::error(sqlstate, error.to_string())
}
