//! What keeps a client on its server connection over transaction boundaries, and why.

use crate::server::parameters::is_parameter_name;
use crate::sql::effect::{Discard, Effect, Scope, Setting, Unknown, Value};

/// A reason to keep a client and a server connection together: session state that no other connection has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum PinReason {
    PreparedStatement = 1 << 0,
    Parameter = 1 << 1,
    Role = 1 << 2,
    Listen = 1 << 3,
    Cursor = 1 << 4,
    Load = 1 << 5,
    Temporary = 1 << 6,
    AdvisoryLock = 1 << 7,
    SessionObject = 1 << 8,
    /// A statement that cannot be read, or is too long to be.
    Unknown = 1 << 9,
}

impl PinReason {
    pub const ALL: [Self; 10] = [
        Self::PreparedStatement,
        Self::Parameter,
        Self::Role,
        Self::Listen,
        Self::Cursor,
        Self::Load,
        Self::Temporary,
        Self::AdvisoryLock,
        Self::SessionObject,
        Self::Unknown,
    ];

    /// The label in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PreparedStatement => "prepared_statement",
            Self::Parameter => "parameter",
            Self::Role => "role",
            Self::Listen => "listen",
            Self::Cursor => "cursor",
            Self::Load => "load",
            Self::Temporary => "temporary",
            Self::AdvisoryLock => "advisory_lock",
            Self::SessionObject => "session_object",
            Self::Unknown => "unknown",
        }
    }
}

/// The reasons that hold at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pins(u16);

impl Pins {
    pub const NONE: Self = Self(0);
    /// What DISCARD ALL takes back.
    pub const DISCARDED: Self = Self(!(PinReason::Load as u16 | PinReason::SessionObject as u16));

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = PinReason> {
        PinReason::ALL.into_iter().filter(move |&reason| self.contains(reason))
    }

    pub fn contains(self, reason: PinReason) -> bool {
        self.0 & reason as u16 != 0
    }

    /// Adds `reason`; whether it is new.
    pub fn insert(&mut self, reason: PinReason) -> bool {
        let new = !self.contains(reason);
        self.0 |= reason as u16;
        new
    }

    pub fn remove(&mut self, others: Self) {
        self.0 &= !others.0;
    }
}

impl From<PinReason> for Pins {
    fn from(reason: PinReason) -> Self {
        Self(reason as u16)
    }
}

/// What one effect of a statement means for the pins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consequence<'a> {
    Nothing,
    Pin(PinReason),
    /// Ends these pins once the server has confirmed it with the command's tag.
    Clear(Pins),
    /// The parameter may have another value from here on, which the server is to be asked for.
    Follow(&'a [u8], &'a Value<'a>),
    /// So may all that are set.
    FollowAll,
}

/// `is_reported`: whether the server reports changes of a parameter, so that they can be followed.
pub(super) fn consequence<'a>(
    effect: &'a Effect<'_>,
    is_reported: impl Fn(&[u8]) -> bool,
) -> Consequence<'a> {
    match effect {
        Effect::Setting(setting) => setting_consequence(setting, is_reported),
        Effect::ResetAll => Consequence::FollowAll,
        Effect::Discard(Discard::All) => Consequence::Clear(Pins::DISCARDED),
        Effect::Listen(_) => Consequence::Pin(PinReason::Listen),
        Effect::Unlisten(None) => Consequence::Clear(PinReason::Listen.into()),
        Effect::Prepare { .. } => Consequence::Pin(PinReason::PreparedStatement),
        Effect::Deallocate(None) => Consequence::Clear(PinReason::PreparedStatement.into()),
        Effect::DeclareCursor { hold: true, .. } => Consequence::Pin(PinReason::Cursor),
        Effect::Load => Consequence::Pin(PinReason::Load),
        Effect::CreateTemporary { on_commit_drop: false } | Effect::UseTemporary => {
            Consequence::Pin(PinReason::Temporary)
        }
        Effect::AdvisoryLock => Consequence::Pin(PinReason::AdvisoryLock),
        Effect::SessionObject(_) => Consequence::Pin(PinReason::SessionObject),
        // What the server will refuse changes nothing; what hides from the lexer may do anything.
        Effect::Unknown(Unknown::Encoding) => Consequence::Pin(PinReason::Unknown),
        Effect::Unknown(Unknown::Command | Unknown::Form) => Consequence::Pin(PinReason::Unknown),
        _ => Consequence::Nothing,
    }
}

/// Whether it leaves something in the session that DISCARD ALL does not take away: a library, a session object, the state of
/// `random()`.
pub(super) fn outlives_discard(effect: &Effect<'_>) -> bool {
    match effect {
        Effect::Load | Effect::SessionObject(_) => true,
        Effect::Setting(setting) => setting.scope != Scope::Local && setting.name.text() == Some(b"seed"),
        _ => false,
    }
}

fn setting_consequence<'a>(setting: &'a Setting<'_>, is_reported: impl Fn(&[u8]) -> bool) -> Consequence<'a> {
    if setting.scope == Scope::Local {
        return Consequence::Nothing;
    }
    match setting.name.text() {
        Some(b"session_authorization") => Consequence::Pin(PinReason::Role),
        // Of the current transaction alone, however it is set.
        Some(b"transaction_read_only" | b"transaction_isolation" | b"transaction_deferrable") => {
            Consequence::Nothing
        }
        Some(name) if setting.value != Value::Default && is_reported(name) => Consequence::Nothing,
        Some(name) if setting.value != Value::Default && !is_carried(name) => {
            Consequence::Pin(PinReason::Parameter)
        }
        Some(name) if std::str::from_utf8(name).is_ok_and(is_parameter_name) => {
            Consequence::Follow(name, &setting.value)
        }
        _ => Consequence::Pin(PinReason::Parameter),
    }
}

