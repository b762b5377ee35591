//! The PROXY protocol, versions 1 and 2: the header that a load balancer puts before a client's own bytes.
//!
//! Where a header ends is found here, so that the parser only ever sees whole ones: how TCP cuts them makes no difference.

use ppp::v2::{Addresses as BinaryAddresses, Command, PROTOCOL_PREFIX, Protocol};
use ppp::{v1, v2};
use std::net::{IpAddr, SocketAddr};

/// The specification's longest line, its end included.
const LINE_BYTES_MAX: usize = 107;
const LINE_PREFIX: &[u8] = b"PROXY ";
/// Signature, version and command, family, length.
const BINARY_PREAMBLE_BYTES: usize = 16;
/// Addresses, and what balancers put behind them. Longer ones are not a client's worth of memory.
pub const HEADER_BYTES_MAX: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyHeaderError {
    #[error("connections from this network have to begin with a PROXY protocol header")]
    Missing,
    #[error("PROXY protocol header is longer than {HEADER_BYTES_MAX} bytes")]
    TooLong,
    #[error("PROXY protocol header is malformed")]
    Malformed,
    #[error("PROXY protocol header does not tell the client's address")]
    NoAddress,
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxied {
    /// The client's own address.
    From(SocketAddr),
    /// The balancer connects on its own account: a health check.
    Local,
}

/// The length of the header that `received` begins with; `None` while it may still become one.
pub fn header_bytes(received: &[u8]) -> Result<Option<usize>, ProxyHeaderError> {
    if begins(received, PROTOCOL_PREFIX) {
        let Some(length) = received.get(BINARY_PREAMBLE_BYTES - 2..BINARY_PREAMBLE_BYTES) else {
            return Ok(None);
        };
        let length = BINARY_PREAMBLE_BYTES + usize::from(u16::from_be_bytes([length[0], length[1]]));
        if length > HEADER_BYTES_MAX {
            return Err(ProxyHeaderError::TooLong);
        }
        return Ok((received.len() >= length).then_some(length));
    }
    if begins(received, LINE_PREFIX) {
        let line = &received[..received.len().min(LINE_BYTES_MAX)];
        return match line.windows(2).position(|pair| pair == b"\r\n") {
            Some(end) => Ok(Some(end + 2)),
            None if line.len() == LINE_BYTES_MAX => Err(ProxyHeaderError::TooLong),
            None => Ok(None),
        };
    }
    Err(ProxyHeaderError::Missing)
}

/// Whether one is a beginning of the other.
fn begins(received: &[u8], prefix: &[u8]) -> bool {
    let common = received.len().min(prefix.len());
    received[..common] == prefix[..common]
}

/// Parses a whole header.
pub fn parse(header: &[u8]) -> Result<Proxied, ProxyHeaderError> {
    if header.starts_with(PROTOCOL_PREFIX) { parse_binary(header) } else { parse_line(header) }
}

fn parse_line(header: &[u8]) -> Result<Proxied, ProxyHeaderError> {
    let header = v1::Header::try_from(header).map_err(|_| ProxyHeaderError::Malformed)?;
    match header.addresses {
        v1::Addresses::Tcp4(of) => Ok(from(of.source_address, of.source_port)),
        v1::Addresses::Tcp6(of) => Ok(from(of.source_address, of.source_port)),
        // Version 1 knows no other word for a health check.
        v1::Addresses::Unknown => Ok(Proxied::Local),
    }
}

fn parse_binary(header: &[u8]) -> Result<Proxied, ProxyHeaderError> {
    let header = v2::Header::try_from(header).map_err(|_| ProxyHeaderError::Malformed)?;
    match (header.command, header.protocol, &header.addresses) {
        (Command::Local, ..) => Ok(Proxied::Local),
        (Command::Proxy, Protocol::Stream, BinaryAddresses::IPv4(of)) => {
            Ok(from(of.source_address, of.source_port))
        }
        (Command::Proxy, Protocol::Stream, BinaryAddresses::IPv6(of)) => {
            Ok(from(of.source_address, of.source_port))
        }
        // Some client, of which nothing is known: it must not get what the balancer itself may have.
        (Command::Proxy, ..) => Err(ProxyHeaderError::NoAddress),
    }
}

fn from(address: impl Into<IpAddr>, port: u16) -> Proxied {
    Proxied::From(SocketAddr::new(address.into().to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProxyHeaderError::{Malformed, Missing, NoAddress, TooLong};

    /// What comes of `received`, cut at every place.
    #[track_caller]
    fn check(received: &[u8], expected: Result<(Proxied, usize), ProxyHeaderError>) {
        let found = header_bytes(received).and_then(|length| {
            let length = length.expect("it is whole");
            Ok((parse(&received[..length])?, length))
        });
        assert_eq!(found, expected, "{}", received.escape_ascii());
        if let Ok((_, length)) = expected {
            for cut in 0..length {
                assert_eq!(header_bytes(&received[..cut]), Ok(None), "cut at {cut}");
            }
        }
    }

    fn client(text: &str) -> Proxied {
        Proxied::From(text.parse().expect("it is an address"))
    }

    #[test]
    fn lines() {
        let line = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 6432\r\n";
        check(line, Ok((client("192.0.2.7:56324"), line.len())));
        check(
            &[line, &b"\0\0\0\x08\x04\xd2\x16\x2f"[..]].concat(),
            Ok((client("192.0.2.7:56324"), line.len())),
        );
        check(b"PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n", Ok((client("[2001:db8::7]:1"), 40)));
        check(b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", Ok((client("192.0.2.7:1"), 37)));
        check(b"PROXY UNKNOWN\r\n", Ok((Proxied::Local, 15)));
        check(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", Ok((Proxied::Local, 35)));
        for malformed in [
            "PROXY TCP4 192.0.2.7 198.51.100.1 56324\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 56324 65536\r\n",
            "PROXY TCP4 192.0.2.700 198.51.100.1 56324 6432\r\n",
            "PROXY TCP4 ::1 ::1 56324 6432\r\n",
            "PROXY UDP4 192.0.2.7 198.51.100.1 56324 6432\r\n",
            "PROXY \r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 56324 6432 \r\n",
        ] {
            check(malformed.as_bytes(), Err(Malformed));
        }
        check(format!("PROXY UNKNOWN {}", "x".repeat(200)).as_bytes(), Err(TooLong));
        check(b"proxy TCP4 192.0.2.7 198.51.100.1 56324 6432\r\n", Err(Missing));
        check(b"\0\0\0\x08\x04\xd2\x16\x2f", Err(Missing));
    }

    fn binary(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).expect("it fits").to_be_bytes();
        [PROTOCOL_PREFIX, &[0x20 | command, family], &length, payload].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0xDC, 0x04, 0x19, 0x20];

    #[test]
    fn binary_headers() {
        check(&binary(1, 0x11, &V4), Ok((client("192.0.2.7:56324"), 28)));
        let with_more = [&V4[..], &[0x04, 0, 3, 1, 2, 3]].concat();
        check(&binary(1, 0x11, &with_more), Ok((client("192.0.2.7:56324"), 34)));
        let mut v6 = [0; 36];
        (v6[15], v6[33]) = (1, 9);
        check(&binary(1, 0x21, &v6), Ok((client("[::1]:9"), 52)));
        check(&binary(0, 0x00, &[]), Ok((Proxied::Local, 16)));
        check(&binary(0, 0x11, &V4), Ok((Proxied::Local, 28)));
        for family in [0x00, 0x12] {
            check(&binary(1, family, &V4), Err(NoAddress));
        }
        check(&binary(1, 0x31, &[0; 216]), Err(NoAddress));
        check(&binary(1, 0x11, &V4[..11]), Err(Malformed));
        check(&binary(2, 0x11, &V4), Err(Malformed));
        check(&binary(1, 0x11, &[0; HEADER_BYTES_MAX]), Err(TooLong));
        let mut version = binary(1, 0x11, &V4);
        version[12] = 0x11;
        check(&version, Err(Malformed));
    }
}
