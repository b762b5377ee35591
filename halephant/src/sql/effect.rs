//! What a text does to the session that runs it, as far as the text tells.
//!
//! An effect holds only if the server answers its statement with CommandComplete, and inside a transaction only if that
//! commits, where the manual says so. What a function of the user's does is not seen.

use super::literal::Datum;
use std::borrow::Cow;
use std::ops::Range;

/// The statements of a text, in order: the server answers each with one CommandComplete, up to the first error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects<'a> {
    pub statements: Vec<Statement<'a>>,
}

/// One statement and what it does; most do nothing to the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement<'a> {
    /// Where it is in the text.
    pub span: Range<usize>,
    pub effects: Vec<Effect<'a>>,
}

impl<'a> Effects<'a> {
    /// The effects of all statements, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Effect<'a>> {
        self.statements.iter().flat_map(|statement| &statement.effects)
    }

    /// Whether no statement has an effect.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.statements.iter().all(|statement| statement.effects.is_empty())
    }
}

/// One thing that a statement does to its session, or needs of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect<'a> {
    Transaction(Transaction<'a>),
    /// SET, RESET of one parameter, `set_config()` and what has the same effect.
    Setting(Setting<'a>),
    ResetAll,
    Discard(Discard),
    Listen(Datum<'a>),
    /// `None` is `UNLISTEN *`.
    Unlisten(Option<Datum<'a>>),
    /// NOTIFY, `pg_notify()`.
    Notify(Datum<'a>),
    /// SQL's PREPARE; `body` is what each EXECUTE of it does.
    Prepare {
        name: Datum<'a>,
        body: Vec<Effect<'a>>,
    },
    /// EXECUTE, also inside EXPLAIN and CREATE TABLE AS.
    Execute(Datum<'a>),
    /// `None` is `DEALLOCATE ALL`.
    Deallocate(Option<Datum<'a>>),
    /// `hold`: the cursor outlives its transaction. What its query does is listed beside it.
    DeclareCursor {
        name: Datum<'a>,
        hold: bool,
    },
    /// `None` is `CLOSE ALL`.
    CloseCursor(Option<Datum<'a>>),
    Load,
    /// `on_commit_drop`: the table goes with its transaction.
    CreateTemporary {
        on_commit_drop: bool,
    },
    /// A name in `pg_temp`, also in a search_path.
    UseTemporary,
    /// A session-level lock: `pg_advisory_lock()`, `pg_try_advisory_lock()` and their `_shared` forms.
    AdvisoryLock,
    /// `all`: `pg_advisory_unlock_all()`, after which the session holds none.
    AdvisoryUnlock {
        all: bool,
    },
    Sequence(Sequence),
    SessionObject(SessionObject),
    /// `client`: the rows go over the connection, rather than to or from a file or program of the server's.
    Copy {
        direction: CopyDirection,
        client: bool,
    },
    /// The server runs code that the text does not show, or shows as a string.
    Opaque(Opaque),
    /// Nothing is known about the statement: it may do anything above.
    Unknown(Unknown),
}

/// Transaction control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transaction<'a> {
    Begin(TransactionModes),
    /// COMMIT, END.
    Commit {
        chain: bool,
    },
    /// ROLLBACK, ABORT.
    Rollback {
        chain: bool,
    },
    Savepoint(Datum<'a>),
    Release(Datum<'a>),
    RollbackTo(Datum<'a>),
    /// PREPARE TRANSACTION: ends the transaction for this session.
    Prepare(Datum<'a>),
    CommitPrepared(Datum<'a>),
    RollbackPrepared(Datum<'a>),
    /// SET TRANSACTION: of the current transaction alone.
    Set(TransactionModes),
    /// SET TRANSACTION SNAPSHOT.
    Snapshot,
}

/// Transaction modes that a statement names; the last one counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TransactionModes {
    pub read_only: Option<bool>,
    pub isolation: Option<Isolation>,
    pub deferrable: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

impl Isolation {
    /// The value of `transaction_isolation`.
    #[must_use]
    pub fn value(self) -> &'static str {
        match self {
            Isolation::ReadUncommitted => "read uncommitted",
            Isolation::ReadCommitted => "read committed",
            Isolation::RepeatableRead => "repeatable read",
            Isolation::Serializable => "serializable",
        }
    }
}

/// A change of one parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting<'a> {
    /// The parameter's name in lower case, with the short forms spelled out: `timezone` for TIME ZONE, `role` for ROLE,
    /// `session_authorization`, `client_encoding` for NAMES, `search_path` for SCHEMA.
    pub name: Datum<'a>,
    pub scope: Scope,
    pub value: Value<'a>,
    /// Whether the statement surely makes this change: a `set_config()` in a list that might have no rows is not sure to.
    pub certain: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Until the session ends or changes it again.
    Session,
    /// Until the transaction ends; without one, for nothing.
    Local,
    Unknown,
}

/// What a parameter is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// The session's default, as RESET.
    Default,
    /// The text that `set_config()` takes for the same effect.
    Text(Cow<'a, [u8]>),
    /// `$n`: what Bind gives it.
    Parameter(u32),
    Unknown,
}

impl<'a> From<Datum<'a>> for Value<'a> {
    fn from(datum: Datum<'a>) -> Self {
        match datum {
            Datum::Text(text) => Value::Text(text),
            Datum::Parameter(number) => Value::Parameter(number),
            Datum::Null => Value::Default,
            Datum::Unknown => Value::Unknown,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    All,
    Plans,
    Sequences,
    Temporary,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sequence {
    /// `nextval()`, `setval()`: what `currval()` of this session returns from now on.
    Advance,
    /// `currval()`, `lastval()`: what this session advanced before.
    Recall,
}

/// Something the session keeps beyond its transactions, that nothing but the session's end surely takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionObject {
    /// A connection of dblink's.
    RemoteConnection,
    /// A replication slot, which may be a temporary one.
    ReplicationSlot,
    ReplicationOrigin,
    /// A base backup between its start and its stop.
    Backup,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyDirection {
    /// COPY FROM.
    In,
    /// COPY TO.
    Out,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opaque {
    Do,
    Call,
}

/// Why nothing is known about a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// The text's encoding hides from a lexer what the server will read.
    Encoding,
    /// It begins with no command of PostgreSQL's.
    Command,
    /// A command in a form that it does not have.
    Form,
}
