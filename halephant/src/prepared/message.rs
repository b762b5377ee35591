//! The parts of messages that name prepared statements, read where they lie and written with another name (manual:
//! Message Formats).

use super::statement::StatementId;
use bytes::{BufMut, BytesMut};
use halephant_protocol::frame::{HEADER_BYTES, Header};
use halephant_protocol::frontend::tag;

/// Longest part of a message that is looked through for the end of its names.
pub const NAMES_BYTES_MAX: usize = 16 * 1024;

/// Where the name of a prepared statement is in a message: behind `before` bytes of its body, which a portal's name or
/// a target fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub before: usize,
    pub name_bytes: usize,
}

impl Place {
    /// Bytes of the message up to the end of the name, its NUL included.
    pub fn end(self) -> usize {
        HEADER_BYTES + self.before + self.name_bytes + 1
    }

    pub fn name(self, message: &[u8]) -> &[u8] {
        let start = HEADER_BYTES + self.before;
        message.get(start..start + self.name_bytes).unwrap_or_default()
    }
}

/// What a message says about a prepared statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mention {
    At(Place),
    /// It is about something else, or malformed: the server will say.
    Nothing,
    /// The name has not come yet.
    Cut,
}

/// Looks for the name of a prepared statement in a Bind, Describe or Close, of which `message` may be the beginning.
#[inline]
pub fn mention(header: Header, message: &[u8]) -> Mention {
    let whole = header.frame_bytes();
    let message = &message[..message.len().min(whole)];
    let there = message.get(HEADER_BYTES..).unwrap_or_default();
    let before = match (header.tag, there.first()) {
        (tag::BIND, _) => memchr::memchr(0, there).map(|end| end + 1),
        (_, Some(b'S')) => Some(1),
        (_, Some(_)) => return Mention::Nothing,
        (_, None) => None,
    };
    let name_bytes = before.and_then(|before| memchr::memchr(0, &there[before..]));
    match (before, name_bytes) {
        (Some(before), Some(name_bytes)) => Mention::At(Place { before, name_bytes }),
        _ if message.len() >= whole.min(NAMES_BYTES_MAX) => Mention::Nothing,
        _ => Mention::Cut,
    }
}

/// Appends the beginning of `message`, up to the end of the statement's name, with the canonical name in its place.
#[inline]
pub fn rename(header: Header, message: &[u8], place: Place, id: StatementId, out: &mut BytesMut) {
    let name = id.name();
    let name = name.as_bytes();
    // Neither is longer than a frame may be: both names are short.
    let body_bytes = header.body_bytes - place.name_bytes as u32 + name.len() as u32;
    out.extend_from_slice(&Header { tag: header.tag, body_bytes }.encode());
    out.extend_from_slice(message.get(HEADER_BYTES..HEADER_BYTES + place.before).unwrap_or_default());
    out.extend_from_slice(name);
    out.put_u8(0);
}

/// Appends a Parse. `definition`: what stands behind the name, as the client sent it.
pub fn encode_parse(name: &[u8], definition: &[u8], out: &mut BytesMut) {
    let body_bytes = (name.len() + 1 + definition.len()) as u32;
    out.extend_from_slice(&Header { tag: tag::PARSE, body_bytes }.encode());
    out.extend_from_slice(name);
    out.put_u8(0);
    out.extend_from_slice(definition);
}

/// Appends a Close of a prepared statement.
pub fn encode_close(name: &[u8], out: &mut BytesMut) {
    encode_about(tag::CLOSE, name, out);
}

/// Appends a Describe of a prepared statement.
pub fn encode_describe(name: &[u8], out: &mut BytesMut) {
    encode_about(tag::DESCRIBE, name, out);
}

