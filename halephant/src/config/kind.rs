//! The kinds of string values: how each is checked, and what it becomes.

use super::problem::{EndpointError, Problem, Quoted};
use crate::net::address::{overlap, parse_listen_address};
use crate::net::{ListenAddress, NodeAddress};
use http::Uri;
use ipnet::IpNet;
use rustls::pki_types::ServerName;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// PostgreSQL keeps NAMEDATALEN - 1 bytes of a name and cuts the rest off.
const IDENTIFIER_BYTES_MAX: usize = 63;
/// Ten of humantime's years. Longer times would only serve to overflow a clock.
const DURATION_MAX: Duration = Duration::from_secs(315_576_000);
const CREDIT_BYTES: std::ops::RangeInclusive<u64> = 16 * 1024..=1024 * 1024 * 1024;

/// A kind of string value.
pub(super) trait Kind {
    type Value;
    /// The type as the documentation names it.
    const TYPE: &'static str = "string";
    const EXAMPLE: &'static str;

    fn parse(&self, text: &str) -> Result<Self::Value, Problem>;

    /// What to write instead of a value of another type.
    fn expected(&self) -> String {
        format!("a {} such as {:?}", Self::TYPE, Self::EXAMPLE)
    }
}

/// A kind whose values stand in an array, where no two may clash.
pub(super) trait Item: Kind {
    fn clash(one: &Self::Value, other: &Self::Value) -> bool;

    /// The mistake of a value that clashes with the one at the path `other`.
    fn duplicate(value: &Self::Value, other: String) -> Problem;
}

/// A duration in humantime's format, of at least so much.
pub(super) struct DurationFrom(pub(super) Duration);

/// Zero has a meaning.
pub(super) const FROM_ZERO: DurationFrom = DurationFrom(Duration::ZERO);
/// Zero has none; timers count milliseconds.
pub(super) const FROM_MILLISECOND: DurationFrom = DurationFrom(Duration::from_millis(1));
/// More often would keep a CPU busy.
pub(super) const FROM_10_MILLISECONDS: DurationFrom = DurationFrom(Duration::from_millis(10));

impl Kind for DurationFrom {
    type Value = Duration;
    const TYPE: &'static str = "duration";
    const EXAMPLE: &'static str = "30s";

    fn parse(&self, text: &str) -> Result<Duration, Problem> {
        let found = || Quoted::new(text);
        let duration =
            humantime::parse_duration(text).map_err(|source| Problem::Duration { found: found(), source })?;
        if duration < self.0 || duration > DURATION_MAX {
            return Err(Problem::DurationRange { found: found(), min: self.0, max: DURATION_MAX });
        }
        Ok(duration)
    }

    fn expected(&self) -> String {
        "a string with a unit such as \"30s\", \"5m\" or \"1h30m\"".to_owned()
    }
}

