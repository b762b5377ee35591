//! Addresses as the configuration names them: PostgreSQL nodes and our own listeners.

use super::unix::{SOCKET_PATH_BYTES_MAX, socket_path};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// RFC 1035, 2.3.4.
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;
/// The port of a node that is given as a directory alone.
const POSTGRESQL_PORT: u16 = 5432;

/// `host:port`; an IPv6 host is kept without its brackets and shown with them. A host that begins with `/` is the
/// directory of a Unix socket. The host is kept as it was written, because password file lines are compared with that
/// text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeAddress {
    pub host: String,
    pub port: u16,
}

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    Tcp(SocketAddr),
    /// The directory of a Unix socket. Without a port, it is the one of the first TCP address.
    Unix {
        directory: String,
        port: Option<u16>,
    },
}

/// What is wrong with the text of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("has no port")]
    NoPort,
    #[error("has no host")]
    NoHost,
    #[error("has a port that is not a number from 1 to 65535")]
    Port,
    #[error("has an IPv6 address without brackets around it")]
    Brackets,
    #[error("has something in brackets that is not an IPv6 address")]
    Ipv6,
    #[error("has a numeric host that is not an IPv4 address")]
    Ipv4,
    #[error("has a host name with a character other than a letter, digit, \"-\", \"_\" or \".\"")]
    NameCharacter,
    #[error("has a host name with an empty part or a part longer than {LABEL_BYTES_MAX} bytes")]
    NameLabel,
    #[error("has a host name longer than {NAME_BYTES_MAX} bytes")]
    NameLength,
    #[error("has a host name where an IP address is needed")]
    NotAnIp,
    #[error("has a path that is too long for a Unix socket: {SOCKET_PATH_BYTES_MAX} bytes with its name")]
    SocketPath,
    #[error("has a control character in its path")]
    PathCharacter,
}

impl NodeAddress {
    /// Whether both texts name one host and port: letter case, a trailing dot and the ways to write one IP
    /// address do not tell them apart.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.port == other.port && canonical(&self.host) == canonical(&other.host)
    }

    /// Where the node is reached over a Unix socket.
    pub fn socket_path(&self) -> Option<PathBuf> {
        is_directory(&self.host).then(|| socket_path(&self.host, self.port))
    }
}

impl ListenAddress {
    pub fn tcp(&self) -> Option<&SocketAddr> {
        match self {
            Self::Tcp(address) => Some(address),
            Self::Unix { .. } => None,
        }
    }

    pub fn is_tcp(&self) -> bool {
        self.tcp().is_some()
    }

    /// Whether the second of two listeners could not be bound.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp(one), Self::Tcp(other)) => overlap(one, other),
            (Self::Unix { directory: one, port }, Self::Unix { directory: other, port: other_port }) => {
                canonical(one) == canonical(other) && port == other_port
            }
            _ => false,
        }
    }
}

fn is_directory(host: &str) -> bool {
    host.starts_with('/')
}

/// A directory, and the port behind it if there is one.
fn split_directory(text: &str) -> Result<(&str, Option<u16>), AddressError> {
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let (directory, port) = match text.rsplit_once(':') {
        Some((directory, port)) if is_port(port) => match port.parse() {
            Ok(0) | Err(_) => return Err(AddressError::Port),
            Ok(port) => (directory, Some(port)),
        },
        _ => (text, None),
    };
    if directory.chars().any(char::is_control) {
        return Err(AddressError::PathCharacter);
    }
    if socket_path(directory, u16::MAX).as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        return Err(AddressError::SocketPath);
    }
    Ok((directory, port))
}

fn canonical(host: &str) -> String {
    if is_directory(host) {
        return host.trim_end_matches('/').to_owned();
    }
    match host.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().to_string(),
        Err(_) => host.trim_end_matches('.').to_ascii_lowercase(),
    }
}

impl FromStr for NodeAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if is_directory(text) {
            let (host, port) = split_directory(text)?;
            return Ok(Self { host: host.to_owned(), port: port.unwrap_or(POSTGRESQL_PORT) });
        }
        let (host, port) = split(text)?;
        match host {
            Host::Bracketed(host) => {
                host.parse::<Ipv6Addr>().map_err(|_| AddressError::Ipv6)?;
                Ok(Self { host: host.to_owned(), port })
            }
            Host::Plain(host) => {
                check_name(host)?;
                Ok(Self { host: host.to_owned(), port })
            }
        }
    }
}

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if is_directory(text) {
            let (directory, port) = split_directory(text)?;
            return Ok(Self::Unix { directory: directory.to_owned(), port });
        }
        parse_listen_address(text).map(Self::Tcp)
    }
}

