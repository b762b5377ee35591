//! The connection that listens: opened when somebody wants it, reopened when it is lost, and led to the primary.

use super::listener::{Ask, Listener};
use crate::net::Role;
use crate::server::error::ServerError;
use crate::server::settings::ParameterSettings;
use crate::server::{Login, OpenError, ServerConnection};
use crate::topology::Node;
use crate::wire::messages::Message;
use crate::wire::{MessageBuffer, ReadError};
use bytes::BytesMut;
use halephant_protocol::backend::{self, NotificationResponse, TransactionStatus};
use halephant_protocol::frontend::{Query, Sync};
use halephant_protocol::{EncodeError, ParseError};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

/// How the connection calls itself in `pg_stat_activity`.
const APPLICATION_NAME: &str = "halephant listener";
/// Largest message that is believed: payloads have less than 8,000 bytes, in another encoding up to four times as many.
const BODY_BYTES_MAX: u32 = 64 * 1024;
/// Statements that are sent without waiting for their answers.
const ASKED_MAX: usize = 200;
/// How long the server may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A silent connection is asked after this time whether it is still there.
const SILENCE: Duration = Duration::from_secs(15);
/// How long a connection stays that nobody needs.
const LINGER: Duration = Duration::from_secs(10);
const BACK_OFF_MIN: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);
/// Pauses are not cut shorter than this.
const PAUSE_MIN: Duration = Duration::from_millis(500);

#[derive(Debug, thiserror::Error)]
enum ListenerError {
    #[error("the cluster has no primary")]
    NoPrimary,
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] io::Error),
    #[error("the server broke the protocol: {0}")]
    Parse(#[from] ParseError),
    #[error("a statement cannot be sent: {0}")]
    Encode(#[from] EncodeError),
    #[error("the server said something out of place")]
    OutOfPlace,
    #[error("the server refused to listen again: {0}")]
    Refused(String),
    #[error("the server ended the session: {0}")]
    Ended(ServerError),
    #[error("the server did not answer in time")]
    Timeout,
    #[error("the node is no longer the primary")]
    NodeLeft,
}

/// Keeps a connection for as long as anybody is subscribed.
pub(super) async fn run(listener: Arc<Listener>) {
    let origin = format!("{:?}", listener.origin);
    let mut wait = BACK_OFF_MIN;
    loop {
        let mut changes = listener.origin.cluster.changes();
        let (began, end) = (Instant::now(), serve(&listener).await);
        listener.disconnected();
        let error = match end {
            Ok(()) if listener.stop() => return,
            Ok(()) => continue,
            Err(error) => error,
        };
        tracing::warn!(listener = origin, %error, "nobody listens for the clients; trying again");
        if let ListenerError::Open(error) = &error
            && error.is_permanent()
        {
            listener.refuse_all(&error.to_string());
        }
        if !listener.is_used() && listener.stop() {
            return;
        }
        listener.origin.cluster.refresh();
        wait = if began.elapsed() > BACK_OFF_MAX { BACK_OFF_MIN } else { (2 * wait).min(BACK_OFF_MAX) };
        pause(&listener, wait.mul_f64(rand::random_range(0.5..=1.0)), &mut changes).await;
    }
}

/// Waits before the next attempt: less where somebody begins to wait for it, or a node may have become what is looked for.
async fn pause(listener: &Listener, wait: Duration, changes: &mut watch::Receiver<u64>) {
    tokio::time::sleep(wait.min(PAUSE_MIN)).await;
    tokio::select! {
        () = tokio::time::sleep(wait.saturating_sub(PAUSE_MIN)) => {}
        () = listener.work.notified() => {}
        _ = changes.changed() => {}
    }
}

/// One connection from its opening to its end. `Ok`: nobody needs it any more.
async fn serve(listener: &Listener) -> Result<(), ListenerError> {
    let origin = &listener.origin;
    let nodes = origin.cluster.nodes();
    let primary = nodes.iter().find(|(_, node)| node.role() == Some(Role::Primary));
    let (_, node) = primary.ok_or(ListenerError::NoPrimary)?;
    let tenure = node.tenure();
    let parameters = ParameterSettings {
        application_name: Some(APPLICATION_NAME.into()),
        options: [("client_encoding".to_owned(), origin.encoding.clone())].into(),
    };
    let (database, role) = (&*origin.database, &*origin.role);
    let login = Login { database, role, parameters: &parameters, replication: None };
    let connection = origin.opener.open(&node.address, login).await?;
    let process_id = connection.cancel.process_id();
    listener.connected(node.address.to_string(), process_id);
    tracing::info!(listener = ?origin, node = %node.address, process_id, "a connection listens for the clients");
    let mut link = Link {
        listener,
        connection,
        buffer: MessageBuffer::default(),
        asked: VecDeque::new(),
        error: None,
        deadline: Instant::now() + ANSWER_TIMEOUT,
    };
    let end = link.listen(node, tenure).await;
    if end.is_ok() {
        // Nobody is kept waiting for it.
        tokio::spawn(link.connection.close());
    }
    end
}

struct Link<'a> {
    listener: &'a Listener,
    connection: ServerConnection,
    buffer: MessageBuffer,
    /// What was asked and not answered yet.
    asked: VecDeque<Ask>,
    /// The server's answer to the first of them is an error.
    error: Option<ServerError>,
    /// When the server must have answered, or is asked whether it is still there.
    deadline: Instant,
}

