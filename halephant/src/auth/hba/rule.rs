//! One line of pg_hba.conf.

use super::Subject;
use super::address::{self, Source, single};
use super::facts::Facts;
use super::name::Name;
use crate::auth::method::{Demand, Leg, MethodError};
use crate::auth::origin::Origin;
use crate::auth::password::{CheckError, PasswordCheck, check_of};
use crate::auth::pattern::PatternError;
use crate::auth::records::{Field, Place, Record};
use std::sync::Arc;

/// The first word of a rule: which connections it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Local,
    Host,
    HostSsl,
    HostNoSsl,
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub place: Place,
    pub scope: Scope,
    databases: Vec<Name>,
    users: Vec<Name>,
    source: Source,
    pub demand: Demand,
    /// Whom the method asks about passwords.
    pub check: Option<Arc<dyn PasswordCheck>>,
}

impl PartialEq for Rule {
    /// A check follows from the method and its options.
    fn eq(&self, other: &Self) -> bool {
        let of = |rule: &Self| {
            let Self { place, scope, databases, users, source, demand, check: _ } = rule.clone();
            (place, scope, databases, users, source, demand)
        };
        of(self) == of(other)
    }
}

impl Eq for Rule {}

#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    #[error("invalid connection type \"{0}\"")]
    Scope(String),
    #[error("connection type \"hostgssenc\" is not supported: halephant has no GSSAPI encryption")]
    Gss,
    #[error("end-of-line before {0} specification")]
    EndBefore(&'static str),
    #[error("multiple values specified for {0}; specify one per line")]
    Several(&'static str),
    #[error("end-of-line before netmask specification; write address/bits, or a netmask behind the address")]
    NoMask,
    #[error("end-of-line before authentication method")]
    NoMethod,
    #[error("\"{0}\" stands for members of a role, which halephant does not know; name the users")]
    Membership(String),
    #[error("invalid IP address \"{0}\"")]
    Address(String),
    #[error("specifying both host name and CIDR mask is invalid: \"{0}\"")]
    HostWithBits(String),
    #[error("invalid CIDR mask in address \"{0}\"")]
    Bits(String),
    #[error("invalid IP mask \"{0}\"")]
    Mask(String),
    #[error("IP address and mask do not match")]
    MaskFamily,
    #[error(transparent)]
    Pattern(#[from] PatternError),
    #[error(transparent)]
    Method(#[from] MethodError),
    #[error(transparent)]
    Check(#[from] CheckError),
}

impl Scope {
    fn parse(word: &str) -> Result<Self, RuleError> {
        match word {
            "local" => Ok(Self::Local),
            // There is never GSSAPI encryption.
            "host" | "hostnogssenc" => Ok(Self::Host),
            "hostssl" => Ok(Self::HostSsl),
            "hostnossl" => Ok(Self::HostNoSsl),
            "hostgssenc" => Err(RuleError::Gss),
            word => Err(RuleError::Scope(word.to_owned())),
        }
    }

    const fn leg(self) -> Leg {
        match self {
            Self::Local => Leg::Unix,
            Self::HostSsl => Leg::Tls,
            Self::Host | Self::HostNoSsl => Leg::Any,
        }
    }

    fn applies(self, origin: Origin, tls: bool) -> bool {
        match (self, origin) {
            (Self::Local, Origin::Local) => true,
            (Self::Local, Origin::Address(_)) | (_, Origin::Local) => false,
            (Self::Host, _) => true,
            (Self::HostSsl, _) => tls,
            (Self::HostNoSsl, _) => !tls,
        }
    }
}

impl Rule {
    /// For every database, user and address, and for replication.
    pub(super) fn for_all(place: Place, scope: Scope, demand: Demand) -> Self {
        let databases = vec![Name::All, Name::Replication];
        Self { place, scope, databases, users: vec![Name::All], source: Source::All, demand, check: None }
    }

    pub(super) fn parse(record: &Record) -> Result<Self, RuleError> {
        let mut fields = record.fields.iter();
        let scope = single(fields.next(), RuleError::EndBefore("connection type"), "connection type")?;
        let scope = Scope::parse(&scope.text)?;
        let databases = fields.next().ok_or(RuleError::EndBefore("database"))?;
        let databases = databases.iter().map(Name::parse_database).collect::<Result<_, _>>()?;
        let users = fields.next().ok_or(RuleError::EndBefore("role"))?;
        let users = users.iter().map(Name::parse_user).collect::<Result<_, _>>()?;
        let source = match scope {
            Scope::Local => Source::All,
            _ => address::parse(&mut fields)?,
        };
        let demand = demand(scope, &mut fields)?;
        let check = check_of(&demand.method)?;
        Ok(Self { place: record.place.clone(), scope, databases, users, source, demand, check })
    }

    /// As far as it shows without looking at addresses.
    pub(super) fn is_for(&self, subject: &Subject<'_>) -> bool {
        let Subject { database, user, origin, tls, replicates } = *subject;
        self.scope.applies(origin, tls)
            && self.databases.iter().any(|name| name.is_for_database(database, user, replicates))
            && self.users.iter().any(|name| name.applies(user, user))
    }

    pub(super) async fn is_from(&self, origin: Origin, facts: &mut Facts) -> bool {
        let Origin::Address(address) = origin else { return true };
        match &self.source {
            Source::All => true,
            Source::SameHost => facts.networks().iter().any(|own| own.address == address),
            Source::SameNet => facts.networks().iter().any(|own| own.contains(address)),
            Source::Network(network) => network.contains(address),
            Source::Host(host) => facts.name_of(address).await.is_some_and(|name| is_named(name, host)),
        }
    }
}

fn demand<'r>(scope: Scope, fields: &mut impl Iterator<Item = &'r Field>) -> Result<Demand, RuleError> {
    let method = single(fields.next(), RuleError::NoMethod, "authentication type")?;
    // PostgreSQL, too, takes one for the other.
    let method = match (scope, method.text.as_str()) {
        (Scope::Local, "ident") => "peer",
        (_, method) => method,
    };
    let words = fields.flatten().map(|token| token.text.as_str());
    Ok(Demand::parse(scope.leg(), method, words)?)
}

/// A host's name against one in a rule, of which `.example.com` is the end.
fn is_named(name: &str, host: &str) -> bool {
    match host.strip_prefix('.') {
        None => name.eq_ignore_ascii_case(host),
        Some(_) => {
            let end = name.len().checked_sub(host.len()).filter(|before| *before > 0);
            end.and_then(|end| name.get(end..)).is_some_and(|end| end.eq_ignore_ascii_case(host))
        }
    }
}