/// Whether a parameter's value can be read and given to another connection.
fn is_carried(name: &[u8]) -> bool {
    !matches!(
        name,
        // It cannot be read.
        b"seed"
        // A connection that has had temporary tables takes no other value.
        | b"temp_buffers"
        // The server would end a connection that nobody uses.
        | b"idle_session_timeout"
        // Our own statements would wait for other transactions.
        | b"default_transaction_deferrable"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{Dialect, classify};

    /// The consequences of a text, with only TimeZone reported.
    fn check(text: &str, expected: &[Consequence<'_>]) {
        let effects = classify(text.as_bytes(), Dialect::default());
        let found: Vec<_> = effects
            .iter()
            .map(|effect| consequence(effect, |name| name == b"timezone"))
            .filter(|consequence| *consequence != Consequence::Nothing)
            .collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn session_state_pins_and_says_why() {
        use Consequence::Pin;
        check("SELECT 1; INSERT INTO t VALUES (1)", &[]);
        check("BEGIN; SET LOCAL work_mem = '1MB'; COMMIT", &[]);
        check("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", &[]);
        check("set /* c */ TimeZone to 'UTC'", &[]);
        // The name comes with each Bind; with `true`, whatever it is, it is the transaction's.
        check("SELECT set_config($1, $2, false)", &[Pin(PinReason::Parameter)]);
        check("SELECT set_config($1, $2, $3)", &[Pin(PinReason::Parameter)]);
        check("SELECT set_config($1, $2, true)", &[]);
        check("SELECT set_config($1, $2, 't'), pg_catalog.set_config($3, $4, true)", &[]);
        check("SET SESSION AUTHORIZATION app", &[Pin(PinReason::Role)]);
        check("LISTEN a", &[Pin(PinReason::Listen)]);
        check("PREPARE a AS SELECT 1", &[Pin(PinReason::PreparedStatement)]);
        check("DECLARE c CURSOR WITH HOLD FOR SELECT 1", &[Pin(PinReason::Cursor)]);
        check("DECLARE c CURSOR FOR SELECT 1", &[]);
        check("LOAD 'auto_explain'", &[Pin(PinReason::Load)]);
        check("CREATE TEMP TABLE t (a int)", &[Pin(PinReason::Temporary)]);
        check("CREATE TEMP TABLE t (a int) ON COMMIT DROP", &[]);
        check("SELECT pg_advisory_lock(1)", &[Pin(PinReason::AdvisoryLock)]);
        check("SELECT pg_advisory_xact_lock(1)", &[]);
    }

    #[test]
    fn pins_end_where_their_cause_does() {
        use Consequence::Clear;
        check("DISCARD ALL", &[Clear(Pins::DISCARDED)]);
        check("UNLISTEN *", &[Clear(PinReason::Listen.into())]);
        check("UNLISTEN a", &[]);
        check("DEALLOCATE ALL", &[Clear(PinReason::PreparedStatement.into())]);
    }

    #[test]
    fn parameters_that_are_not_reported_are_asked_for() {
        use Consequence::{Follow, FollowAll, Pin};
        let text = |text: &'static [u8]| Value::Text(text.into());
        check("SET work_mem = '1MB'", &[Follow(b"work_mem", &text(b"1MB"))]);
        check("SET LOCAL work_mem = '1MB'", &[]);
        check("SELECT set_config('work_mem', '1MB', false)", &[Follow(b"work_mem", &text(b"1MB"))]);
        check("SELECT set_config('My.guc', $1, $2)", &[Follow(b"my.guc", &Value::Parameter(1))]);
        check("SET ROLE app", &[Follow(b"role", &text(b"app"))]);
        check("SET search_path FROM CURRENT", &[Follow(b"search_path", &Value::Unknown)]);
        check("SET temp_buffers = 100", &[Pin(PinReason::Parameter)]);
        check("SET \"a b\" = 100", &[Pin(PinReason::Parameter)]);
        check("RESET ALL", &[FollowAll]);
        check("RESET TimeZone", &[Follow(b"timezone", &Value::Default)]);
        check("SET temp_buffers TO DEFAULT", &[Follow(b"temp_buffers", &Value::Default)]);
    }

    #[test]
    fn reasons_are_kept_apart() {
        let mut pins = Pins::NONE;
        assert!(pins.insert(PinReason::Listen));
        assert!(!pins.insert(PinReason::Listen));
        assert!(pins.insert(PinReason::Load));
        assert_eq!(pins.iter().collect::<Vec<_>>(), [PinReason::Listen, PinReason::Load]);
        pins.remove(PinReason::Listen.into());
        assert_eq!(pins, PinReason::Load.into());
        pins.insert(PinReason::Temporary);
        pins.remove(Pins::DISCARDED);
        assert_eq!(pins, PinReason::Load.into());
    }

    #[test]
    fn some_outlives_discard_all() {
        let outlives = |text: &str| {
            let effects = classify(text.as_bytes(), Dialect::default());
            effects.iter().any(outlives_discard)
        };
        for text in
            ["LOAD 'auto_explain'", "SELECT dblink_connect('a', '')", "SELECT setseed(0.5)", "SET seed = 0.5"]
        {
            assert!(outlives(text), "{text}");
        }
        for text in [
            "SET work_mem = '1MB'",
            "SET LOCAL seed = 0.5",
            "CREATE TEMP TABLE t (a int)",
            "SELECT 'setseed'",
        ] {
            assert!(!outlives(text), "{text}");
        }
    }
}