fn encode_about(tag: u8, name: &[u8], out: &mut BytesMut) {
    let body_bytes = (name.len() + 2) as u32;
    out.extend_from_slice(&Header { tag, body_bytes }.encode());
    out.put_u8(b'S');
    out.extend_from_slice(name);
    out.put_u8(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use halephant_protocol::frame::parse_header;
    use halephant_protocol::frontend::{Bind, Close, Describe, Parse, Target};
    use proptest::prelude::*;

    fn header(message: &[u8]) -> Header {
        parse_header(message).expect("it is one").expect("it is whole")
    }

    fn bind(portal: &[u8], statement: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        let bind = Bind {
            portal,
            statement,
            parameter_formats: Default::default(),
            parameters: Default::default(),
            result_formats: Default::default(),
        };
        bind.encode(&mut out).expect("no NUL");
        out
    }

    /// The renamed message as a whole.
    fn renamed(message: &[u8], id: u64) -> BytesMut {
        let Mention::At(place) = mention(header(message), message) else { panic!("a name is there") };
        let mut out = BytesMut::new();
        rename(header(message), message, place, StatementId(id), &mut out);
        out.extend_from_slice(&message[place.end()..]);
        out
    }

    #[test]
    fn names_are_found_and_replaced() {
        assert_eq!(renamed(&bind(b"p", b"mine"), 7), bind(b"p", b"hp_7"));
        assert_eq!(renamed(&bind(b"", b"a"), 12345), bind(b"", b"hp_12345"));
        let mut messages: [BytesMut; 6] = Default::default();
        Describe { target: Target::Statement, name: b"mine" }.encode(&mut messages[0]).expect("no NUL");
        Describe { target: Target::Statement, name: b"hp_1" }.encode(&mut messages[1]).expect("no NUL");
        assert_eq!(renamed(&messages[0], 1), messages[1]);
        Describe { target: Target::Portal, name: b"mine" }.encode(&mut messages[2]).expect("no NUL");
        assert_eq!(mention(header(&messages[2]), &messages[2]), Mention::Nothing);
        Close { target: Target::Statement, name: b"hp_3" }.encode(&mut messages[3]).expect("no NUL");
        encode_close(b"hp_3", &mut messages[4]);
        assert_eq!(messages[3], messages[4]);
        encode_describe(b"hp_1", &mut messages[5]);
        assert_eq!(messages[5], messages[1]);
    }

    #[test]
    fn a_parse_is_what_the_client_sent_under_another_name() {
        let mut sent = BytesMut::new();
        let types = [[0, 0, 0, 23]];
        let parse = |statement| Parse {
            statement,
            query: b"SELECT $1",
            parameter_types: halephant_protocol::list::Oids::new(&types),
        };
        parse(b"mine").encode(&mut sent).expect("no NUL");
        let definition = &sent[HEADER_BYTES + 5..];
        let (mut expected, mut found) = (BytesMut::new(), BytesMut::new());
        parse(b"hp_9").encode(&mut expected).expect("no NUL");
        encode_parse(b"hp_9", definition, &mut found);
        assert_eq!(found, expected);
    }

    #[test]
    fn what_names_nothing_is_left_to_the_server() {
        let wrong: [&[u8]; 4] = [b"B\0\0\0\x05\0", b"B\0\0\0\x06ab", b"D\0\0\0\x05S", b"D\0\0\0\x06Sx"];
        for message in wrong {
            assert_eq!(mention(header(message), message), Mention::Nothing, "{}", message.escape_ascii());
        }
        assert_eq!(mention(header(b"D\0\0\0\x04"), b"D\0\0\0\x04"), Mention::Nothing);
        // An endless name.
        let long = bind(&vec![b'x'; 2 * NAMES_BYTES_MAX], b"s");
        assert_eq!(mention(header(&long), &long[..NAMES_BYTES_MAX]), Mention::Nothing);
    }

    proptest! {
        /// Cut anywhere, it is found once it is there, and the same every time.
        #[test]
        fn a_cut_message_is_waited_for(portal in "[a-z]{0,20}", name in "[a-z]{0,20}", cut in 0_usize..100) {
            let whole = bind(portal.as_bytes(), name.as_bytes());
            let cut = HEADER_BYTES + cut % (whole.len() - HEADER_BYTES + 1);
            match mention(header(&whole), &whole[..cut]) {
                Mention::At(place) => {
                    prop_assert_eq!(place.name(&whole), name.as_bytes());
                    prop_assert!(place.end() <= cut);
                }
                found => {
                    prop_assert_eq!(found, Mention::Cut);
                    prop_assert!(cut < HEADER_BYTES + portal.len() + name.len() + 2);
                }
            }
        }

        /// A renamed message is a well-formed one that says the same.
        #[test]
        fn renaming_changes_the_name_alone(portal in "[a-z]{0,20}", name in "[a-z]{0,70}", id in any::<u64>()) {
            let found = renamed(&bind(portal.as_bytes(), name.as_bytes()), id);
            prop_assert_eq!(found, bind(portal.as_bytes(), StatementId(id).name().as_bytes()));
        }
    }
}
