//! Opening a server connection: resolve, connect, StartupMessage, authentication, up to the first ReadyForQuery.

use super::authenticate::{Credentials, Dialog, KeyCache, LOGIN_BODY_BYTES_MAX};
use super::cancel::{CancelTarget, ask_for_tls};
use super::connection::ServerConnection;
use super::error::OpenError;
use super::parameters::ReportedParameters;
use super::settings::ParameterSettings;
use crate::net::{BeforeConnect, NodeAddress, ServerAddress, dial};
use crate::tls::{Connector, TlsMode};
use crate::wire::{MessageBuffer, ReadError, Stream};
use bytes::BytesMut;
use halephant_protocol::SqlState;
use halephant_protocol::backend::{self, BackendKeyData, TransactionStatus};
use halephant_protocol::startup::{ProtocolVersion, encode_startup_message};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;

/// As whom, and to what.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    pub database: &'a str,
    pub role: &'a str,
    pub parameters: &'a ParameterSettings,
    pub replication: Option<Replication>,
}

/// What a walsender is asked for, instead of an ordinary session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replication {
    /// Of the whole cluster; it belongs to no database.
    Physical,
    /// Of a database.
    Logical,
}

impl Replication {
    /// As the startup packet says it.
    fn value(self) -> &'static str {
        match self {
            Self::Physical => "true",
            Self::Logical => "database",
        }
    }
}

pub type OpenFuture<'a> = Pin<Box<dyn Future<Output = Result<ServerConnection, OpenError>> + Send + 'a>>;

/// Opens connections for a pool, with the credentials that its owner knows.
pub trait Opener: Send + Sync {
    fn open<'a>(&'a self, node: &'a NodeAddress, login: Login<'a>) -> OpenFuture<'a>;
}

/// Opens one connection within `timeout`, authentication included.
pub async fn open(
    node: &NodeAddress,
    login: Login<'_>,
    credentials: &Credentials,
    cache: &KeyCache,
    tls: Option<&Arc<Connector>>,
    before: &BeforeConnect,
    timeout: Duration,
) -> Result<ServerConnection, OpenError> {
    let opening = async {
        let (first, second) = Attempt::sequence(tls);
        match (open_once(node, first, login, credentials, cache, before).await, second) {
            (Err(error), Some(second)) if is_about_encryption(&error) => {
                open_once(node, second, login, credentials, cache, before).await
            }
            (outcome, _) => outcome,
        }
    };
    tokio::time::timeout(timeout, opening)
        .await
        .unwrap_or_else(|_| Err(OpenError::Timeout { node: node.to_string(), after: timeout }))
}

async fn open_once(
    node: &NodeAddress,
    attempt: Attempt,
    login: Login<'_>,
    credentials: &Credentials,
    cache: &KeyCache,
    before: &BeforeConnect,
) -> Result<ServerConnection, OpenError> {
    let (stream, address) = connect(node, before).await?;
    let channel = encrypt(node, stream, attempt).await?;
    log_in(&node.to_string(), channel, address, login, credentials, cache).await
}

/// One way to connect.
#[derive(Clone, Debug)]
enum Attempt {
    Plain,
    /// A server without TLS will do as well.
    Preferred(Arc<Connector>),
    Required(Arc<Connector>),
}

impl Attempt {
    /// The first way, and another where that does not work. libpq's order: `allow` asks for TLS where the server wants
    /// it, `prefer` does without.
    fn sequence(tls: Option<&Arc<Connector>>) -> (Self, Option<Self>) {
        let Some(tls) = tls else { return (Self::Plain, None) };
        let connector = || Arc::clone(tls);
        match tls.mode() {
            TlsMode::Disable => (Self::Plain, None),
            TlsMode::Allow => (Self::Plain, Some(Self::Required(connector()))),
            TlsMode::Prefer => (Self::Preferred(connector()), Some(Self::Plain)),
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => (Self::Required(connector()), None),
        }
    }
}

/// Whether a connection that is encrypted, or is not, might get on where this one did not: a password that is wrong is
/// wrong on both.
fn is_about_encryption(error: &OpenError) -> bool {
    match error {
        OpenError::Tls { .. } | OpenError::NoTls { .. } => true,
        OpenError::Refused { error, .. } => error.sqlstate == SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        _ => false,
    }
}

/// A connection before its login.
struct Channel {
    stream: Stream,
    /// What the login can be bound to.
    end_point: Option<Vec<u8>>,
    /// The login is to be bound, whether or not it can be.
    requires_binding: bool,
    /// How it was encrypted, if it was: cancels go the same way.
    connector: Option<Arc<Connector>>,
}

impl Channel {
    fn plain(stream: Stream, requires_binding: bool) -> Self {
        Self { stream, end_point: None, requires_binding, connector: None }
    }
}

