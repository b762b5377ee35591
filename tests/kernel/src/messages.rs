//! Streams of messages.

use rand::Rng as _;
use rand::RngExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

pub fn query(text: &[u8]) -> Vec<u8> {
    message(b'Q', text)
}

pub fn ready(status: u8) -> Vec<u8> {
    message(b'Z', &[status])
}

pub fn terminate() -> Vec<u8> {
    message(b'X', b"")
}

/// Messages with random bodies, at least `bytes` bytes, ending at a boundary.
pub fn stream(seed: u64, tag: u8, bytes: usize, body_bytes_max: usize) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut stream = Vec::with_capacity(bytes + body_bytes_max);
    while stream.len() < bytes {
        let mut body = vec![0; random.random_range(0..=body_bytes_max)];
        random.fill_bytes(&mut body);
        stream.extend(message(tag, &body));
    }
    stream
}

/// Follows messages as the relay reads them.
#[derive(Clone, Debug, Default)]
pub struct Tracker {
    left: usize,
    header: Vec<u8>,
}

impl Tracker {
    /// Goes on where the kernel stopped.
    pub fn resume(&mut self, framing: &halephant::splice::Framing) {
        self.left = framing.left as usize;
        self.header = framing.header_bytes()[..usize::from(framing.header_len)].to_vec();
    }

    pub fn at_boundary(&self) -> bool {
        self.left == 0 && self.header.is_empty()
    }

    /// Whether a Terminate begins in these bytes.
    pub fn feed(&mut self, mut bytes: &[u8]) -> bool {
        let mut terminate = false;
        while !bytes.is_empty() {
            if self.left > 0 {
                let taken = self.left.min(bytes.len());
                self.left -= taken;
                bytes = &bytes[taken..];
                continue;
            }
            let missing = (5 - self.header.len()).min(bytes.len());
            self.header.extend(&bytes[..missing]);
            bytes = &bytes[missing..];
            if self.header.len() == 5 {
                terminate |= self.header[0] == b'X';
                let length =
                    u32::from_be_bytes([self.header[1], self.header[2], self.header[3], self.header[4]]);
                self.left = (length as usize).checked_sub(4).expect("the relay stands at a message boundary");
                self.header.clear();
            }
        }
        terminate
    }
}
