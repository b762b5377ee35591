//! One connection to a directory server: questions and answers, one at a time.
//!
//! `ldap3` has a connection as well, but it panics on answers that are not as it expects them, and what comes over the
//! network must not end the process: answers are parsed by `ldap-parser`.

use super::message::{self, Encoded};
use crate::auth::method::{LdapOptions, LdapScheme, LdapScope};
use ldap_parser::FromBer;
use ldap_parser::ldap::{LdapMessage, LdapResult, ProtocolOp, ResultCode};
use rustls::pki_types::ServerName;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Answers hold names and texts, no attributes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Entries and references to other servers in the answer to one search.
const ANSWERS_MAX: usize = 64;
const SEQUENCE: u8 = 0x30;

#[derive(Debug, thiserror::Error)]
pub(super) enum LdapError {
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    #[error("TLS handshake failed: {0}")]
    Tls(#[source] io::Error),
    #[error("\"{0}\" is not a name that a certificate could have")]
    Name(String),
    #[error("the connection was lost: {0}")]
    Io(#[from] io::Error),
    #[error("the server's answer is not one of LDAP")]
    Malformed,
    #[error("the server's answer is longer than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
    #[error("the server's answer is not one to the question")]
    Unexpected,
    #[error("the filter cannot be sent")]
    Filter,
    #[error("no answer in time")]
    Slow,
    #[error("the {what} failed with code {code}: {text}")]
    Result { what: &'static str, code: u32, text: String },
}

/// What a search came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nobody,
    /// Its distinguished name.
    One(String),
    Several,
}

trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Transport for T {}

pub(super) struct Connection {
    stream: Box<dyn Transport>,
    /// Of the last message that was sent.
    id: u8,
}

impl Connection {
    /// Not cancel safe: the connection is lost, and nothing else.
    pub(super) async fn open(
        options: &LdapOptions,
        tls: Option<&TlsConnector>,
        server: &str,
    ) -> Result<Self, LdapError> {
        let stream = TcpStream::connect((server, options.port)).await.map_err(LdapError::Connect)?;
        stream.set_nodelay(true).map_err(LdapError::Connect)?;
        let Some(tls) = tls else { return Ok(Self::over(stream)) };
        let name = ServerName::try_from(server.to_owned()).map_err(|_| LdapError::Name(server.to_owned()))?;
        let stream = match options.scheme {
            LdapScheme::Ldaps => stream,
            LdapScheme::Ldap => start_tls(stream).await?,
        };
        Ok(Self::over(tls.connect(name, stream).await.map_err(LdapError::Tls)?))
    }

    fn over(stream: impl Transport + 'static) -> Self {
        // StartTLS was number 1.
        Self { stream: Box::new(stream), id: 1 }
    }

    /// A simple bind, with the server's words about it.
    pub(super) async fn bind(
        &mut self,
        dn: &str,
        password: &[u8],
    ) -> Result<(ResultCode, String), LdapError> {
        let id = self.next();
        write(&mut self.stream, message::encode_bind(id, dn, password)).await?;
        let answer = read(&mut self.stream).await?;
        match parse(&answer, id)? {
            ProtocolOp::BindResponse(response) => Ok(outcome(&response.result)),
            _ => Err(LdapError::Unexpected),
        }
    }

    pub(super) async fn search(
        &mut self,
        base: &str,
        scope: LdapScope,
        filter: &[u8],
    ) -> Result<Found, LdapError> {
        let id = self.next();
        write(&mut self.stream, message::encode_search(id, base, scope, filter)).await?;
        let mut found = Found::Nobody;
        for _ in 0..ANSWERS_MAX {
            let answer = read(&mut self.stream).await?;
            match parse(&answer, id)? {
                ProtocolOp::SearchResultEntry(entry) => {
                    found = match found {
                        Found::Nobody => Found::One(entry.object_name.0.into_owned()),
                        _ => Found::Several,
                    };
                }
                // Another server may know more; it is not asked.
                ProtocolOp::SearchResultReference(_) | ProtocolOp::IntermediateResponse(_) => {}
                ProtocolOp::SearchResultDone(result) => {
                    return match outcome(&result) {
                        (ResultCode::Success, _) => Ok(found),
                        (ResultCode::SizeLimitExceeded, _) if found == Found::Several => Ok(found),
                        (code, text) => Err(LdapError::Result { what: "search", code: code.0, text }),
                    };
                }
                _ => return Err(LdapError::Unexpected),
            }
        }
        Err(LdapError::TooLong)
    }

    /// Nobody has to answer this.
    pub(super) async fn unbind(mut self) {
        let id = self.next();
        let _ = write(&mut self.stream, message::encode_unbind(id)).await;
        let _ = self.stream.shutdown().await;
    }

    fn next(&mut self) -> u8 {
        // A login has a handful of them.
        self.id = self.id.wrapping_add(1);
        self.id
    }
}

/// The answer is read to its last byte and not further: what a man in the middle puts behind it is taken for a part of
/// the handshake.
async fn start_tls(mut stream: TcpStream) -> Result<TcpStream, LdapError> {
    let id = 1;
    write(&mut stream, message::encode_start_tls(id)).await?;
    let answer = read(&mut stream).await?;
    match parse(&answer, id)? {
        ProtocolOp::ExtendedResponse(response) => match outcome(&response.result) {
            (ResultCode::Success, _) => Ok(stream),
            (code, text) => Err(LdapError::Result { what: "start of TLS", code: code.0, text }),
        },
        _ => Err(LdapError::Unexpected),
    }
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), message: Encoded) -> Result<(), LdapError> {
    stream.write_all(&message).await?;
    Ok(stream.flush().await?)
}

/// One message: a sequence of a definite length.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, LdapError> {
    let mut header = [0; 2];
    stream.read_exact(&mut header).await?;
    let [SEQUENCE, first] = header else { return Err(LdapError::Malformed) };
    let mut message = header.to_vec();
    let length = match first {
        0..=0x7f => usize::from(first),
        0x81..=0x84 => {
            let mut octets = [0; 4];
            let octets = &mut octets[..usize::from(first & 0x7f)];
            stream.read_exact(octets).await?;
            message.extend_from_slice(octets);
            octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet))
        }
        _ => return Err(LdapError::Malformed),
    };
    if length > ANSWER_BYTES_MAX {
        return Err(LdapError::TooLong);
    }
    let start = message.len();
    message.resize(start + length, 0);
    stream.read_exact(&mut message[start..]).await?;
    Ok(message)
}

