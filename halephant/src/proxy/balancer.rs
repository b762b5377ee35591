//! Clients behind a load balancer: reads the PROXY protocol header that says where one comes from.

use crate::net::Origin;
use crate::net::proxy_header::{Proxied, ProxyHeaderError, header_bytes, parse};
use crate::wire::{MessageBuffer, ReadError, Stream};
use halephant_protocol::SqlState;
use halephant_protocol::backend::ErrorReport;
use ipnet::IpNet;
use std::sync::Arc;
use std::time::Duration;

/// A balancer sends the header at once.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum BalancerError {
    #[error(transparent)]
    Header(#[from] ProxyHeaderError),
    #[error("no PROXY protocol header within {} s", HEADER_TIMEOUT.as_secs())]
    Timeout,
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl BalancerError {
    /// A client that came without a balancer is told; a balancer would not understand.
    pub fn report(&self) -> Option<ErrorReport> {
        match self {
            Self::Header(error @ ProxyHeaderError::Missing) => {
                Some(ErrorReport::fatal(SqlState::PROTOCOL_VIOLATION, error.to_string()))
            }
            Self::Header(_) | Self::Timeout | Self::Read(_) => None,
        }
    }
}

/// Reads the header where the peer is in one of `networks`, and gives where the client comes from. What follows the
/// header stays in `buffer`.
pub async fn identify(
    networks: &[IpNet],
    stream: &mut Stream,
    buffer: &mut MessageBuffer,
    origin: Arc<Origin>,
) -> Result<Arc<Origin>, BalancerError> {
    let (Some(ip), Some(balancer)) = (origin.ip(), origin.address()) else { return Ok(origin) };
    if !networks.iter().any(|network| network.contains(&ip)) {
        return Ok(origin);
    }
    let read = tokio::time::timeout(HEADER_TIMEOUT, read_header(stream, buffer)).await;
    match read.unwrap_or(Err(BalancerError::Timeout))? {
        Proxied::From(client) => Ok(Arc::new(Origin::Tcp { client, via: Some(balancer) })),
        Proxied::Local => Ok(origin),
    }
}

async fn read_header(stream: &mut Stream, buffer: &mut MessageBuffer) -> Result<Proxied, BalancerError> {
    loop {
        match header_bytes(buffer.bytes())? {
            Some(length) => {
                let proxied = parse(&buffer.bytes()[..length])?;
                buffer.consume(length);
                return Ok(proxied);
            }
            None => buffer.fill(stream).await?,
        }
    }
}
