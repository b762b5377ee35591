//! The messages that a directory server is sent (RFC 4511), in BER.

use crate::auth::method::LdapScope;
use bytes::BytesMut;
use ldap3::asn1::{ASNTag, write::encode_into};
use ldap3::parse_filter;
use zeroize::Zeroizing;

/// They may hold a password.
pub(super) type Encoded = Zeroizing<Vec<u8>>;

const INTEGER: u8 = 0x02;
const BOOLEAN: u8 = 0x01;
const OCTET_STRING: u8 = 0x04;
const ENUMERATED: u8 = 0x0a;
const SEQUENCE: u8 = 0x30;
const CONTEXT_0: u8 = 0x80;
const BIND_REQUEST: u8 = 0x60;
const UNBIND_REQUEST: u8 = 0x42;
const SEARCH_REQUEST: u8 = 0x63;
const EXTENDED_REQUEST: u8 = 0x77;

const VERSION: u8 = 3;
const START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";
/// Stands for no attributes.
const NO_ATTRIBUTES: &[u8] = b"1.1";
/// A second entry says that the first is not the only one.
const ENTRIES_MAX: u8 = 2;
/// On the server, in seconds.
const SEARCH_SECONDS_MAX: u8 = 10;
/// The tag and the longest length.
const HEADER_BYTES_MAX: usize = 10;

/// A search filter as a message has it; `None` where the text is none (RFC 4515).
pub(super) fn filter(text: &str) -> Option<Vec<u8>> {
    let mut bytes = BytesMut::new();
    encode_into(&mut bytes, parse_filter(text).ok()?.into_structure()).ok()?;
    Some(bytes.to_vec())
}

pub(super) fn encode_bind(id: u8, dn: &str, password: &[u8]) -> Encoded {
    let (version, dn) = (element(INTEGER, &[&[VERSION]]), element(OCTET_STRING, &[dn.as_bytes()]));
    let password = element(CONTEXT_0, &[password]);
    encode(id, &element(BIND_REQUEST, &[&version, &dn, &password]))
}

/// For the names of entries alone.
pub(super) fn encode_search(id: u8, base: &str, scope: LdapScope, filter: &[u8]) -> Encoded {
    let scope = match scope {
        LdapScope::Base => 0,
        LdapScope::One => 1,
        LdapScope::Subtree => 2,
    };
    let parts = [
        element(OCTET_STRING, &[base.as_bytes()]),
        element(ENUMERATED, &[&[scope]]),
        // Aliases are not followed.
        element(ENUMERATED, &[&[0]]),
        element(INTEGER, &[&[ENTRIES_MAX]]),
        element(INTEGER, &[&[SEARCH_SECONDS_MAX]]),
        element(BOOLEAN, &[&[0]]),
        Zeroizing::new(filter.to_vec()),
        element(SEQUENCE, &[&element(OCTET_STRING, &[NO_ATTRIBUTES])]),
    ];
    let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_slice()).collect();
    encode(id, &element(SEARCH_REQUEST, &parts))
}

pub(super) fn encode_start_tls(id: u8) -> Encoded {
    encode(id, &element(EXTENDED_REQUEST, &[&element(CONTEXT_0, &[START_TLS])]))
}

pub(super) fn encode_unbind(id: u8) -> Encoded {
    encode(id, &element(UNBIND_REQUEST, &[]))
}

/// `id`: below 128, so that it is one byte and not negative.
fn encode(id: u8, operation: &[u8]) -> Encoded {
    element(SEQUENCE, &[&element(INTEGER, &[&[id & 0x7f]]), operation])
}

/// At its size at once: a buffer that grows leaves copies behind.
fn element(tag: u8, contents: &[&[u8]]) -> Encoded {
    let length: usize = contents.iter().map(|part| part.len()).sum();
    let mut bytes = Zeroizing::new(Vec::with_capacity(length + HEADER_BYTES_MAX));
    bytes.push(tag);
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => bytes.push(short),
        _ => {
            let octets = length.to_be_bytes();
            let used = &octets[octets.iter().take_while(|octet| **octet == 0).count()..];
            // At most eight.
            bytes.push(0x80 | used.len() as u8);
            bytes.extend_from_slice(used);
        }
    }
    contents.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use ldap_parser::FromBer;
    use ldap_parser::filter::Filter;
    use ldap_parser::ldap::{AuthenticationChoice, LdapMessage, ProtocolOp};

    fn parsed(message: &[u8]) -> LdapMessage<'_> {
        let (rest, message) = LdapMessage::from_ber(message).expect("it is a message");
        assert!(rest.is_empty());
        message
    }

    #[test]
    fn somebody_else_reads_what_was_encoded() {
        let long = vec![b'x'; 300];
        let bytes = encode_bind(7, "uid=ann,dc=example", &long);
        let message = parsed(&bytes);
        assert_eq!(message.message_id.0, 7);
        let ProtocolOp::BindRequest(bind) = message.protocol_op else { panic!("another request") };
        assert_eq!((bind.version, &*bind.name.0), (3, "uid=ann,dc=example"));
        let AuthenticationChoice::Simple(password) = bind.authentication else { panic!("not simple") };
        assert_eq!(password, long);

        let filter = filter("(&(objectClass=person)(uid=a\\2ab))").expect("it is a filter");
        let bytes = encode_search(8, "dc=example", LdapScope::Subtree, &filter);
        let ProtocolOp::SearchRequest(search) = parsed(&bytes).protocol_op else { panic!("another request") };
        assert_eq!((&*search.base_object.0, search.scope.0, search.size_limit), ("dc=example", 2, 2));
        let Filter::And(parts) = search.filter else { panic!("another filter") };
        let Filter::EqualityMatch(name) = &parts[1] else { panic!("another filter") };
        assert_eq!(&*name.assertion_value, b"a*b");

        assert!(matches!(parsed(&encode_unbind(9)).protocol_op, ProtocolOp::UnbindRequest));
        let bytes = encode_start_tls(10);
        let ProtocolOp::ExtendedRequest(request) = parsed(&bytes).protocol_op else {
            panic!("another request")
        };
        assert_eq!(request.request_name.0.as_bytes(), START_TLS);
    }

    #[test]
    fn names_that_look_like_filters_stay_names() {
        for user in ["*", "a)(uid=*", "\\", "(", "jörg", "a\0b", "\u{1F418}"] {
            let text = format!("(uid={})", ldap3::ldap_escape(user));
            let bytes = filter(&text).expect("it is a filter");
            let (_, parsed) = Filter::from_ber(&bytes).expect("it is a filter");
            let Filter::EqualityMatch(name) = parsed else { panic!("{user:?} is more than a name") };
            assert_eq!(&*name.assertion_value, user.as_bytes());
        }
        assert!(filter("uid=a").is_none() || filter("(uid=a").is_none());
    }
}