/// The address of a TCP listener: an IP address and a port. An IPv4 address mapped into IPv6 becomes the IPv4 one.
pub fn parse_listen_address(text: &str) -> Result<SocketAddr, AddressError> {
    let (host, port) = split(text)?;
    let ip = match host {
        Host::Bracketed(host) => IpAddr::V6(host.parse().map_err(|_| AddressError::Ipv6)?),
        Host::Plain(host) => {
            check_name(host)?;
            IpAddr::V4(host.parse().map_err(|_| AddressError::NotAnIp)?)
        }
    };
    Ok(SocketAddr::new(ip.to_canonical(), port))
}

/// Whether the second bind of two listeners would fail: one port, and one address or a wildcard of the same
/// family. `0.0.0.0` and `[::]` live side by side, as IPv6 listeners are bound for IPv6 alone.
pub fn overlap(one: &SocketAddr, other: &SocketAddr) -> bool {
    one.port() == other.port()
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
}

enum Host<'t> {
    Plain(&'t str),
    Bracketed(&'t str),
}

fn split(text: &str) -> Result<(Host<'_>, u16), AddressError> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(AddressError::Ipv6)?;
        (Host::Bracketed(host), rest.strip_prefix(':').ok_or(AddressError::NoPort)?)
    } else {
        let (host, port) = text.rsplit_once(':').ok_or(AddressError::NoPort)?;
        let is_of_ipv6 = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
        if host.contains(':') && text.bytes().all(is_of_ipv6) {
            return Err(AddressError::Brackets);
        }
        (Host::Plain(host), port)
    };
    if port.is_empty() {
        return Err(AddressError::NoPort);
    }
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AddressError::Port);
    }
    match port.parse() {
        Ok(0) | Err(_) => Err(AddressError::Port),
        Ok(port) => Ok((host, port)),
    }
}

/// Host names as resolvers take them (RFC 1123), and the underscore that container networks use. A name whose
/// last part is a number can only be an IPv4 address.
fn check_name(host: &str) -> Result<(), AddressError> {
    if host.is_empty() {
        return Err(AddressError::NoHost);
    }
    if host.len() > NAME_BYTES_MAX {
        return Err(AddressError::NameLength);
    }
    if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')) {
        return Err(AddressError::NameCharacter);
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.split('.').any(|label| label.is_empty() || label.len() > LABEL_BYTES_MAX) {
        return Err(AddressError::NameLabel);
    }
    let numeric = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if numeric && host.parse::<Ipv4Addr>().is_err() {
        return Err(AddressError::Ipv4);
    }
    Ok(())
}

