//! Where a client comes from, as rules about authentication see it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// Networks of this many bits are given to one customer.
const IPV6_PREFIX_BITS: u32 = 64;

/// The client's own address, whatever stands between: a PROXY header's, where one is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A Unix socket.
    Local,
    Address(IpAddr),
}

impl Origin {
    /// An IPv4 address that a dual-stack socket wrote as IPv6 is the IPv4 address: rules for it apply.
    pub fn of_address(address: IpAddr) -> Self {
        Self::Address(address.to_canonical())
    }
}

impl fmt::Display for Origin {
    /// As PostgreSQL's messages show it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("[local]"),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// What counts as one place, where something is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Neighbourhood {
    Local,
    Network(IpAddr),
}

impl Neighbourhood {
    pub fn of(origin: Origin) -> Self {
        match origin {
            Origin::Local => Self::Local,
            Origin::Address(IpAddr::V4(address)) => Self::Network(address.into()),
            Origin::Address(IpAddr::V6(address)) => {
                let bits = address.to_bits() & (u128::MAX << (u128::BITS - IPV6_PREFIX_BITS));
                Self::Network(Ipv6Addr::from_bits(bits).into())
            }
        }
    }
}
