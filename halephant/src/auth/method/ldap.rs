//! The options of `ldap`, as PostgreSQL reads them (the manual, "LDAP Authentication").

use super::MethodError;
use super::options::Options;
use crate::secret::Secret;
use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LdapOptions {
    /// Tried in this order; names or addresses. Never empty.
    pub servers: Vec<String>,
    /// Of all of them.
    pub port: u16,
    pub scheme: LdapScheme,
    /// `ldaptls`: StartTLS. Never together with `ldaps`.
    pub start_tls: bool,
    /// `ldapca`: the authorities that a server's certificate may be from; the system's where it is left out.
    pub ca: Option<PathBuf>,
    pub user: LdapUser,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LdapScheme {
    Ldap,
    Ldaps,
}

/// How the name that is bound as follows from the user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LdapUser {
    /// Simple bind: `ldapprefix`, the user's name, `ldapsuffix`.
    Bind { prefix: String, suffix: String },
    /// Search and bind.
    Search(LdapSearch),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LdapSearch {
    pub base_dn: String,
    /// Who searches: anonymous where it is left out.
    pub bind_dn: Option<String>,
    pub bind_password: Option<Secret<String>>,
    /// `ldapsearchfilter`, where `$username` stands for the user's name, which has to be escaped; else
    /// `(attribute=$username)`. One of both is there.
    pub filter: String,
    pub scope: LdapScope,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LdapScope {
    Base,
    One,
    Subtree,
}

/// What `ldapurl` says.
struct Url {
    scheme: LdapScheme,
    host: String,
    port: Option<u16>,
    base_dn: Option<String>,
    attribute: Option<String>,
    scope: LdapScope,
    filter: Option<String>,
}

impl LdapOptions {
    pub(super) fn take(options: &mut Options) -> Result<Self, MethodError> {
        let url = options.take("ldapurl").map(|url| parse_url(&url)).transpose()?;
        let (hosts, scheme, port) = server(options, url.as_ref())?;
        let start_tls = options.take_flag("ldaptls")?;
        if start_tls && scheme == LdapScheme::Ldaps {
            return Err(MethodError::Exclusive("ldaptls", "ldapscheme=ldaps"));
        }
        let servers: Vec<_> = hosts.split_ascii_whitespace().map(str::to_owned).collect();
        if servers.is_empty() {
            return Err(MethodError::Missing { method: "ldap", option: "ldapserver" });
        }
        let ca = options.take("ldapca").map(PathBuf::from);
        Ok(Self { servers, port, scheme, start_tls, ca, user: user(options, url)? })
    }
}

fn server(options: &mut Options, url: Option<&Url>) -> Result<(String, LdapScheme, u16), MethodError> {
    let hosts = options.take("ldapserver");
    if hosts.is_some() && url.is_some() {
        return Err(MethodError::Exclusive("ldapserver", "ldapurl"));
    }
    let scheme = match options.take("ldapscheme").as_deref() {
        None => url.map_or(LdapScheme::Ldap, |url| url.scheme),
        Some("ldap") => LdapScheme::Ldap,
        Some("ldaps") => LdapScheme::Ldaps,
        Some(value) => {
            let expected = "it must be ldap or ldaps";
            return Err(MethodError::Value { option: "ldapscheme", value: value.to_owned(), expected });
        }
    };
    let default = match scheme {
        LdapScheme::Ldap => 389,
        LdapScheme::Ldaps => 636,
    };
    let port = match options.take("ldapport") {
        None => url.and_then(|url| url.port).unwrap_or(default),
        Some(value) => match value.parse() {
            Ok(port) if port > 0 => port,
            _ => {
                let expected = "it must be a port number";
                return Err(MethodError::Value { option: "ldapport", value, expected });
            }
        },
    };
    let hosts = hosts.or_else(|| url.map(|url| url.host.clone())).unwrap_or_default();
    Ok((hosts, scheme, port))
}

fn user(options: &mut Options, url: Option<Url>) -> Result<LdapUser, MethodError> {
    let (prefix, suffix) = (options.take("ldapprefix"), options.take("ldapsuffix"));
    let scope = url.as_ref().map_or(LdapScope::Subtree, |url| url.scope);
    let (of_url, filter_of_url, base_of_url) = match url {
        Some(url) => (url.attribute, url.filter, url.base_dn),
        None => (None, None, None),
    };
    let base_dn = options.take("ldapbasedn").or(base_of_url);
    let bind_dn = options.take("ldapbinddn");
    let bind_password = options.take("ldapbindpasswd").map(Secret::new);
    let attribute = options.take("ldapsearchattribute").or(of_url);
    let filter = options.take("ldapsearchfilter").or(filter_of_url);
    let searches = [base_dn.is_some(), bind_dn.is_some(), bind_password.is_some(), attribute.is_some()];
    let searches = searches.contains(&true) || filter.is_some();
    if prefix.is_some() || suffix.is_some() {
        if searches {
            return Err(MethodError::Exclusive("ldapprefix, ldapsuffix", "those of search and bind"));
        }
        let (prefix, suffix) = (prefix.unwrap_or_default(), suffix.unwrap_or_default());
        return Ok(LdapUser::Bind { prefix, suffix });
    }
    let missing = || MethodError::Missing { method: "ldap", option: "ldapbasedn, ldapprefix or ldapsuffix" };
    let base_dn = base_dn.ok_or_else(missing)?;
    let filter = match (attribute, filter) {
        (Some(_), Some(_)) => {
            return Err(MethodError::Exclusive("ldapsearchattribute", "ldapsearchfilter"));
        }
        (Some(attribute), None) => format!("({attribute}=$username)"),
        (None, Some(filter)) if filter.starts_with('(') => filter,
        (None, Some(filter)) => format!("({filter})"),
        (None, None) => "(uid=$username)".to_owned(),
    };
    Ok(LdapUser::Search(LdapSearch { base_dn, bind_dn, bind_password, filter, scope }))
}

/// `scheme://host[:port]/basedn[?attribute[?scope[?filter]]]` (RFC 4516, of which PostgreSQL takes this).
fn parse_url(text: &str) -> Result<Url, MethodError> {
    let expected = "it must be ldap[s]://host[:port]/basedn[?attribute[?scope[?filter]]]";
    let wrong = || MethodError::Value { option: "ldapurl", value: text.to_owned(), expected };
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let scheme = match scheme {
        "ldap" => LdapScheme::Ldap,
        "ldaps" => LdapScheme::Ldaps,
        _ => return Err(wrong()),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            (host, Some(port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?))
        }
        _ => (authority, None),
    };
    let mut parts = path.splitn(4, '?');
    let mut part = || match parts.next() {
        None | Some("") => Ok(None),
        Some(part) => decode_percent(part).map(Some).ok_or_else(wrong),
    };
    let (base_dn, attribute, scope, filter) = (part()?, part()?, part()?, part()?);
    let scope = match scope.as_deref() {
        // RFC 4516 has it so.
        None | Some("base") => LdapScope::Base,
        Some("one") => LdapScope::One,
        Some("sub") => LdapScope::Subtree,
        Some(_) => return Err(wrong()),
    };
    let host = host.trim_matches(['[', ']']).to_owned();
    Ok(Url { scheme, host, port, base_dn, attribute, scope, filter })
}

fn decode_percent(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, behind) = rest.split_first_chunk::<2>()?;
        let digit = |digit: u8| char::from(digit).to_digit(16);
        bytes.push(u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()?);
        rest = behind;
    }
    String::from_utf8(bytes).ok()
}
