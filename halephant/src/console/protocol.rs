//! The console's end of the protocol: queries, and the extended protocol's statements and portals.

use super::Control;
use super::command::{self, Command};
use super::execute::{Outcome, execute};
use super::show;
use super::table::{Row, encode_description, encode_row};
use crate::cancel::{ClientState, SessionHandle, Signal};
use crate::wire::{MessageBuffer, ReadError, Stream};
use bytes::BytesMut;
use halephant_protocol::backend::{
    BindComplete, CloseComplete, CommandComplete, EmptyQueryResponse, ErrorReport, NoData,
    ParameterDescription, ParseComplete, PortalSuspended, ReadyForQuery, TransactionStatus,
};
use halephant_protocol::frontend::{Message, Target, tag};
use halephant_protocol::list::Oids;
use halephant_protocol::{EncodeError, SqlState};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

/// Commands are short.
const BODY_BYTES_MAX: u32 = 64 * 1024;
/// Prepared statements, and portals, of one client.
const NAMES_MAX: usize = 64;

/// How a console session ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("terminated")]
    Terminated,
    #[error("shutdown")]
    Shutdown,
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Parse(#[from] halephant_protocol::ParseError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Serves a client that is logged in, to its end. Returns why it ended, for the log.
pub async fn serve(
    stream: Stream,
    buffer: MessageBuffer,
    user: &str,
    handle: &SessionHandle,
    control: Arc<dyn Control>,
) -> String {
    let mut session = Session {
        stream,
        buffer,
        user,
        handle,
        control,
        out: BytesMut::new(),
        statements: HashMap::new(),
        portals: HashMap::new(),
        skipping: false,
    };
    let ended = session.run().await;
    if matches!(ended, Ended::Shutdown | Ended::Parse(_)) {
        let report = match ended {
            Ended::Parse(_) => ErrorReport::fatal(SqlState::PROTOCOL_VIOLATION, ended.to_string()),
            _ => ErrorReport::fatal(
                SqlState::ADMIN_SHUTDOWN,
                "terminating connection due to administrator command",
            ),
        };
        report.encode_error(&mut session.out);
        // The client may be gone.
        let _ = session.flush().await;
        let _ = session.stream.shutdown().await;
    }
    ended.to_string()
}

/// Ready when one of the signals was given.
async fn told(handle: &SessionHandle, signals: &[Signal]) {
    std::future::poll_fn(|cx| {
        handle.register(cx.waker());
        if signals.iter().any(|signal| handle.has(*signal)) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

struct Session<'a> {
    stream: Stream,
    buffer: MessageBuffer,
    user: &'a str,
    handle: &'a SessionHandle,
    control: Arc<dyn Control>,
    out: BytesMut,
    /// `None`: an empty text.
    statements: HashMap<String, Option<Command>>,
    portals: HashMap<String, Portal>,
    /// After an error: everything up to Sync is passed over.
    skipping: bool,
}

#[derive(Default)]
struct Portal {
    command: Option<Command>,
    /// Rows that an Execute with a limit has left.
    rest: Option<VecDeque<Row>>,
}

impl Session<'_> {
    async fn run(&mut self) -> Ended {
        loop {
            match self.turn().await {
                Ok(()) => {}
                Err(ended) => return ended,
            }
        }
    }

    /// One message.
    async fn turn(&mut self) -> Result<(), Ended> {
        let handle = self.handle;
        let message = tokio::select! {
            message = self.buffer.read_message(&mut self.stream, BODY_BYTES_MAX) => message?,
            () = told(handle, &[Signal::Stop, Signal::Drain]) => return Err(Ended::Shutdown),
        };
        handle.client().enter(ClientState::Active, Instant::now());
        handle.set_cancellable();
        let outcome = tokio::select! {
            // A command that is done was not cancelled; SHUTDOWN's own signal comes after its answer.
            biased;
            outcome = self.message(Message::parse(message.tag, &message.body)?) => outcome,
            () = told(handle, &[Signal::Stop, Signal::Drain]) => return Err(Ended::Shutdown),
            () = told(handle, &[Signal::Cancel]) => {
                let text = "canceling statement due to user request";
                Ok(Err(ErrorReport::error(SqlState::QUERY_CANCELED, text)))
            }
        };
        handle.set_idle();
        match outcome? {
            Ok(()) => {}
            Err(report) => {
                report.encode_error(&mut self.out);
                if message.tag == tag::QUERY {
                    self.ready();
                } else {
                    self.skipping = true;
                }
            }
        }
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), Ended> {
        let out = self.out.split();
        Ok(self.stream.write_all(&out).await?)
    }

    fn ready(&mut self) {
        ReadyForQuery { status: TransactionStatus::Idle }.encode(&mut self.out);
    }

    /// The inner error is told to the client.
    async fn message(&mut self, message: Message<'_>) -> Result<Result<(), ErrorReport>, Ended> {
        match message {
            Message::Terminate(_) => return Err(Ended::Terminated),
            Message::Sync(_) => {
                self.skipping = false;
                self.portals.clear();
                self.ready();
            }
            _ if self.skipping => {}
            Message::Query(query) => return self.query(query.query).await,
            Message::Parse(parse) => {
                let commands = match commands(parse.query) {
                    Ok(commands) => commands,
                    Err(report) => return Ok(Err(report)),
                };
                if commands.len() > 1 {
                    let text = "cannot insert multiple commands into a prepared statement";
                    return Ok(Err(ErrorReport::error(SqlState::SYNTAX_ERROR, text)));
                }
                if self.statements.len() >= NAMES_MAX {
                    return Ok(Err(too_many()));
                }
                self.statements.insert(name(parse.statement), commands.into_iter().next());
                ParseComplete.encode(&mut self.out);
            }
            Message::Bind(bind) => {
                let Some(command) = self.statements.get(&name(bind.statement)).cloned() else {
                    return Ok(Err(unknown(Target::Statement, bind.statement)));
                };
                if self.portals.len() >= NAMES_MAX {
                    return Ok(Err(too_many()));
                }
                self.portals.insert(name(bind.portal), Portal { command, rest: None });
                BindComplete.encode(&mut self.out);
            }
            Message::Describe(describe) => {
                let command = match describe.target {
                    Target::Statement => self.statements.get(&name(describe.name)).cloned(),
                    Target::Portal => {
                        self.portals.get(&name(describe.name)).map(|portal| portal.command.clone())
                    }
                };
                let Some(command) = command else { return Ok(Err(unknown(describe.target, describe.name))) };
                if describe.target == Target::Statement {
                    ParameterDescription { parameter_types: Oids::new(&[]) }.encode(&mut self.out)?;
                }
                match command {
                    Some(Command::Show(shown)) => encode_description(show::columns(shown), &mut self.out)?,
                    _ => NoData.encode(&mut self.out),
                }
            }
            Message::Execute(run) => return self.execute(run.portal, run.rows_max).await,
            Message::Close(close) => {
                match close.target {
                    Target::Statement => drop(self.statements.remove(&name(close.name))),
                    Target::Portal => drop(self.portals.remove(&name(close.name))),
                }
                CloseComplete.encode(&mut self.out);
            }
            Message::Flush(_) => {}
            // Outside of a COPY its messages are ignored.
            Message::CopyData(_) | Message::CopyDone(_) | Message::CopyFail(_) => {}
            _ => {
                let text = "the console takes no such message";
                return Ok(Err(ErrorReport::error(SqlState::FEATURE_NOT_SUPPORTED, text)));
            }
        }
        Ok(Ok(()))
    }

    async fn query(&mut self, text: &[u8]) -> Result<Result<(), ErrorReport>, Ended> {
        let commands = match commands(text) {
            Ok(commands) => commands,
            Err(report) => return Ok(Err(report)),
        };
        if commands.is_empty() {
            EmptyQueryResponse.encode(&mut self.out);
        }
        for command in commands {
            match execute(&command, self.user, &*self.control).await {
                Ok(Outcome::Table(table)) => {
                    encode_description(table.columns, &mut self.out)?;
                    for row in &table.rows {
                        encode_row(row, &mut self.out)?;
                    }
                    self.complete("SHOW")?;
                }
                Ok(Outcome::Done(tag)) => self.complete(tag)?,
                Err(report) => return Ok(Err(report)),
            }
        }
        self.ready();
        Ok(Ok(()))
    }

    async fn execute(&mut self, portal: &[u8], rows_max: i32) -> Result<Result<(), ErrorReport>, Ended> {
        let Some(found) = self.portals.get_mut(&name(portal)) else {
            return Ok(Err(unknown(Target::Portal, portal)));
        };
        let Some(command) = found.command.clone() else {
            EmptyQueryResponse.encode(&mut self.out);
            return Ok(Ok(()));
        };
        let mut rows = match found.rest.take() {
            Some(rest) => rest,
            None => match execute(&command, self.user, &*self.control).await {
                Ok(Outcome::Table(table)) => table.rows.into(),
                Ok(Outcome::Done(tag)) => return Ok(Ok(self.complete(tag)?)),
                Err(report) => return Ok(Err(report)),
            },
        };
        let limit = usize::try_from(rows_max).ok().filter(|limit| *limit > 0);
        let now = limit.map_or(rows.len(), |limit| rows.len().min(limit));
        for row in rows.drain(..now) {
            encode_row(&row, &mut self.out)?;
        }
        if rows.is_empty() {
            found.rest = Some(rows);
            self.complete("SHOW")?;
        } else {
            found.rest = Some(rows);
            PortalSuspended.encode(&mut self.out);
        }
        Ok(Ok(()))
    }

    fn complete(&mut self, tag: &str) -> Result<(), Ended> {
        Ok(CommandComplete { command_tag: tag.as_bytes() }.encode(&mut self.out)?)
    }
}

fn name(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn commands(text: &[u8]) -> Result<Vec<Command>, ErrorReport> {
    command::parse(&String::from_utf8_lossy(text)).map_err(|error| {
        ErrorReport::error(SqlState::SYNTAX_ERROR, error.to_string()).hint("SHOW HELP lists the commands.")
    })
}

fn unknown(target: Target, name: &[u8]) -> ErrorReport {
    let (sqlstate, what) = match target {
        Target::Statement => (SqlState::INVALID_SQL_STATEMENT_NAME, "prepared statement"),
        Target::Portal => (SqlState::INVALID_CURSOR_NAME, "portal"),
    };
    ErrorReport::error(sqlstate, format!("{what} \"{}\" does not exist", String::from_utf8_lossy(name)))
}

fn too_many() -> ErrorReport {
    ErrorReport::error(
        SqlState::PROGRAM_LIMIT_EXCEEDED,
        format!("the console keeps at most {NAMES_MAX} statements and portals"),
    )
}
