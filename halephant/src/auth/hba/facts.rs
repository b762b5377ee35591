//! What the system knows of one client's address: asked for at most once, and only where a rule wants to know.

use super::address::Network;
use super::names::NAMES;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;
use std::net::IpAddr;

/// About one client.
#[derive(Debug, Default)]
pub struct Facts {
    /// The networks of this machine, each with its own address in it.
    networks: Option<Vec<Network>>,
    /// The client's name: found by its address, and leading back to it.
    name: Option<Option<String>>,
}

impl Facts {
    /// Facts that nobody has to be asked for.
    #[cfg(test)]
    pub(super) fn given(networks: Vec<Network>, name: Option<&str>) -> Self {
        Self { networks: Some(networks), name: Some(name.map(str::to_owned)) }
    }

    pub(super) fn networks(&mut self) -> &[Network] {
        self.networks.get_or_insert_with(interfaces)
    }

    /// Cancel safe.
    pub async fn name_of(&mut self, address: IpAddr) -> Option<&str> {
        if self.name.is_none() {
            self.name = Some(NAMES.of(address).await);
        }
        self.name.as_ref()?.as_deref()
    }
}

fn interfaces() -> Vec<Network> {
    let interfaces = match getifaddrs() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            tracing::warn!(%error, "this machine's addresses cannot be listed: samehost and samenet match nobody");
            return Vec::new();
        }
    };
    let network = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = ip(interface.address.as_ref()?)?;
        Some(Network { address, mask: ip(interface.netmask.as_ref()?)? })
    };
    interfaces.filter_map(network).collect()
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => Some(IpAddr::V4(v4.ip())),
        (_, Some(v6)) => Some(IpAddr::V6(v6.ip())),
        _ => None,
    }
}
