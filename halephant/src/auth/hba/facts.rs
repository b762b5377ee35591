//! What the system knows of one client's address: asked for at most once, and only where a rule wants to know.

use super::address::Network;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;
use std::net::IpAddr;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Names that are looked up at a time, over all clients: each one keeps a thread.
static LOOKUPS: Semaphore = Semaphore::const_new(32);

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
            self.name = Some(verified_name(address).await);
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

/// A name says what its owner wants; only one that leads back to the address is believed.
async fn verified_name(address: IpAddr) -> Option<String> {
    let _turn = LOOKUPS.acquire().await.ok()?;
    let name = spawn_blocking(move || dns_lookup::lookup_addr(&address)).await.ok()?.ok()?;
    // Where there is no name, the address comes back as text.
    if name.parse::<IpAddr>().is_ok() {
        return None;
    }
    let mut addresses = tokio::net::lookup_host((name.as_str(), 0)).await.ok()?;
    let leads_back = addresses.any(|found| found.ip().to_canonical() == address);
    drop(addresses);
    leads_back.then_some(name)
}