fn parse(answer: &[u8], id: u8) -> Result<ProtocolOp<'_>, LdapError> {
    match LdapMessage::from_ber(answer) {
        Ok((_, message)) if message.message_id.0 == u32::from(id) => Ok(message.protocol_op),
        // Number 0 says that the server is about to leave.
        Ok(_) => Err(LdapError::Unexpected),
        Err(_) => Err(LdapError::Malformed),
    }
}

fn outcome(result: &LdapResult<'_>) -> (ResultCode, String) {
    (result.result_code, result.diagnostic_message.0.chars().take(200).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::duplex;

    /// A bind that went well, a search entry, the end of a search, an extended response.
    const ANSWERS: [&[u8]; 4] = [
        b"\x30\x0c\x02\x01\x02\x61\x07\x0a\x01\x00\x04\x00\x04\x00",
        b"\x30\x0e\x02\x01\x02\x64\x09\x04\x05\x63\x6e\x3d\x61\x62\x30\x00",
        b"\x30\x0c\x02\x01\x02\x65\x07\x0a\x01\x00\x04\x00\x04\x00",
        b"\x30\x14\x02\x01\x02\x78\x0f\x0a\x01\x00\x04\x00\x04\x00\x8a\x01\x31\x8b\x03\x61\x62\x63",
    ];

    /// The server's answers, and what was sent to it.
    async fn asked<T>(answers: &[u8], question: impl AsyncFnOnce(&mut Connection) -> T) -> (T, Vec<u8>) {
        let (own, mut server) = duplex(1 << 20);
        server.write_all(answers).await.expect("there is room");
        server.shutdown().await.expect("it is open");
        let mut connection = Connection::over(own);
        let outcome = question(&mut connection).await;
        drop(connection);
        let mut sent = Vec::new();
        server.read_to_end(&mut sent).await.expect("it is open");
        (outcome, sent)
    }

    fn search(answers: &[u8]) -> Result<Found, LdapError> {
        let question = async |connection: &mut Connection| {
            let filter = message::filter("(uid=ab)").expect("it is one");
            connection.search("dc=example", LdapScope::Subtree, &filter).await
        };
        run(asked(answers, question)).0
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("it starts");
        runtime.block_on(future)
    }

    #[test]
    fn answers_are_read_one_by_one() {
        let [bind, entry, done, _] = ANSWERS;
        let bound = run(asked(bind, async |connection: &mut Connection| connection.bind("cn=a", b"b").await));
        assert_eq!(bound.0.expect("it is an answer").0, ResultCode::Success);
        assert_eq!(bound.1, *message::encode_bind(2, "cn=a", b"b"));
        assert_eq!(search(done).expect("it is an answer"), Found::Nobody);
        assert_eq!(search(&[entry, done].concat()).expect("it is an answer"), Found::One("cn=ab".into()));
        assert_eq!(search(&[entry, entry, done].concat()).expect("it is an answer"), Found::Several);
        assert!(matches!(search(entry), Err(LdapError::Io(_))), "the end is missing");
        assert!(matches!(search(&entry.repeat(ANSWERS_MAX + 1)), Err(LdapError::TooLong)));
        assert!(matches!(search(b"\x30\x83\x01\x00\x01"), Err(LdapError::TooLong)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn no_answer_does_harm(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = search(&bytes);
            let _ = parse(&bytes, 2);
        }

        #[test]
        fn no_answer_that_is_nearly_right_does_harm(
            answer in prop::sample::select(&ANSWERS[..]),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut bytes = answer.to_vec();
            for (index, byte) in changes {
                let index = index.index(bytes.len());
                bytes[index] = byte;
            }
            let _ = search(&bytes);
            let _ = parse(&bytes, 2);
        }
    }
}
