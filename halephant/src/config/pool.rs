//! `[cluster.<name>.pool.<database>]` and its users, with the rules that hold between them.

use super::document::{Table, number, type_name};
use super::findings::Reported;
use super::kind::{ApplicationName, Choice, FROM_MILLISECOND, FROM_ZERO, Identifier};
use super::problem::{Problem, Quoted, by_role};
use super::sections::CLIENTS_MAX;
use crate::pool::settings::{
    ClientTimeouts, ListenMode, PinMode, PoolMode, PoolSettings, RoleLimits, UserSettings,
};
use crate::server::settings::{OPTIONS_BYTES_MAX, ParameterSettings};
use std::time::Duration;
use toml::de::{DeTable, DeValue};

const MODES: Choice<PoolMode> = Choice(&[
    ("transaction", PoolMode::Transaction),
    ("statement", PoolMode::Statement),
    ("session", PoolMode::Session),
]);
const LISTEN_MODES: Choice<ListenMode> =
    Choice(&[("pin", ListenMode::Pin), ("multiplex", ListenMode::Multiplex)]);
const PIN_MODES: Choice<PinMode> = Choice(&[("allow", PinMode::Allow), ("deny", PinMode::Deny)]);
const MAX_CONNECTIONS_DEFAULT: RoleLimits = RoleLimits { primary: 100, replica: 0 };

/// What a pool has from `[server]` where it says nothing itself; known even where another key is wrong.
#[derive(Clone, Copy)]
pub(super) struct Inherited {
    pub(super) checkout_timeout: Result<Duration, Reported>,
    pub(super) client_login_timeout: Result<Duration, Reported>,
}

pub(super) fn read(
    name: String,
    pool: &mut Table<'_>,
    inherited: Inherited,
) -> Result<PoolSettings, Reported> {
    let database = pool.optional("database", "the section's name", Identifier);
    let mode = pool.text("mode", "transaction", MODES);
    let listen_mode = pool.text("listen_mode", "pin", LISTEN_MODES);
    let pin = pool.text("pin", "allow", PIN_MODES).and_then(|pin| match mode {
        Ok(PoolMode::Session) if pool.has("pin") => Err(pool.wrong_at("pin", Problem::PinInSession)),
        _ => Ok(pin),
    });
    let max_connections = pool.limits("max_connections", "{ primary = 100 }");
    let max_connections = max_connections.map(|limits| limits.unwrap_or(MAX_CONNECTIONS_DEFAULT));
    let idle_timeout = pool.text("idle_timeout", "5m", FROM_MILLISECOND);
    let max_lifetime = pool.text("max_lifetime", "1h", FROM_MILLISECOND);
    let checkout_timeout = pool.optional("checkout_timeout", "that of [server]", FROM_MILLISECOND);
    let client_login_timeout = pool.optional("client_login_timeout", "that of [server]", FROM_MILLISECOND);
    let client_timeouts = client_timeouts(pool);
    let defer_begin = pool.boolean("defer_begin", true).and_then(|defer_begin| match mode {
        Ok(PoolMode::Session | PoolMode::Statement) if pool.has("defer_begin") => {
            Err(pool.wrong_at("defer_begin", Problem::DeferBeginWithoutTransactions))
        }
        _ => Ok(defer_begin),
    });
    let max_client_connections = pool.integer("max_client_connections", 0, 0..=CLIENTS_MAX);

    let listen_mode = match (mode, pool.has("listen_mode")) {
        (Ok(PoolMode::Session), true) => Err(pool.wrong_at("listen_mode", Problem::ListenModeInSession)),
        _ => listen_mode,
    };
    let max_connections = max_connections.and_then(|limits| some_capacity(pool, limits));
    let siblings = pool.peek("user");
    let users =
        pool.tables("user", "<name>", Identifier, |name, table| user(name, table, siblings, max_connections));
    if let (Ok(users), Ok(max)) = (&users, max_connections) {
        check_minima(pool, users.iter().flatten(), max);
    }
    Ok(PoolSettings {
        database: database?.unwrap_or_else(|| name.clone()),
        name,
        mode: mode?,
        listen_mode: listen_mode?,
        pin: pin?,
        max_connections: max_connections?,
        idle_timeout: idle_timeout?,
        max_lifetime: max_lifetime?,
        checkout_timeout: match checkout_timeout? {
            Some(own) => own,
            None => inherited.checkout_timeout?,
        },
        client_login_timeout: match client_login_timeout? {
            Some(own) => own,
            None => inherited.client_login_timeout?,
        },
        client_timeouts: client_timeouts?,
        defer_begin: defer_begin?,
        max_client_connections: max_client_connections?,
        users: users?.into_iter().collect::<Result<_, _>>()?,
    })
}

fn client_timeouts(pool: &mut Table<'_>) -> Result<ClientTimeouts, Reported> {
    let idle = pool.text("client_idle_timeout", "0s", FROM_ZERO);
    let idle_transaction = pool.text("idle_transaction_timeout", "0s", FROM_ZERO);
    let query = pool.text("query_timeout", "0s", FROM_ZERO);
    Ok(ClientTimeouts { idle: idle?, idle_transaction: idle_transaction?, query: query? })
}