/// One of a few words.
pub(super) struct Choice<T: 'static>(pub(super) &'static [(&'static str, T)]);

impl<T: Copy> Choice<T> {
    fn allowed(&self) -> Vec<String> {
        self.0.iter().map(|(word, _)| (*word).to_owned()).collect()
    }
}

impl<T: Copy> Kind for Choice<T> {
    type Value = T;
    const EXAMPLE: &'static str = "";

    fn parse(&self, text: &str) -> Result<T, Problem> {
        let found = self.0.iter().find(|(word, _)| *word == text);
        found
            .map(|(_, value)| *value)
            .ok_or_else(|| Problem::NotOneOf { found: Quoted::new(text), allowed: self.allowed() })
    }

    fn expected(&self) -> String {
        let allowed: Vec<_> = self.0.iter().map(|(word, _)| format!("{word:?}")).collect();
        format!("one of {}", allowed.join(", "))
    }
}

/// The name of a role or database: not empty, and nothing that PostgreSQL would cut.
pub(super) struct Identifier;

impl Kind for Identifier {
    type Value = String;
    const EXAMPLE: &'static str = "app";

    fn parse(&self, text: &str) -> Result<String, Problem> {
        if text.is_empty() {
            return Err(Problem::Empty("a name".to_owned()));
        }
        check_bytes(text, IDENTIFIER_BYTES_MAX)?;
        Ok(text.to_owned())
    }
}

impl Item for Identifier {
    fn clash(one: &String, other: &String) -> bool {
        one == other
    }

    fn duplicate(_: &String, other: String) -> Problem {
        Problem::DuplicateName { other }
    }
}

/// A name of ours that logs and metrics show.
pub(super) struct Label;

impl Kind for Label {
    type Value = String;
    const EXAMPLE: &'static str = "main";

    fn parse(&self, text: &str) -> Result<String, Problem> {
        if text.chars().any(char::is_control) {
            return Err(Problem::ControlCharacter);
        }
        Identifier.parse(text)
    }
}

/// `application_name`: may be empty, and is cut like a name.
pub(super) struct ApplicationName;

impl Kind for ApplicationName {
    type Value = String;
    const EXAMPLE: &'static str = "app";

    fn parse(&self, text: &str) -> Result<String, Problem> {
        check_bytes(text, IDENTIFIER_BYTES_MAX)?;
        Ok(text.to_owned())
    }
}

/// A query with the user's name as its only parameter.
pub(super) struct AuthQuery;

impl Kind for AuthQuery {
    type Value = String;
    const EXAMPLE: &'static str = "SELECT name, verifier FROM app_users WHERE name = $1";

    fn parse(&self, text: &str) -> Result<String, Problem> {
        const QUERY_BYTES_MAX: usize = 8192;
        check_bytes(text, QUERY_BYTES_MAX)?;
        if !text.contains("$1") {
            return Err(Problem::NoParameter { example: Self::EXAMPLE });
        }
        Ok(text.to_owned())
    }
}

pub(super) struct FilePath;

impl Kind for FilePath {
    type Value = PathBuf;
    const EXAMPLE: &'static str = "/etc/halephant/pgpass";

    fn parse(&self, text: &str) -> Result<PathBuf, Problem> {
        if text.is_empty() {
            return Err(Problem::Empty(self.expected()));
        }
        if text.contains('\0') {
            return Err(Problem::Nul);
        }
        Ok(PathBuf::from(text))
    }
}

pub(super) struct AbsolutePath;

impl Kind for AbsolutePath {
    type Value = PathBuf;
    const EXAMPLE: &'static str = "/sys/fs/cgroup";

    fn parse(&self, text: &str) -> Result<PathBuf, Problem> {
        let path = FilePath.parse(text)?;
        if path.is_absolute() { Ok(path) } else { Err(Problem::RelativePath(Quoted::new(text))) }
    }
}

/// The credit of a spliced direction: at least a few segments, at most what a host can hold for one client.
pub(super) struct Credit;

impl Kind for Credit {
    type Value = u64;
    const TYPE: &'static str = "byte size";
    const EXAMPLE: &'static str = "1MiB";

    fn parse(&self, text: &str) -> Result<u64, Problem> {
        let found = || Quoted::new(text);
        let size: bytesize::ByteSize = text.parse().map_err(|_| Problem::ByteSize { found: found() })?;
        if CREDIT_BYTES.contains(&size.as_u64()) {
            Ok(size.as_u64())
        } else {
            Err(Problem::ByteSizeRange { found: found(), min: "16KiB", max: "1GiB" })
        }
    }

    fn expected(&self) -> String {
        "a string with a unit such as \"1MiB\"".to_owned()
    }
}

/// Where clients connect: a TCP address, or the directory of a Unix socket.
pub(super) struct ClientListen;

impl Kind for ClientListen {
    type Value = ListenAddress;
    const EXAMPLE: &'static str = "0.0.0.0:6432";

    fn parse(&self, text: &str) -> Result<ListenAddress, Problem> {
        text.parse().map_err(|source| Problem::Address {
            found: Quoted::new(text),
            source,
            expected: "\"0.0.0.0:6432\", \"[::]:6432\" or the directory of a Unix socket",
        })
    }
}

impl Item for ClientListen {
    fn clash(one: &ListenAddress, other: &ListenAddress) -> bool {
        one.overlaps(other)
    }

    fn duplicate(value: &ListenAddress, other: String) -> Problem {
        Problem::DuplicateListen { address: value.to_string(), other }
    }
}

/// A network, or one address of it.
pub(super) struct Network;

impl Kind for Network {
    type Value = IpNet;
    const EXAMPLE: &'static str = "10.0.0.0/8";

    fn parse(&self, text: &str) -> Result<IpNet, Problem> {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let network: IpNet = network.map_err(|_| Problem::Network(Quoted::new(text)))?;
        if network.trunc() != network {
            return Err(Problem::NetworkHostBits { found: Quoted::new(text), network: network.trunc() });
        }
        Ok(network)
    }
}

impl Item for Network {
    fn clash(one: &IpNet, other: &IpNet) -> bool {
        one.contains(other) || other.contains(one)
    }

    fn duplicate(_: &IpNet, other: String) -> Problem {
        Problem::OverlappingNetwork { other }
    }
}

/// The permissions of a file, in octal.
pub(super) struct FileMode;

impl Kind for FileMode {
    type Value = u32;
    const EXAMPLE: &'static str = "0770";

    fn parse(&self, text: &str) -> Result<u32, Problem> {
        let is_octal = matches!(text.len(), 3 | 4) && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o777);
        mode.ok_or_else(|| Problem::FileMode(Quoted::new(text)))
    }
}

/// The address of a TCP listener.
pub(super) struct Listen;

impl Kind for Listen {
    type Value = SocketAddr;
    const EXAMPLE: &'static str = "0.0.0.0:6432";

    fn parse(&self, text: &str) -> Result<SocketAddr, Problem> {
        parse_listen_address(text).map_err(|source| Problem::Address {
            found: Quoted::new(text),
            source,
            expected: "\"0.0.0.0:6432\" or \"[::]:6432\"",
        })
    }
}

impl Item for Listen {
    fn clash(one: &SocketAddr, other: &SocketAddr) -> bool {
        overlap(one, other)
    }

    fn duplicate(value: &SocketAddr, other: String) -> Problem {
        Problem::DuplicateListen { address: value.to_string(), other }
    }
}

/// The address of a PostgreSQL node.
pub(super) struct Node;

impl Kind for Node {
    type Value = NodeAddress;
    const EXAMPLE: &'static str = "pg-1.internal:5432";

    fn parse(&self, text: &str) -> Result<NodeAddress, Problem> {
        text.parse().map_err(|source| Problem::Address {
            found: Quoted::new(text),
            source,
            expected: "\"host:5432\", \"[::1]:5432\" or the directory of a Unix socket",
        })
    }
}

impl Item for Node {
    fn clash(one: &NodeAddress, other: &NodeAddress) -> bool {
        one.is_same_as(other)
    }

    fn duplicate(_: &NodeAddress, other: String) -> Problem {
        Problem::DuplicateNode { other }
    }
}

/// A name that TLS tells a server by; with `wildcard`, `*` may stand for its first label.
pub(super) struct HostName {
    pub(super) wildcard: bool,
}

impl Kind for HostName {
    type Value = String;
    const EXAMPLE: &'static str = "db.example.com";

    fn parse(&self, text: &str) -> Result<String, Problem> {
        let name = text.strip_prefix("*.").filter(|_| self.wildcard).unwrap_or(text);
        match ServerName::try_from(name) {
            Ok(ServerName::DnsName(_)) => Ok(text.to_owned()),
            Ok(ServerName::IpAddress(_)) if !self.wildcard => Ok(text.to_owned()),
            _ => Err(Problem::HostName(Quoted::new(text))),
        }
    }
}

/// The URL of an OTLP collector that speaks gRPC.
pub(super) struct Endpoint;

impl Kind for Endpoint {
    type Value = String;
    const EXAMPLE: &'static str = "http://localhost:4317";

    fn parse(&self, text: &str) -> Result<String, Problem> {
        check_endpoint(text).map_err(Problem::Endpoint)?;
        Ok(text.to_owned())
    }
}

fn check_endpoint(text: &str) -> Result<(), EndpointError> {
    let uri: Uri = text.parse().map_err(|_| EndpointError::NotUrl)?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(_) => return Err(EndpointError::Scheme),
        None => return Err(EndpointError::NotUrl),
    }
    let authority = uri.authority().ok_or(EndpointError::NoHost)?;
    if authority.as_str().contains('@') {
        return Err(EndpointError::Credentials);
    }
    if authority.host().is_empty() {
        return Err(EndpointError::NoHost);
    }
    // Whether there is a port that is no number shows only in what is behind the host.
    if authority.as_str().len() > authority.host().len() && authority.port_u16().is_none() {
        return Err(EndpointError::Port);
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(EndpointError::Path);
    }
    Ok(())
}

fn check_bytes(text: &str, max: usize) -> Result<(), Problem> {
    if text.contains('\0') {
        return Err(Problem::Nul);
    }
    if text.len() > max {
        return Err(Problem::TooLong { bytes: text.len(), max });
    }
    Ok(())
}
