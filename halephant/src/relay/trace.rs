//! The spans of one client: its session, and in it transactions, checkouts and statements.
//!
//! There is none of this where nothing is exported. A transaction is a trace of its own, linked to its session; where
//! a comment of its first statement names a trace, it belongs to that one.

use super::inspect::{string, text_of};
use crate::net::NodeAddress;
use crate::sql::{self, Dialect};
use crate::telemetry::settings::QueryText;
use crate::telemetry::trace::{Span, Tracer, attribute, parent_of};
use halephant_protocol::backend::TransactionStatus;
use halephant_protocol::frame::{HEADER_BYTES, parse_frontend_header};
use halephant_protocol::frontend::tag;
use std::collections::HashMap;

/// Most of a query's text that a span carries.
const TEXT_BYTES_MAX: usize = 16 * 1024;
/// Prepared statements whose summaries are remembered.
const REMEMBERED_MAX: usize = 256;

/// What spans say of every client of a pool and user.
#[derive(Clone, Debug)]
pub struct TraceSubject {
    pub cluster: String,
    pub pool: String,
    /// The database on the server.
    pub namespace: String,
    pub user: String,
}

#[derive(Debug)]
pub struct ClientTrace {
    tracer: Tracer,
    subject: TraceSubject,
    session: Span,
    transaction: Span,
    statement: Span,
    node: Option<NodeAddress>,
    /// Named prepared statements and what each does.
    prepared: HashMap<Vec<u8>, Described>,
}

/// What spans say of a query.
#[derive(Clone, Debug)]
struct Described {
    summary: String,
    text: Option<String>,
}

impl ClientTrace {
    pub fn new(tracer: Tracer, session: Span, subject: TraceSubject) -> Self {
        Self {
            tracer,
            subject,
            session,
            transaction: Span::default(),
            statement: Span::default(),
            node: None,
            prepared: HashMap::new(),
        }
    }

    pub fn session(&mut self) -> &mut Span {
        &mut self.session
    }

    /// A transaction begins with what the client has sent, unless one is open. `input`: at a message's begin.
    pub fn begin_transaction(&mut self, input: &[u8]) {
        if self.transaction.is_on() {
            return;
        }
        let link = self.session.reference();
        let text = match parse_frontend_header(input) {
            Ok(Some(header)) => text_of(header.tag, body(input, header.body_bytes)),
            _ => None,
        };
        let mut span = match text.and_then(parent_of) {
            Some(parent) => self.tracer.continued("proxy.transaction", &parent, link.as_ref()),
            None => self.tracer.root("proxy.transaction", link.as_ref()),
        };
        self.describe(&mut span);
        self.transaction = span;
    }

    /// The checkout that the transaction waits for.
    pub fn checkout(&self) -> Span {
        let mut span = self.tracer.child("pool.checkout", self.transaction.reference().as_ref());
        self.describe(&mut span);
        span
    }

    /// The transaction does not come about.
    pub fn refused(&mut self, kind: &'static str) {
        self.transaction.fail(kind);
        self.transaction = Span::default();
    }

    /// From now on the client works on this node.
    pub fn on_node(&mut self, node: &NodeAddress) {
        self.node = Some(node.clone());
        for span in [&mut self.transaction, &mut self.statement] {
            locate(span, node);
        }
    }

    /// A message of the client goes to the server. `input` begins with its header and holds at least a part of it.
    pub fn client_message(&mut self, tag: u8, body_bytes: u32, input: &[u8], dialect: Dialect) {
        let body = body(input, body_bytes);
        let described = match tag {
            tag::QUERY => text_of(tag, body).map(|text| self.described(text, dialect)),
            tag::PARSE => self.prepare(body, dialect),
            tag::BIND => self.prepared.get(bound_name(body)).cloned(),
            tag::FUNCTION_CALL => None,
            _ => return,
        };
        // The first message of a statement that says what it does describes it.
        if self.statement.is_on() {
            return;
        }
        self.begin_transaction(input);
        let mut span = self.tracer.child("proxy.statement", self.transaction.reference().as_ref());
        self.describe(&mut span);
        if let Some(node) = &self.node {
            locate(&mut span, node);
        }
        if let Some(Described { summary, text }) = described {
            span.set(attribute::DB_QUERY_SUMMARY, summary);
            text.into_iter().for_each(|text| span.set(attribute::DB_QUERY_TEXT, text));
        }
        self.statement = span;
    }

    /// The server answered with an error.
    pub fn error(&mut self, sqlstate: &str) {
        for span in [&mut self.statement, &mut self.transaction] {
            span.set(attribute::DB_RESPONSE_STATUS_CODE, sqlstate.to_owned());
            span.fail(sqlstate.to_owned());
        }
    }

    /// A ReadyForQuery.
    pub fn ready(&mut self, status: TransactionStatus) {
        self.statement = Span::default();
        if status == TransactionStatus::Idle {
            self.transaction = Span::default();
        }
    }

    /// The server connection is gone, whatever was under way.
    pub fn detach(&mut self) {
        self.statement = Span::default();
        self.transaction = Span::default();
        self.node = None;
    }

    fn describe(&self, span: &mut Span) {
        let TraceSubject { cluster, pool, namespace, user } = &self.subject;
        span.set(attribute::DB_SYSTEM_NAME, attribute::POSTGRESQL);
        span.set(attribute::DB_NAMESPACE, namespace.clone());
        span.set(attribute::DB_USER, user.clone());
        span.set(attribute::CLUSTER, cluster.clone());
        span.set(attribute::POOL_NAME, pool.clone());
    }

    fn prepare(&mut self, body: &[u8], dialect: Dialect) -> Option<Described> {
        let described = self.described(text_of(tag::PARSE, body)?, dialect);
        let name = string(body);
        if !name.is_empty() {
            if self.prepared.len() >= REMEMBERED_MAX {
                self.prepared.clear();
            }
            self.prepared.insert(name.to_vec(), described.clone());
        }
        Some(described)
    }

    fn described(&self, text: &[u8], dialect: Dialect) -> Described {
        let cut = &text[..text.len().min(TEXT_BYTES_MAX)];
        let text = match self.tracer.query_text() {
            QueryText::Off => None,
            QueryText::Raw => Some(String::from_utf8_lossy(cut).into_owned()),
            // Where it cannot be read as the server reads it, a literal could be taken for something else.
            QueryText::Sanitized if !dialect.can_lex(cut) => None,
            QueryText::Sanitized => {
                let mut sanitized = Vec::with_capacity(cut.len());
                sql::sanitize(cut, dialect, &mut sanitized);
                Some(String::from_utf8_lossy(&sanitized).into_owned())
            }
        };
        Described { summary: sql::summary(cut, dialect), text }
    }
}

fn locate(span: &mut Span, node: &NodeAddress) {
    span.set(attribute::SERVER_ADDRESS, node.host.clone());
    span.set(attribute::SERVER_PORT, i64::from(node.port));
}

/// What is there of the body of the message at the front of `input`.
fn body(input: &[u8], body_bytes: u32) -> &[u8] {
    let rest = input.get(HEADER_BYTES..).unwrap_or_default();
    &rest[..rest.len().min(body_bytes as usize)]
}

/// The statement that a Bind binds.
fn bound_name(body: &[u8]) -> &[u8] {
    body.get(string(body).len() + 1..).map(string).unwrap_or_default()
}
