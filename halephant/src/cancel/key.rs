//! The keys that clients hold to cancel by, and what they say: of which process of which host they are.
//!
//! A process ID has 31 bits: 7 for the place of the process among those of its host, 24 for the session. A secret key of
//! protocol 3.2 has the host, the place and the process's generation ahead of its random part; one of 3.0 has no room.

use sha2::{Digest, Sha256};
use std::os::unix::fs::MetadataExt;
use zeroize::Zeroizing;

/// Places of processes on one host.
pub const PLACES: u8 = 128;
const SESSION_BITS: u32 = 24;
const SESSION_MASK: u32 = (1 << SESSION_BITS) - 1;

/// Secret keys of protocol 3.0 have 4 bytes, those of 3.2 up to 256.
const SHORT_KEY_BYTES: usize = 4;
const NODE_BYTES: usize = 8;
const GENERATION_BYTES: usize = 7;
const HEAD_BYTES: usize = NODE_BYTES + 1 + GENERATION_BYTES;
const LONG_KEY_BYTES: usize = HEAD_BYTES + 24;

/// In a key of a process without a place.
const NO_PLACE: u8 = u8::MAX;

/// The position of a process among those of its host that reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(pub(super) u8);

/// Which process the keys are of.
#[derive(Clone, Debug)]
pub struct Identity {
    node: [u8; NODE_BYTES],
    pub(super) place: Option<Place>,
    generation: [u8; GENERATION_BYTES],
}

/// Whose key a CancelRequest holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Own,
    /// Another process of this host.
    Other(Place),
    /// Nobody who could be reached.
    Nobody,
}

impl Identity {
    /// Of this process, as another start of it would not have it.
    pub fn new(place: Option<Place>) -> Self {
        Self { node: node(), place, generation: rand::random() }
    }

    /// The process ID of the session with this number.
    pub fn process_id(&self, number: u32) -> u32 {
        match self.place {
            Some(Place(place)) => (u32::from(place) << SESSION_BITS) | (number & SESSION_MASK),
            // Drivers read it as a signed number; PostgreSQL's are positive.
            None => number & 0x7fff_ffff,
        }
    }

    /// An unpredictable key.
    pub fn secret_key(&self, long: bool) -> Result<Zeroizing<Vec<u8>>, getrandom::Error> {
        let mut key = Zeroizing::new(vec![0; if long { LONG_KEY_BYTES } else { SHORT_KEY_BYTES }]);
        if !long {
            getrandom::fill(&mut key)?;
            return Ok(key);
        }
        let (head, random) = key.split_at_mut(HEAD_BYTES);
        head.copy_from_slice(&self.head());
        getrandom::fill(random)?;
        Ok(key)
    }

    fn head(&self) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        head[..NODE_BYTES].copy_from_slice(&self.node);
        head[NODE_BYTES] = self.place.map_or(NO_PLACE, |Place(place)| place);
        head[NODE_BYTES + 1..].copy_from_slice(&self.generation);
        head
    }

    /// Whose key it is, as far as the key and the process ID tell; whether it is right is another matter.
    pub fn owner(&self, process_id: u32, secret_key: &[u8]) -> Owner {
        let place = if secret_key.len() == LONG_KEY_BYTES {
            let head = &secret_key[..HEAD_BYTES];
            if head == self.head() {
                return Owner::Own;
            }
            if !head.starts_with(&self.node) {
                return Owner::Nobody;
            }
            head[NODE_BYTES]
        } else if secret_key.len() == SHORT_KEY_BYTES {
            u8::try_from(process_id >> SESSION_BITS).unwrap_or(NO_PLACE)
        } else {
            return Owner::Nobody;
        };
        if place >= PLACES {
            Owner::Nobody
        } else if self.place == Some(Place(place)) {
            // Of this process, or of one that had its place before.
            Owner::Own
        } else {
            Owner::Other(Place(place))
        }
    }
}

/// Those processes reach each other that are in one network namespace of one running system.
fn node() -> [u8; NODE_BYTES] {
    let boot = std::fs::read("/proc/sys/kernel/random/boot_id");
    let namespace = std::fs::metadata("/proc/self/ns/net").map(|metadata| (metadata.dev(), metadata.ino()));
    let (Ok(boot), Ok((device, inode))) = (boot, namespace) else { return rand::random() };
    let mut digest = Sha256::new();
    digest.update(&boot);
    digest.update(device.to_be_bytes());
    digest.update(inode.to_be_bytes());
    let mut node = [0; NODE_BYTES];
    node.copy_from_slice(&digest.finalize()[..NODE_BYTES]);
    node
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(place: u8) -> Identity {
        Identity::new(Some(Place(place)))
    }

    #[test]
    fn keys_name_their_process() {
        let [one, other] = [3, 127].map(identity);
        for long in [false, true] {
            let key = one.secret_key(long).expect("random bytes");
            let process_id = one.process_id(77);
            assert!(process_id <= 0x7fff_ffff);
            assert_eq!(one.owner(process_id, &key), Owner::Own);
            assert_eq!(other.owner(process_id, &key), Owner::Other(Place(3)));
            assert_ne!(*key, *one.secret_key(long).expect("random bytes"));
        }
        assert_eq!(one.process_id(1 << 24 | 5), one.process_id(5));
    }

    #[test]
    fn a_process_without_a_place_reaches_the_others() {
        let placeless = Identity::new(None);
        let one = identity(5);
        let key = one.secret_key(true).expect("random bytes");
        assert_eq!(placeless.owner(one.process_id(1), &key), Owner::Other(Place(5)));
        let key = placeless.secret_key(true).expect("random bytes");
        assert_eq!(placeless.owner(placeless.process_id(1), &key), Owner::Own);
        assert_eq!(one.owner(placeless.process_id(1), &key), Owner::Nobody);
    }

    #[test]
    fn what_is_no_key_of_this_host_goes_nowhere() {
        let [one, other] = [3, 4].map(identity);
        let mut key = other.secret_key(true).expect("random bytes");
        key[0] ^= 1;
        assert_eq!(one.owner(other.process_id(1), &key), Owner::Nobody);
        for key in [&[][..], &[0; 3], &[0; 5], &[0; 256]] {
            assert_eq!(one.owner(other.process_id(1), key), Owner::Nobody);
        }
        assert_eq!(one.owner(u32::MAX, &[0; 4]), Owner::Nobody);
    }
}
