//! The name of a notification channel, as the server compares it: bytes in the encoding of whoever listens.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Cheap to clone: one text for all who listen.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Channel(Arc<[u8]>);

impl Channel {
    pub fn new(name: &[u8]) -> Self {
        Self(Arc::from(name))
    }

    pub fn name(&self) -> &[u8] {
        &self.0
    }

    /// A statement about the channel, such as `LISTEN "name"`.
    pub fn statement(&self, command: &str) -> Vec<u8> {
        let mut text = command.as_bytes().to_vec();
        text.extend_from_slice(b" \"");
        for &byte in self.name() {
            if byte == b'"' {
                text.push(byte);
            }
            text.push(byte);
        }
        text.push(b'"');
        text
    }
}

/// Equal, ordered and hashed as its name is.
impl Borrow<[u8]> for Channel {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted() {
        for (name, expected) in [("a", r#"LISTEN "a""#), ("A b\"c", r#"LISTEN "A b""c""#)] {
            assert_eq!(Channel::new(name.as_bytes()).statement("LISTEN"), expected.as_bytes());
        }
    }
}
