//! Directory servers that break the protocol: the login fails, and nothing else does.

use crate::pki::{LIMIT, Pki};
use crate::stage::{Ruled, outcome};
use crate::{failed, patient};
use halephant_harness::Cluster;
use halephant_suite::stage::ROLE;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Answers to the first question of a connection.
const ANSWERS: [(&str, &[u8]); 14] = [
    ("nothing", b""),
    ("half a header", b"\x30"),
    ("half a message", b"\x30\x0c\x02\x01\x02\x61\x07\x0a"),
    ("an empty message", b"\x30\x00"),
    ("no sequence", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    ("an indefinite length", b"\x30\x80\x02\x01\x02\x00\x00"),
    ("a length of four gigabytes", b"\x30\x84\xff\xff\xff\xff"),
    ("a length of more bytes than there are", b"\x30\x88\xff\xff\xff\xff\xff\xff\xff\xff"),
    ("a message ID alone", b"\x30\x03\x02\x01\x02"),
    ("an ID of another question", b"\x30\x0c\x02\x01\x63\x61\x07\x0a\x01\x00\x04\x00\x04\x00"),
    ("another answer", b"\x30\x0c\x02\x01\x02\x65\x07\x0a\x01\x00\x04\x00\x04\x00"),
    ("a success without a code", b"\x30\x05\x02\x01\x02\x61\x00"),
    (
        "a code of nine bytes",
        b"\x30\x14\x02\x01\x02\x61\x0f\x0a\x09\x01\x01\x01\x01\x01\x01\x01\x01\x00\x04\x00\x04\x00",
    ),
    ("a text that is no UTF-8", b"\x30\x0e\x02\x01\x02\x61\x09\x0a\x01\x00\x04\x00\x04\x02\xff\xfe"),
];
/// What slapd would have said.
const SUCCESS: &[u8] = b"\x30\x0c\x02\x01\x02\x61\x07\x0a\x01\x00\x04\x00\x04\x00";

/// To the one question for StartTLS: yes, no, and yes with the answer to the next question behind it.
const START_TLS: [(&str, &[u8]); 3] = [
    ("no", b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x35\x04\x00\x04\x00"),
    ("yes", b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00"),
    (
        "yes, and the login went well",
        b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00\x30\x0c\x02\x01\x02\x61\x07\x0a\x01\x00\x04\x00\x04\x00",
    ),
];

/// Says what it is told to, once for each connection.
struct Server {
    port: u16,
    answer: Mutex<&'static [u8]>,
    /// What it was sent.
    seen: Mutex<Vec<u8>>,
}

impl Server {
    fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let server = Arc::new(Self { port, answer: Mutex::default(), seen: Mutex::default() });
        let own = Arc::clone(&server);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                own.serve(stream);
            }
        });
        server
    }

    fn serve(&self, mut stream: TcpStream) {
        let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
        let mut part = [0; 1024];
        let mut read = |stream: &mut TcpStream| {
            let count = stream.read(&mut part).unwrap_or(0);
            self.seen.lock().expect("nobody panics").extend_from_slice(&part[..count]);
            count > 0
        };
        read(&mut stream);
        let answer = *self.answer.lock().expect("nobody panics");
        let _ = stream.write_all(answer);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        // Until the other side has had enough.
        while read(&mut stream) {}
    }

    fn answer(&self, answer: &'static [u8]) {
        *self.answer.lock().expect("nobody panics") = answer;
    }
}

#[test]
fn a_server_that_breaks_the_protocol_lets_nobody_in() {
    let server = Server::start();
    let rules =
        format!("host all all all ldap ldapserver=127.0.0.1 ldapport={} ldapprefix=cn=\n", server.port);
    let ruled =
        Ruled::with(&rules, Cluster::builder(), |config| patient(config).pgpass("*:*:*:app:app-password"));
    let login = ruled.stage.transaction().password("x");
    let log = || ruled.stage.proxy.log().matches("LDAP authentication failed").count();
    for (what, answer) in ANSWERS {
        server.answer(answer);
        let before = log();
        assert_eq!(outcome(&login), failed("LDAP", ROLE), "{what}");
        let told = halephant_harness::wait_for("the log", LIMIT, || Ok((log() > before).then_some(())));
        told.unwrap_or_else(|error| panic!("{what}: {error:#}"));
    }
    server.answer(SUCCESS);
    assert_eq!(outcome(&login), Ok(()), "it could have been let in: {}", ruled.stage.proxy.log_tail());
    assert!(!ruled.stage.proxy.log().contains("panicked"));
}

/// Who is in between and says that there is no TLS, or pretends, gets no password and lets nobody in.
#[test]
fn start_tls_cannot_be_talked_away() {
    let server = Server::start();
    let pki = Pki::new();
    let rules = format!(
        "host all all all ldap ldapserver=127.0.0.1 ldapport={} ldaptls=1 ldapca={} ldapprefix=cn=\n",
        server.port,
        pki.file("root.crt"),
    );
    let ruled = Ruled::with(&rules, Cluster::builder(), patient);
    let login = ruled.stage.transaction().password("a-password-to-look-for");
    for (what, answer) in START_TLS {
        server.answer(answer);
        assert_eq!(outcome(&login), failed("LDAP", ROLE), "{what}");
    }
    let seen = String::from_utf8_lossy(&server.seen.lock().expect("nobody panics")).into_owned();
    assert_eq!(seen.matches("1.3.6.1.4.1.1466.20037").count(), START_TLS.len());
    assert!(!seen.contains("a-password-to-look-for"));
}
