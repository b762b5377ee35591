//! What a server's messages tell about its node: reasons to ask it at once what it is.

use super::Relay;
use crate::net::Role;

/// The parameter that a server reports when it is promoted.
const IN_HOT_STANDBY: &[u8] = b"in_hot_standby";

impl Relay<'_> {
    /// `prefix`: the beginning of an ErrorResponse, up to its SQLSTATE at least.
    pub(super) fn suspect_by_error(&self, prefix: &[u8]) {
        let suspicious = match sqlstate(prefix) {
            // From a replica it is no news.
            Some(b"25006") => self.lease.node_role() != Some(Role::Replica),
            // admin_shutdown, crash_shutdown, cannot_connect_now.
            Some(b"57P01" | b"57P02" | b"57P03") => true,
            _ => false,
        };
        if suspicious {
            self.lease.suspect_node();
        }
    }

    /// `body`: that of a ParameterStatus.
    pub(super) fn suspect_by_parameter(&self, body: &[u8]) {
        if body.strip_prefix(IN_HOT_STANDBY).is_some_and(|rest| rest.first() == Some(&0)) {
            self.lease.suspect_node();
        }
    }
}

/// The field `C` of an ErrorResponse; the fields before it, both severities, are short.
pub(super) fn sqlstate(prefix: &[u8]) -> Option<&[u8]> {
    prefix.split(|&byte| byte == 0).find_map(|field| field.strip_prefix(b"C"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sqlstate_is_found_behind_the_severities() {
        let error = "SFATAL\0VFATAL\0C57P01\0Mterminating connection".as_bytes();
        assert_eq!(sqlstate(error), Some(&b"57P01"[..]));
        assert_eq!(
            sqlstate("S\u{421}\u{411}\u{41e}\u{419}\0VERROR\0C25006\0".as_bytes()),
            Some(&b"25006"[..])
        );
        assert_eq!(sqlstate(b"SERROR\0VERROR\0"), None);
        assert_eq!(sqlstate(b""), None);
    }
}
