//! Secrets: shown as `***` everywhere, wiped on drop (invariant 6).

use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A password or key. `Debug` shows `***`; there is no `Display`.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The secret itself; the call site is where it leaves the type's protection.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
