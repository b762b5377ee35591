//! What clients of one cluster proved who they are with, to log in to its nodes in their roles.

use crate::server::Credentials;
use std::collections::HashMap;

#[derive(Debug)]
pub(super) struct Learned {
    /// By database on the server and role.
    by_role: HashMap<(String, String), Credentials>,
    /// Passwords in cleartext may be kept. A login that began before a reload may bring one when it no longer may be.
    keeps_passwords: bool,
}

impl Learned {
    pub(super) fn new(keeps_passwords: bool) -> Self {
        Self { by_role: HashMap::new(), keeps_passwords }
    }

    /// Wipes those that are known where they may be kept no longer.
    pub(super) fn keep_passwords(&mut self, keeps: bool) {
        self.keeps_passwords = keeps;
        if !keeps {
            self.by_role.values_mut().for_each(|known| known.password = None);
        }
    }

    pub(super) fn add(&mut self, database: &str, role: &str, proof: Credentials) {
        let password = proof.password.filter(|_| self.keeps_passwords);
        let known = self.by_role.entry((database.to_owned(), role.to_owned())).or_default();
        known.keys = proof.keys.or(known.keys.take());
        known.md5 = proof.md5.or(known.md5.take());
        known.password = password.or(known.password.take());
    }

    pub(super) fn of(&self, database: &str, role: &str) -> Credentials {
        self.by_role.get(&(database.to_owned(), role.to_owned())).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn password() -> Credentials {
        Credentials { password: Some(Secret::new(b"hunter2".to_vec())), ..Credentials::default() }
    }

    #[test]
    fn passwords_go_when_they_may_be_kept_no_longer() {
        let mut learned = Learned::new(true);
        learned.add("app", "ann", password());
        assert!(learned.of("app", "ann").password.is_some());
        assert!(learned.of("app", "bob").is_empty() && learned.of("other", "ann").is_empty());
        learned.keep_passwords(false);
        assert!(learned.of("app", "ann").is_empty());
        learned.keep_passwords(true);
        assert!(learned.of("app", "ann").is_empty(), "it was wiped, not hidden");
    }

    /// Its session was admitted under the configuration before.
    #[test]
    fn a_login_that_ends_after_the_reload_brings_no_password() {
        let mut learned = Learned::new(true);
        learned.keep_passwords(false);
        learned.add("app", "ann", password());
        assert!(learned.of("app", "ann").is_empty());
    }
}