fn user(
    name: String,
    user: &mut Table<'_>,
    siblings: Option<&DeTable<'_>>,
    pool_max: Result<RoleLimits, Reported>,
) -> Result<UserSettings, Reported> {
    let alias = user.optional("alias", "none", Identifier).and_then(|alias| match alias {
        Some(alias) => check_alias(user, &name, alias, siblings).map(Some),
        None => Ok(None),
    });
    let max = user.limits("max_connections", "no limit of its own");
    let min = user.limits("min_connections", "{ primary = 0, replica = 0 }").map(Option::unwrap_or_default);
    let max_client_connections = user.integer("max_client_connections", 0, 0..=CLIENTS_MAX);
    let parameters = user.table("parameters", parameters);

    let max = max.and_then(|max| match (max, pool_max) {
        (None, _) => Ok(None),
        (Some(max), pool_max) => {
            let max = some_capacity(user, max)?;
            pool_max.map_or(Ok(()), |limit| {
                check_below(user, "max_connections", max, "pool's max_connections", limit)
            })?;
            Ok(Some(max))
        }
    });
    let min = min.and_then(|min| {
        match (max, pool_max) {
            (Ok(Some(limit)), _) => {
                check_below(user, "min_connections", min, "user's max_connections", limit)?;
            }
            (Ok(None), Ok(limit)) => {
                check_below(user, "min_connections", min, "pool's max_connections", limit)?;
            }
            _ => {}
        }
        Ok(min)
    });
    Ok(UserSettings {
        name,
        alias: alias?,
        max_connections: max?,
        max_client_connections: max_client_connections?,
        min_connections: min?,
        parameters: parameters?,
    })
}

/// An alias names a user of the same pool that stands for itself.
fn check_alias(
    user: &Table<'_>,
    name: &str,
    alias: String,
    siblings: Option<&DeTable<'_>>,
) -> Result<String, Reported> {
    let target = siblings.and_then(|siblings| siblings.get(alias.as_str())).map(|value| value.get_ref());
    let is_alias = |value: &DeValue<'_>| value.get("alias").is_some();
    let problem = match target {
        _ if alias == name => Problem::AliasOfItself,
        Some(target) if is_alias(target) => Problem::AliasOfAlias(Quoted::new(&alias)),
        Some(_) => return Ok(alias),
        None => {
            let users = siblings.into_iter().flatten().filter(|(_, value)| !is_alias(value.get_ref()));
            let allowed: Vec<_> = users.map(|(key, _)| key.get_ref().to_string()).collect();
            Problem::AliasNowhere { found: Quoted::new(&alias), allowed }
        }
    };
    Err(user.wrong_at("alias", problem))
}

fn some_capacity(section: &Table<'_>, max: RoleLimits) -> Result<RoleLimits, Reported> {
    if max == RoleLimits::default() {
        return Err(section.wrong_at("max_connections", Problem::NoCapacity));
    }
    Ok(max)
}

fn check_below(
    section: &Table<'_>,
    key: &str,
    limits: RoleLimits,
    above: &'static str,
    max: RoleLimits,
) -> Result<(), Reported> {
    let mut result = Ok(());
    for ((role, min), (_, max)) in by_role(limits).into_iter().zip(by_role(max)) {
        if min > max {
            result = Err(section.wrong_at(key, Problem::AboveLimit { role, min, above, max }));
        }
    }
    result
}

/// The connections that are always kept open must all fit into the pool.
fn check_minima<'u>(pool: &Table<'_>, users: impl Iterator<Item = &'u UserSettings>, max: RoleLimits) {
    let mut sums = [0_u64; 2];
    for user in users {
        for (sum, (_, min)) in sums.iter_mut().zip(by_role(user.min_connections)) {
            *sum += u64::from(min);
        }
    }
    for (sum, (role, max)) in sums.into_iter().zip(by_role(max)) {
        if sum > u64::from(max) {
            pool.wrong_at("max_connections", Problem::MinSumAboveMax { role, sum, max });
        }
    }
}

fn parameters(parameters: &mut Table<'_>) -> Result<ParameterSettings, Reported> {
    let application_name = parameters.optional("application_name", "none", ApplicationName);
    let options = parameters.map("options", option);
    let parameters_read = ParameterSettings { application_name: application_name?, options: options? };
    let bytes = parameters_read.options_text().map_or(0, |text| text.len());
    if bytes > OPTIONS_BYTES_MAX {
        let problem = Problem::OptionsTooLong { bytes, max: OPTIONS_BYTES_MAX };
        return Err(parameters.wrong_at("options", problem));
    }
    Ok(parameters_read)
}

/// One run-time parameter. Numbers and booleans are passed on as text.
fn option(name: &str, value: &DeValue<'_>) -> Result<String, Problem> {
    if !is_parameter_name(name) {
        return Err(Problem::ParameterName);
    }
    let text = match value {
        DeValue::String(text) if text.contains('\0') => return Err(Problem::Nul),
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(integer) => number(integer).map(|number| number.to_string()),
        DeValue::Float(float) => {
            Some(float.as_str().to_owned()).filter(|text| text.parse().is_ok_and(f64::is_finite))
        }
        DeValue::Boolean(boolean) => Some(boolean.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            let expected = "a string, number or boolean".to_owned();
            return Err(Problem::WrongType { found: type_name(value), expected });
        }
    };
    text.ok_or(Problem::NotANumber)
}

/// A name as SQL would take it in SET, or an extension's: `pg_stat_statements.track`.
fn is_parameter_name(name: &str) -> bool {
    let is_part = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$'))
    };
    name.split('.').all(is_part)
}
