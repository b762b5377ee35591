//! How a socket is known across processes and network namespaces: [`FlowKey`] and [`PairKey`].

pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;

/// An address as 16 bytes in network order; IPv4 is held mapped (`::ffff:a.b.c.d`), so that a dual-stack socket and an
/// IPv4 one that talk to each other have the same addresses.
pub type Address = [u32; 4];

/// The third word of a mapped IPv4 address.
const MAPPED: u32 = 0xffff_u32.to_be();

/// `address` is in network order, as the kernel and the socket functions hold it.
#[inline(always)]
pub const fn mapped(address: u32) -> Address {
    [0, 0, MAPPED, address]
}

#[inline(always)]
pub const fn is_mapped(address: &Address) -> bool {
    address[0] == 0 && address[1] == 0 && address[2] == MAPPED
}

/// One TCP socket, seen from its own side.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    pub local: Address,
    pub remote: Address,
    /// Host order.
    pub local_port: u16,
    /// Host order.
    pub remote_port: u16,
    /// Of the addresses, not of the socket: [`AF_INET`] for mapped ones.
    pub family: u16,
    pub reserved: u16,
    /// Cookie of the socket's network namespace; 0 where the kernel does not tell (5.10).
    pub netns: u64,
}

const _: () = assert!(size_of::<FlowKey>() == 48 && align_of::<FlowKey>() == 8);

impl FlowKey {
    #[inline(always)]
    pub const fn new(local: Address, local_port: u16, remote: Address, remote_port: u16, netns: u64) -> Self {
        let family = if is_mapped(&local) { AF_INET } else { AF_INET6 };
        Self { local, remote, local_port, remote_port, family, reserved: 0, netns }
    }

    /// The other end's, where addresses are not translated on the way.
    pub const fn reversed(&self) -> Self {
        Self {
            local: self.remote,
            remote: self.local,
            local_port: self.remote_port,
            remote_port: self.local_port,
            ..*self
        }
    }

    pub const EMPTY: Self = Self {
        local: [0; 4],
        remote: [0; 4],
        local_port: 0,
        remote_port: 0,
        family: 0,
        reserved: 0,
        netns: 0,
    };
}

/// One TCP connection, the same from either end: both see the same addresses and the same initial sequence numbers.
/// The sequence numbers make two connections with equal addresses in different network namespaces distinct.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PairKey {
    /// The end that connected.
    pub active: Address,
    /// The end that accepted.
    pub passive: Address,
    pub active_port: u16,
    pub passive_port: u16,
    pub active_sequence: u32,
    pub passive_sequence: u32,
    pub reserved: u32,
}

const _: () = assert!(size_of::<PairKey>() == 48 && align_of::<PairKey>() == 4);

impl PairKey {
    /// `sent` and `received` are the next sequence numbers to send and to receive when the connection is established.
    #[inline(always)]
    pub const fn of_active(key: &FlowKey, sent: u32, received: u32) -> Self {
        Self {
            active: key.local,
            passive: key.remote,
            active_port: key.local_port,
            passive_port: key.remote_port,
            active_sequence: sent,
            passive_sequence: received,
            reserved: 0,
        }
    }

    #[inline(always)]
    pub const fn of_passive(key: &FlowKey, sent: u32, received: u32) -> Self {
        Self {
            active: key.remote,
            passive: key.local,
            active_port: key.remote_port,
            passive_port: key.local_port,
            active_sequence: received,
            passive_sequence: sent,
            reserved: 0,
        }
    }
}

/// The active end of a connection whose passive end has not been seen yet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Birth {
    /// The active socket.
    pub key: FlowKey,
    pub cookie: u64,
    /// [`BIRTH_CLIENT`] or [`BIRTH_DIAL`].
    pub kind: u32,
    pub reserved: u32,
}

const _: () = assert!(size_of::<Birth>() == 64);

/// The active end is another process's, towards one of our listeners.
pub const BIRTH_CLIENT: u32 = 1;
/// The active end is ours.
pub const BIRTH_DIAL: u32 = 2;

/// What one of our sockets is told of the other end of its connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub key: FlowKey,
    /// Of the other end, as `SO_COOKIE` and sock_diag tell it.
    pub cookie: u64,
}

const _: () = assert!(size_of::<Peer>() == 56);