async fn encrypt(node: &NodeAddress, stream: Stream, attempt: Attempt) -> Result<Channel, OpenError> {
    let (connector, required) = match attempt {
        Attempt::Plain => return Ok(Channel::plain(stream, false)),
        Attempt::Preferred(connector) => (connector, false),
        Attempt::Required(connector) => (connector, true),
    };
    let requires_binding = connector.requires_binding();
    // As libpq has it: the kernel keeps others off a Unix socket, whatever the mode.
    let Stream::Tcp(mut stream) = stream else { return Ok(Channel::plain(stream, requires_binding)) };
    let failed = |source| OpenError::Tls { node: node.to_string(), source };
    if !ask_for_tls(&mut stream).await.map_err(|error| failed(error.into()))? {
        return if required {
            Err(OpenError::NoTls { node: node.to_string() })
        } else {
            Ok(Channel::plain(Stream::Tcp(stream), requires_binding))
        };
    }
    let (stream, end_point) = connector.connect(stream, &node.host).await.map_err(failed)?;
    let stream = Stream::Tls(Box::new(stream));
    Ok(Channel { stream, end_point, requires_binding, connector: Some(connector) })
}

/// The name is resolved each time; every address that it stands for is tried.
async fn connect(node: &NodeAddress, before: &BeforeConnect) -> Result<(Stream, ServerAddress), OpenError> {
    let failed = |source| OpenError::Connect { node: node.to_string(), source };
    if let Some(path) = node.socket_path() {
        let stream = UnixStream::connect(&path).await.map_err(failed)?;
        return Ok((Stream::Unix(stream), ServerAddress::Unix(path.into())));
    }
    let resolve = |source| OpenError::Resolve { host: node.host.clone(), source };
    let addresses = tokio::net::lookup_host((node.host.as_str(), node.port)).await.map_err(resolve)?;
    let (stream, address) = dial(addresses, before).await.map_err(failed)?;
    Ok((Stream::Tcp(stream), ServerAddress::Tcp(address)))
}

async fn log_in(
    node: &str,
    channel: Channel,
    address: ServerAddress,
    login: Login<'_>,
    credentials: &Credentials,
    cache: &KeyCache,
) -> Result<ServerConnection, OpenError> {
    let Channel { mut stream, end_point, requires_binding, connector } = channel;
    let mut buffer = MessageBuffer::default();
    let mut packet = BytesMut::new();
    let options = login.parameters.options_text();
    let mut parameters = vec![("user", login.role), ("database", login.database)];
    parameters.extend(login.parameters.application_name.as_deref().map(|name| ("application_name", name)));
    parameters.extend(options.as_deref().map(|options| ("options", options)));
    parameters.extend(login.replication.map(|replication| ("replication", replication.value())));
    encode_startup_message(ProtocolVersion::V3_0, parameters, &mut packet)
        .map_err(|error| OpenError::Protocol { node: node.to_owned(), reason: error.to_string() })?;
    stream
        .write_all(&packet)
        .await
        .map_err(|error| OpenError::Lost { node: node.to_owned(), source: ReadError::Io(error) })?;
    let mut dialog = Dialog {
        node,
        role: login.role,
        stream: &mut stream,
        buffer: &mut buffer,
        credentials,
        cache,
        end_point,
        requires_binding,
    };
    dialog.authenticate().await?;
    let (cancel, reported) = first_ready(&mut dialog, address).await?;
    let cancel = match connector {
        Some(connector) => cancel.over(connector),
        None => cancel,
    };
    Ok(ServerConnection::new(stream, cancel, reported))
}

/// Takes what the server tells about the session, up to its first ReadyForQuery.
async fn first_ready(
    dialog: &mut Dialog<'_>,
    address: ServerAddress,
) -> Result<(CancelTarget, ReportedParameters), OpenError> {
    let mut reported = ReportedParameters::default();
    let mut cancel = None;
    loop {
        let message = dialog
            .buffer
            .read_message(dialog.stream, LOGIN_BODY_BYTES_MAX)
            .await
            .map_err(|source| OpenError::Lost { node: dialog.node.to_owned(), source })?;
        if message.tag == backend::tag::ERROR_RESPONSE {
            return Err(dialog.refused(&message.body));
        }
        match backend::Message::parse(message.tag, &message.body).map_err(|error| dialog.broken(error))? {
            backend::Message::BackendKeyData(BackendKeyData { process_id, secret_key }) => {
                cancel = Some(CancelTarget::new(dialog.node, address.clone(), process_id, secret_key));
            }
            backend::Message::ParameterStatus(status) => {
                let (name, value) =
                    (String::from_utf8_lossy(status.name), String::from_utf8_lossy(status.value));
                if !reported.set(&name, &value) {
                    return Err(dialog.broken("absurdly many parameters"));
                }
            }
            backend::Message::ReadyForQuery(ready) => {
                return match cancel {
                    Some(cancel)
                        if ready.status == TransactionStatus::Idle && dialog.buffer.bytes().is_empty() =>
                    {
                        Ok((cancel, reported))
                    }
                    Some(_) => Err(dialog.broken("a session that does not begin idle")),
                    None => Err(dialog.broken("no BackendKeyData")),
                };
            }
            backend::Message::NoticeResponse(_) => {}
            _ => {
                return Err(
                    dialog.broken(format!("message type {:?} before ReadyForQuery", char::from(message.tag)))
                );
            }
        }
    }
}
