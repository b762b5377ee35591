//! [`Sender`]: puts segments of its own making into a connection, as a retransmission that was merged with what follows it.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, ensure};
use halephant::splice::socket::{Queue, next_sequence};
use nix::libc;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;

const IP_HEADER_BYTES: usize = 20;
const TCP_HEADER_BYTES: usize = 20;
const TTL: u8 = 64;
const FLAG_ACK: u8 = 0x10;
const FLAG_PSH: u8 = 0x08;
/// The largest that the header can say; the receiver scales it.
const WINDOW: u16 = u16::MAX;

/// One end of an IPv4 connection, which this process has open.
pub struct Sender {
    raw: Socket,
    local: SocketAddrV4,
    remote: SocketAddrV4,
}

impl Sender {
    pub fn of(socket: &TcpStream) -> Result<Self> {
        let raw =
            Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP)).context("a raw socket needs root")?;
        raw.set_header_included_v4(true)?;
        Ok(Self { raw, local: v4(socket.local_addr()?)?, remote: v4(socket.peer_addr()?)? })
    }

    /// Sends a segment whose first `before` bytes are the last that `socket` has sent.
    pub fn inject(&self, socket: &TcpStream, before: usize, bytes: &[u8]) -> Result<()> {
        let next = next_sequence(socket.as_fd(), Queue::Send)?;
        let acknowledged = next_sequence(socket.as_fd(), Queue::Receive)?;
        let begin = next.wrapping_sub(u32::try_from(before)?);
        let segment = self.segment(begin, acknowledged, bytes);
        let packet = self.packet(&segment)?;
        let sent = self.raw.send_to(&packet, &SocketAddr::V4(self.remote).into())?;
        ensure!(sent == packet.len());
        Ok(())
    }

    fn segment(&self, sequence: u32, acknowledged: u32, bytes: &[u8]) -> Vec<u8> {
        let mut segment = Vec::with_capacity(TCP_HEADER_BYTES + bytes.len());
        segment.extend(self.local.port().to_be_bytes());
        segment.extend(self.remote.port().to_be_bytes());
        segment.extend(sequence.to_be_bytes());
        segment.extend(acknowledged.to_be_bytes());
        segment.extend([(TCP_HEADER_BYTES as u8 / 4) << 4, FLAG_ACK | FLAG_PSH]);
        segment.extend(WINDOW.to_be_bytes());
        segment.extend([0; 4]);
        segment.extend(bytes);
        let sum = self.checksum(&segment);
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        segment
    }

    /// The kernel fills in what is 0: identification and checksum.
    fn packet(&self, segment: &[u8]) -> Result<Vec<u8>> {
        let total = u16::try_from(IP_HEADER_BYTES + segment.len())?;
        let mut packet = vec![0x45, 0];
        packet.extend(total.to_be_bytes());
        packet.extend([0, 0, 0, 0, TTL, libc::IPPROTO_TCP as u8, 0, 0]);
        packet.extend(self.local.ip().octets());
        packet.extend(self.remote.ip().octets());
        packet.extend(segment);
        Ok(packet)
    }

    /// Of the segment and the addresses it goes between.
    fn checksum(&self, segment: &[u8]) -> u16 {
        let mut summed = Vec::with_capacity(12 + segment.len() + 1);
        summed.extend(self.local.ip().octets());
        summed.extend(self.remote.ip().octets());
        summed.extend([0, libc::IPPROTO_TCP as u8]);
        summed.extend((segment.len() as u16).to_be_bytes());
        summed.extend(segment);
        if summed.len() % 2 == 1 {
            summed.push(0);
        }
        let mut sum: u32 =
            summed.chunks_exact(2).map(|two| u32::from(u16::from_be_bytes([two[0], two[1]]))).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }
}

fn v4(address: SocketAddr) -> Result<SocketAddrV4> {
    match address {
        SocketAddr::V4(v4) if *v4.ip() == Ipv4Addr::LOCALHOST => Ok(v4),
        other => anyhow::bail!("{other} is not the loopback of IPv4"),
    }
}