impl Link<'_> {
    async fn listen(&mut self, node: &Node, tenure: u32) -> Result<(), ListenerError> {
        let mut changes = self.listener.origin.cluster.changes();
        // While the connection was opened nobody looked.
        if self.has_left(node, tenure) {
            return Err(ListenerError::NodeLeft);
        }
        let mut unused_since: Option<Instant> = None;
        loop {
            if self.asked.is_empty() {
                self.ask(self.listener.take_work(ASKED_MAX)).await?;
            }
            unused_since = match unused_since {
                _ if self.listener.is_used() => None,
                Some(since) if since.elapsed() >= LINGER => return Ok(()),
                since => since.or(Some(Instant::now())),
            };
            let deadline = unused_since.map_or(self.deadline, |since| self.deadline.min(since + LINGER));
            tokio::select! {
                message = self.buffer.read_message(&mut self.connection.stream, BODY_BYTES_MAX) => {
                    self.take(message?)?;
                }
                () = self.listener.work.notified(), if self.asked.is_empty() => {}
                changed = changes.changed() => {
                    if changed.is_err() || self.has_left(node, tenure) {
                        return Err(ListenerError::NodeLeft);
                    }
                }
                () = tokio::time::sleep_until(deadline) => self.overdue().await?,
            }
        }
    }

    /// Whether another node is to be listened on.
    fn has_left(&self, node: &Node, tenure: u32) -> bool {
        let replaced =
            node.assessed_role() != Some(Role::Primary) && self.listener.origin.cluster.has(Role::Primary);
        !node.is_configured() || node.tenure() != tenure || replaced
    }

    async fn overdue(&mut self) -> Result<(), ListenerError> {
        if Instant::now() < self.deadline {
            return Ok(());
        }
        match self.asked.is_empty() {
            true => self.ask(vec![Ask::Barrier(Vec::new())]).await,
            false => Err(ListenerError::Timeout),
        }
    }

    async fn ask(&mut self, asks: Vec<Ask>) -> Result<(), ListenerError> {
        if asks.is_empty() {
            return Ok(());
        }
        let mut out = BytesMut::new();
        for ask in &asks {
            match ask {
                Ask::Listen(channel) => Query { query: &channel.statement("LISTEN") }.encode(&mut out)?,
                Ask::Unlisten(channel) => Query { query: &channel.statement("UNLISTEN") }.encode(&mut out)?,
                Ask::Barrier(_) => Sync.encode(&mut out),
            }
        }
        self.asked.extend(asks);
        self.deadline = Instant::now() + ANSWER_TIMEOUT;
        // So little that the server takes it whatever it is about to send.
        let sent = tokio::time::timeout(ANSWER_TIMEOUT, self.connection.stream.write_all(&out)).await;
        Ok(sent.map_err(|_| ListenerError::Timeout)??)
    }

    fn take(&mut self, message: Message) -> Result<(), ListenerError> {
        if self.asked.is_empty() {
            self.deadline = Instant::now() + SILENCE;
        }
        match backend::Message::parse(message.tag, &message.body)? {
            backend::Message::NotificationResponse(notification) => self.notify(&notification)?,
            backend::Message::ReadyForQuery(ready) if ready.status == TransactionStatus::Idle => {
                let answered = self.asked.pop_front().ok_or(ListenerError::OutOfPlace)?;
                self.deadline = Instant::now() + if self.asked.is_empty() { SILENCE } else { ANSWER_TIMEOUT };
                self.answered(answered)?;
            }
            backend::Message::ErrorResponse(fields) => {
                let error = ServerError::from_fields(&fields);
                if fields.severity().is_none_or(|severity| severity.ends_session()) || self.asked.is_empty() {
                    return Err(ListenerError::Ended(error));
                }
                self.error.get_or_insert(error);
            }
            backend::Message::CommandComplete(_) if !self.asked.is_empty() => {}
            backend::Message::NoticeResponse(_) | backend::Message::ParameterStatus(_) => {}
            _ => return Err(ListenerError::OutOfPlace),
        }
        Ok(())
    }

    fn notify(&self, notification: &NotificationResponse<'_>) -> Result<(), ListenerError> {
        // Encoded anew: what the clients get is a whole message, whatever was read.
        let mut message = BytesMut::new();
        notification.encode(&mut message)?;
        self.listener.dispatch(notification.channel, &message.freeze());
        Ok(())
    }

    fn answered(&mut self, ask: Ask) -> Result<(), ListenerError> {
        let error = self.error.take();
        match (ask, error) {
            (Ask::Listen(channel), None) => self.listener.in_force(&channel),
            (Ask::Listen(channel), Some(error)) => {
                let error = error.to_string();
                if self.listener.refused(&channel, &error) {
                    return Err(ListenerError::Refused(error));
                }
            }
            // What stays listened on by mistake is thrown away.
            (Ask::Unlisten(_), _) => {}
            (Ask::Barrier(waiting), _) => {
                for sender in waiting {
                    let _: Result<(), ()> = oneshot::Sender::send(sender, ());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
