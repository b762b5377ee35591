//! The addresses of a rule.

use super::rule::RuleError;
use crate::auth::records::{Field, Token};
use std::net::IpAddr;

/// Where clients of a rule come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    All,
    /// `samehost`: one of this machine's addresses.
    SameHost,
    /// `samenet`: a network that this machine is in.
    SameNet,
    Network(Network),
    /// A name that the address has to resolve to and come back from; with a leading dot, the end of one.
    Host(String),
}

/// Addresses that agree in the bits of a mask, which need not be at its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    pub address: IpAddr,
    pub mask: IpAddr,
}

impl Network {
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        match (self.address, self.mask, address) {
            (IpAddr::V4(network), IpAddr::V4(mask), IpAddr::V4(address)) => {
                (network.to_bits() ^ address.to_bits()) & mask.to_bits() == 0
            }
            (IpAddr::V6(network), IpAddr::V6(mask), IpAddr::V6(address)) => {
                (network.to_bits() ^ address.to_bits()) & mask.to_bits() == 0
            }
            _ => false,
        }
    }
}

/// The addresses in the fields behind the users; takes the mask where it is a field of its own.
pub(super) fn parse<'r>(fields: &mut impl Iterator<Item = &'r Field>) -> Result<Source, RuleError> {
    let token = single(fields.next(), RuleError::EndBefore("IP address"), "host address")?;
    match () {
        () if token.is_keyword("all") => return Ok(Source::All),
        () if token.is_keyword("samehost") => return Ok(Source::SameHost),
        () if token.is_keyword("samenet") => return Ok(Source::SameNet),
        () => {}
    }
    let (host, bits) = match token.text.split_once('/') {
        Some((host, bits)) => (host, Some(bits)),
        None => (token.text.as_str(), None),
    };
    let address = match (host.parse::<IpAddr>(), bits) {
        (Ok(address), _) => address,
        (Err(_), Some(_)) => return Err(RuleError::HostWithBits(token.text.clone())),
        (Err(_), None) => return parse_host(host),
    };
    let mask = match bits {
        Some(bits) => mask_of(address, bits).ok_or_else(|| RuleError::Bits(token.text.clone()))?,
        None => {
            let mask = single(fields.next(), RuleError::NoMask, "netmask")?;
            let parsed: Option<IpAddr> = mask.text.parse().ok();
            parsed.ok_or_else(|| RuleError::Mask(mask.text.clone()))?
        }
    };
    if address.is_ipv4() != mask.is_ipv4() {
        return Err(RuleError::MaskFamily);
    }
    Ok(Source::Network(Network { address, mask }))
}

/// The only token of a field that has to be there.
pub(super) fn single<'r>(
    field: Option<&'r Field>,
    missing: RuleError,
    what: &'static str,
) -> Result<&'r Token, RuleError> {
    match field.map(Vec::as_slice) {
        Some([token]) => Ok(token),
        Some([_, ..]) => Err(RuleError::Several(what)),
        Some([]) | None => Err(missing),
    }
}

/// What has only digits and dots, or a colon, was meant to be an address.
fn parse_host(name: &str) -> Result<Source, RuleError> {
    let is_number = name.chars().all(|c| c.is_ascii_digit() || c == '.');
    if name.is_empty() || is_number || name.contains([':', '%']) {
        return Err(RuleError::Address(name.to_owned()));
    }
    Ok(Source::Host(name.to_owned()))
}

fn mask_of(address: IpAddr, bits: &str) -> Option<IpAddr> {
    if bits.is_empty() || !bits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let bits: u32 = bits.parse().ok()?;
    match address {
        IpAddr::V4(_) => {
            let host_bits = u32::BITS.checked_sub(bits)?;
            Some(IpAddr::V4(u32::MAX.checked_shl(host_bits).unwrap_or(0).into()))
        }
        IpAddr::V6(_) => {
            let host_bits = u128::BITS.checked_sub(bits)?;
            Some(IpAddr::V6(u128::MAX.checked_shl(host_bits).unwrap_or(0).into()))
        }
    }
}