/// As the configuration has it.
impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix { directory, port: None } => f.write_str(directory),
            Self::Unix { directory, port: Some(port) } => write!(f, "{directory}:{port}"),
        }
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') && !is_directory(&self.host) {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> Result<String, AddressError> {
        text.parse::<NodeAddress>().map(|address| format!("{} {}", address.host, address.port))
    }

    #[test]
    fn node_addresses() {
        fn check(text: &str, expected: Result<&str, AddressError>) {
            assert_eq!(node(text), expected.map(str::to_owned), "{text}");
        }
        check("pg-1.internal:5432", Ok("pg-1.internal 5432"));
        check("PG_1:1", Ok("PG_1 1"));
        check("pg.:65535", Ok("pg. 65535"));
        check("10.0.0.1:5432", Ok("10.0.0.1 5432"));
        check("[::1]:5432", Ok("::1 5432"));
        check("[2001:DB8::1]:5432", Ok("2001:DB8::1 5432"));
        check("", Err(AddressError::NoPort));
        check("pg", Err(AddressError::NoPort));
        check("pg:", Err(AddressError::NoPort));
        check("[::1]", Err(AddressError::NoPort));
        check("[::1]5432", Err(AddressError::NoPort));
        check(":5432", Err(AddressError::NoHost));
        for port in ["0", "65536", "-1", "+1", "5432 ", "postgresql", "99999999999999999999"] {
            check(&format!("pg:{port}"), Err(AddressError::Port));
        }
        check("::1", Err(AddressError::Brackets));
        check("2001:db8::1:5432", Err(AddressError::Brackets));
        check("[pg]:5432", Err(AddressError::Ipv6));
        check("[::1:5432", Err(AddressError::Ipv6));
        check("[]:5432", Err(AddressError::Ipv6));
        check("10.0.0.256:5432", Err(AddressError::Ipv4));
        check("10.0.1:5432", Err(AddressError::Ipv4));
        check("pg 1:5432", Err(AddressError::NameCharacter));
        check("postgres://pg:5432", Err(AddressError::NameCharacter));
        check("/run/postgresql:5433", Ok("/run/postgresql 5433"));
        check("/run/postgresql", Ok("/run/postgresql 5432"));
        check("/run/a:b", Ok("/run/a:b 5432"));
        check("/run/postgresql:0", Err(AddressError::Port));
        check("/run/postgresql:65536", Err(AddressError::Port));
        check("/run\npostgresql", Err(AddressError::PathCharacter));
        check(&format!("/{}", "a".repeat(92)), Err(AddressError::SocketPath));
        check("run/postgresql:5432", Err(AddressError::NameCharacter));
        check("pgé:5432", Err(AddressError::NameCharacter));
        check("pg..internal:5432", Err(AddressError::NameLabel));
        check(".:5432", Err(AddressError::NameLabel));
        check(&format!("{}:5432", "a".repeat(64)), Err(AddressError::NameLabel));
        check(&format!("{}:5432", "a.".repeat(127)), Err(AddressError::NameLength));
    }

    #[test]
    fn node_addresses_are_shown_as_written() {
        for text in ["pg:5432", "[::1]:5432", "[2001:DB8::1]:5432", "/run/a:b:5432"] {
            assert_eq!(text.parse::<NodeAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn same_nodes() {
        let same =
            |one: &str, other: &str| one.parse::<NodeAddress>().unwrap().is_same_as(&other.parse().unwrap());
        assert!(same("pg:5432", "PG.:5432"));
        assert!(same("[::1]:5432", "[0:0:0:0:0:0:0:1]:5432"));
        assert!(same("[::ffff:10.0.0.1]:5432", "10.0.0.1:5432"));
        assert!(same("/run/postgresql/", "/run/postgresql:5432"));
        assert!(!same("/run/postgresql", "/run/postgresql:5433"));
        assert!(!same("pg:5432", "pg:5433"));
        assert!(!same("pg:5432", "pg2:5432"));
    }

    #[test]
    fn listen_addresses() {
        let check = |text, expected: Result<&str, AddressError>| {
            let parsed = parse_listen_address(text).map(|address| address.to_string());
            assert_eq!(parsed, expected.map(str::to_owned), "{text}");
        };
        check("0.0.0.0:6432", Ok("0.0.0.0:6432"));
        check("[::]:6432", Ok("[::]:6432"));
        check("[::ffff:127.0.0.1]:6432", Ok("127.0.0.1:6432"));
        check("localhost:6432", Err(AddressError::NotAnIp));
        check("*:6432", Err(AddressError::NameCharacter));
        check(":6432", Err(AddressError::NoHost));
        check("127.0.0.1:0", Err(AddressError::Port));
        check("127.0.0.1", Err(AddressError::NoPort));
        check("::1:6432", Err(AddressError::Brackets));
    }

    #[test]
    fn listeners_on_unix_sockets() {
        let listen = |text: &str| text.parse::<ListenAddress>().unwrap();
        assert_eq!(listen("/run/h"), ListenAddress::Unix { directory: "/run/h".to_owned(), port: None });
        for text in ["/run/h", "/run/h:6432", "127.0.0.1:6432"] {
            assert_eq!(listen(text).to_string(), text);
        }
        assert!(listen("/run/h:1").overlaps(&listen("/run/h/:1")));
        assert!(!listen("/run/h:1").overlaps(&listen("/run/h:2")));
        assert!(!listen("/run/h:6432").overlaps(&listen("0.0.0.0:6432")));
    }

    #[test]
    fn overlapping_listeners() {
        let clash =
            |one, other| overlap(&parse_listen_address(one).unwrap(), &parse_listen_address(other).unwrap());
        assert!(clash("127.0.0.1:6432", "127.0.0.1:6432"));
        assert!(clash("0.0.0.0:6432", "127.0.0.1:6432"));
        assert!(clash("[::1]:6432", "[::]:6432"));
        assert!(clash("[::1]:6432", "[0:0::1]:6432"));
        assert!(!clash("0.0.0.0:6432", "[::]:6432"));
        assert!(!clash("0.0.0.0:6432", "0.0.0.0:6433"));
        assert!(!clash("127.0.0.1:6432", "127.0.0.2:6432"));
    }
}
