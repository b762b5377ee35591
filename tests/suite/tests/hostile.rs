//! A hostile client and a hostile server: no panic, no growth, no access.

use halephant_harness::{Cluster, Proxy, wait_for};
use halephant_suite::fake_server::{Connection, FakeServer};
use halephant_suite::{Client, Refused, Stage, encode, stage};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use toml::Table;

const LIMIT: Duration = Duration::from_secs(60);
const HANDSHAKES: usize = 100_000;
const THREADS: usize = 8;
/// What is learned from the first ones: buffers, threads, and whatever else is made once.
const WARM_UP: usize = 5_000;
/// Far below a byte for each byte that was sent.
const GROWTH_KIB_MAX: u64 = 16 * 1024;
const SEED: u64 = 0x6861_6C65;

fn descriptors(proxy: &Proxy) -> usize {
    fs::read_dir(format!("/proc/{}/fd", proxy.pid().expect("it runs"))).expect("it runs").count()
}

#[track_caller]
fn assert_well(stage: &Stage) {
    assert!(!stage.proxy.log().contains("panicked"), "{}", stage.proxy.log_tail());
    let mut client = stage.client().expect("it logs in");
    assert_eq!(client.value("SELECT 'well'").expect("it answers"), "well");
}

/// Makes handshakes: whole ones and broken ones, none of which knows a password.
struct Generator(SmallRng);

impl Generator {
    fn text(&mut self, max: usize) -> String {
        let length = self.0.random_range(0..=max);
        (0..length).map(|_| char::from(self.0.random_range(0x20_u8..0x7F))).collect()
    }

    fn bytes(&mut self, max: usize) -> Vec<u8> {
        let length = self.0.random_range(0..=max);
        (0..length).map(|_| self.0.random()).collect()
    }

    fn startup(&mut self) -> Vec<u8> {
        let user = match self.0.random_range(0..20) {
            0 => stage::ROLE.to_owned(),
            1 => String::new(),
            _ => self.text(70),
        };
        let database = if self.0.random_bool(0.5) { stage::DATABASE.to_owned() } else { self.text(70) };
        let mut parameters = vec![("user".to_owned(), user), ("database".to_owned(), database)];
        for _ in 0..self.0.random_range(0..4) {
            parameters.push((self.text(20), self.text(200)));
        }
        let parameters: Vec<_> = parameters.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let minor = if self.0.random_bool(0.8) { self.0.random_range(0..3) } else { self.0.random() };
        encode::startup(3, minor, &parameters)
    }

    fn first_packet(&mut self) -> Vec<u8> {
        match self.0.random_range(0..10) {
            0 => encode::ssl_request(),
            1 => encode::gssenc_request(),
            2 => {
                let key = self.bytes(300);
                encode::cancel_request(self.0.random(), &key)
            }
            3 => self.bytes(64),
            _ => self.startup(),
        }
    }

    fn password(&mut self) -> Vec<u8> {
        let body = match self.0.random_range(0..5) {
            0 => self.bytes(100),
            1 => format!("c=biws,r={},p={}", self.text(40), self.text(44)).into_bytes(),
            _ => {
                let mechanism =
                    if self.0.random_bool(0.8) { "SCRAM-SHA-256".to_owned() } else { self.text(30) };
                let data = format!("n,,n={},r={}", self.text(10), self.text(30));
                let length = if self.0.random_bool(0.8) {
                    u32::try_from(data.len()).unwrap_or(0)
                } else {
                    self.0.random()
                };
                [mechanism.as_bytes(), b"\0", &length.to_be_bytes(), data.as_bytes()].concat()
            }
        };
        encode::message(b'p', &body)
    }

    fn handshake(&mut self) -> Vec<u8> {
        let mut bytes = self.first_packet();
        for _ in 0..self.0.random_range(0..4) {
            let next = if self.0.random_bool(0.1) { self.first_packet() } else { self.password() };
            bytes.extend(next);
        }
        bytes.extend(encode::query("SELECT 1"));
        // One in three is damaged, one in three is cut.
        match self.0.random_range(0..3) {
            0 => {
                for _ in 0..self.0.random_range(1..4) {
                    let at = self.0.random_range(0..bytes.len());
                    bytes[at] = self.0.random();
                }
            }
            1 => bytes.truncate(self.0.random_range(0..bytes.len())),
            _ => {}
        }
        bytes
    }
}

/// Whether an answer lets the client in. Only errors, questions and one-byte answers may come.
fn lets_in(answer: &[u8]) -> bool {
    let authenticated = encode::message(b'R', &[0; 4]);
    answer.windows(authenticated.len()).any(|part| part == authenticated)
}

/// Runs `count` handshakes over `THREADS` connections at a time; gives how many were answered with anything.
fn attack(socket: &PathBuf, seed: u64, count: usize) -> usize {
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let answered = &answered;
            scope.spawn(move || {
                let mut generator = Generator(SmallRng::seed_from_u64(seed + thread as u64));
                for _ in 0..count / THREADS {
                    let bytes = generator.handshake();
                    let mut stream = UnixStream::connect(socket).expect("somebody listens");
                    stream.set_read_timeout(Some(LIMIT)).expect("it is open");
                    // It may have been refused before it is all said.
                    let _ = stream.write_all(&bytes);
                    let _ = stream.shutdown(Shutdown::Write);
                    let mut answer = Vec::new();
                    match stream.read_to_end(&mut answer) {
                        Ok(_) => {}
                        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                        Err(error) => panic!("{error} after {}", bytes.escape_ascii()),
                    }
                    assert!(!lets_in(&answer), "{} got in", bytes.escape_ascii());
                    answered.fetch_add(usize::from(!answer.is_empty()), Ordering::Relaxed);
                }
            });
        }
    });
    answered.into_inner()
}

#[test]
fn a_hundred_thousand_generated_handshakes() {
    let directory = tempfile::tempdir().expect("there is room");
    let text = directory.path().to_str().expect("it is text").to_owned();
    // Over a Unix socket: so many connections would use up the ports of TCP.
    // Without the throttle, which would keep most of them from the code that they are for.
    let stage = Stage::with(Cluster::builder(), |config| {
        config.listen(&text).set("logging.level", "error").set("server.throttle.failures", 0)
    })
    .expect("it starts");
    let socket = directory.path().join(format!(".s.PGSQL.{}", stage.proxy.port()));
    attack(&socket, SEED, WARM_UP);
    let (memory, open) = (stage.proxy.resident_kib().expect("it runs"), descriptors(&stage.proxy));
    let answered = attack(&socket, SEED + 1000, HANDSHAKES);
    assert!(
        answered > HANDSHAKES / 2,
        "only {answered} were answered: the generator makes nothing of interest"
    );
    let closed = || Ok((descriptors(&stage.proxy) <= open + 4).then_some(()));
    wait_for("the connections to be closed", LIMIT, closed).expect("they are");
    let grown = stage.proxy.resident_kib().expect("it runs").saturating_sub(memory);
    assert!(grown < GROWTH_KIB_MAX, "{grown} KiB more than {memory} KiB");
    assert_well(&stage);
}

/// What a hostile server says, from the first byte on.
type Behaviour = fn(&mut Connection) -> io::Result<()>;

fn server_first(connection: &mut Connection, first: &str) -> io::Result<()> {
    connection.ask_for_scram()?;
    connection.authentication(11, first.as_bytes())?;
    connection.drain().map(drop)
}

/// Says `bytes` in answer to the startup packet, and closes.
fn say(connection: &mut Connection, bytes: &[u8]) -> io::Result<()> {
    connection.read_packet()?;
    connection.send(bytes)
}

/// Lets in, and says `bytes` in answer to the first statement.
fn answer(connection: &mut Connection, bytes: &[u8]) -> io::Result<()> {
    connection.welcome()?;
    connection.read_message()?;
    connection.send(bytes)?;
    connection.drain().map(drop)
}

fn endless(connection: &mut Connection, message: &[u8]) -> io::Result<()> {
    loop {
        connection.send(message)?;
    }
}

const BEHAVIOURS: &[(&str, Behaviour)] = &[
    ("somebody else's nonce", |c| server_first(c, "r=abcdefghijklmnop,s=c2FsdHNhbHQ=,i=4096")),
    ("an empty nonce", |c| server_first(c, "r=,s=c2FsdHNhbHQ=,i=4096")),
    ("no salt", |c| server_first(c, "r=x,i=4096")),
    ("nothing in SASLContinue", |c| server_first(c, "")),
    ("no iteration", |c| {
        let nonce = c.ask_for_scram()?;
        c.authentication(11, format!("r={nonce}x,s=c2FsdHNhbHQ=,i=0").as_bytes())?;
        c.drain().map(drop)
    }),
    ("a wrong signature", |c| {
        let nonce = c.ask_for_scram()?;
        c.authentication(11, format!("r={nonce}x,s=c2FsdHNhbHQ=,i=4096").as_bytes())?;
        c.read_message()?;
        c.authentication(12, b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")?;
        c.authentication(0, b"")?;
        c.message(b'Z', b"I")?;
        c.drain().map(drop)
    }),
    ("no signature", |c| {
        let nonce = c.ask_for_scram()?;
        c.authentication(11, format!("r={nonce}x,s=c2FsdHNhbHQ=,i=4096").as_bytes())?;
        c.read_message()?;
        c.authentication(0, b"")?;
        c.message(b'K', &[0; 8])?;
        c.message(b'Z', b"I")?;
        c.drain().map(drop)
    }),
    ("no mechanism", |c| {
        c.read_packet()?;
        c.authentication(10, b"\0")
    }),
    ("an unknown mechanism", |c| {
        c.read_packet()?;
        c.authentication(10, b"SCRAM-SHA-512\0\0")
    }),
    ("the end of SASL before its beginning", |c| {
        c.read_packet()?;
        c.authentication(12, b"v=eA==")
    }),
    ("an unknown kind of authentication", |c| {
        c.read_packet()?;
        c.authentication(99, b"")
    }),
    ("an error without fields", |c| say(c, b"E\0\0\0\x05\0")),
    ("an error without a body", |c| say(c, b"E\0\0\0\x04")),
    ("an error that does not end", |c| say(c, b"E\0\0\0\x09SFATA")),
    ("half a header", |c| say(c, b"R\0\0")),
    ("half a message", |c| say(c, b"R\0\0\0\x08\0\0")),
    ("a length below four", |c| say(c, b"R\0\0\0\x03")),
    ("a negative length", |c| say(c, b"R\xFF\xFF\xFF\xFF\0\0\0\0")),
    ("two gigabytes to come", |c| {
        say(c, b"R\x7F\xFF\xFF\xFF")?;
        endless(c, &[0; 65_536])
    }),
    ("nothing at all", |c| c.drain().map(drop)),
    ("a banner", |c| c.send(b"SSH-2.0-OpenSSH_9.2p1\r\n")),
    ("no key data", |c| say(c, b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I")),
    ("a session that begins in a transaction", |c| {
        say(c, b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0C\0\0\0\x01\0\0\0\x02Z\0\0\0\x05T")
    }),
    ("parameters without end", |c| {
        say(c, b"R\0\0\0\x08\0\0\0\0")?;
        for number in 0_u64.. {
            c.message(b'S', format!("parameter_{number}\0{}\0", "x".repeat(60_000)).as_bytes())?;
        }
        Ok(())
    }),
    ("notices without end", |c| {
        say(c, b"R\0\0\0\x08\0\0\0\0")?;
        endless(c, &encode::message(b'N', &[&b"M"[..], &[b'x'; 30_000], b"\0\0"].concat()))
    }),
    ("rows without end", |c| {
        c.welcome()?;
        c.read_message()?;
        endless(c, &encode::message(b'D', &[&[0, 1, 0, 0, 0x75, 0x30][..], &[b'x'; 30_000]].concat()))
    }),
    ("a row with a column that is not there", |c| {
        answer(c, b"D\0\0\0\x0A\0\x05\0\0\0\x09T\0\0\0\x06\0\x01Z\0\0\0\x05I")
    }),
    ("an error without fields for a statement", |c| answer(c, b"E\0\0\0\x05\0Z\0\0\0\x05I")),
    ("ready twice", |c| answer(c, b"Z\0\0\0\x05IZ\0\0\0\x05I")),
    ("a status that is none", |c| answer(c, b"Z\0\0\0\x05?")),
    ("COPY that nobody asked for", |c| answer(c, b"G\0\0\0\x07\0\0\0d\0\0\0\x05x")),
    ("a message of an unknown type", |c| answer(c, b"\0\0\0\0\x04")),
    ("more nodes' worth of nonsense", |c| answer(c, &[0xFF; 4096])),
];

#[test]
fn hostile_servers_are_endured() {
    let servers: Vec<_> = BEHAVIOURS
        .iter()
        .map(|(name, serve)| (*name, FakeServer::start(*serve).expect("it listens")))
        .collect();
    // A cluster for each, so that none waits for another.
    let stage = Stage::with(Cluster::builder(), |config| {
        let config = config.set("server.throttle.failures", 0);
        servers.iter().enumerate().fold(config, |config, (number, (_, server))| {
            let cluster = format!("cluster.evil{number}");
            config
                .set(&format!("{cluster}.nodes"), vec![server.address()])
                .set(&format!("{cluster}.connect_timeout"), "1s")
                .set(&format!("{cluster}.topology.interval"), "100ms")
                .set(&format!("{cluster}.topology.timeout"), "1s")
                .set(&format!("{cluster}.pool.evil{number}.user.app"), Table::new())
        })
    })
    .expect("it starts");
    let slow = |count: usize| {
        let slow = servers.iter().find(|(_, server)| server.connections() < count);
        slow.map(|(name, _)| *name)
    };
    let wait = |count| {
        let waited =
            wait_for("every hostile server to be asked", LIMIT, || Ok(slow(count).is_none().then_some(())));
        waited.unwrap_or_else(|error| panic!("{error:#}: {:?}", slow(count)));
    };
    wait(3);
    let memory = stage.proxy.resident_kib().expect("it runs");
    for (number, (name, _)) in servers.iter().enumerate() {
        let login = stage.transaction().database(&format!("evil{number}"));
        let error = Client::connect(&login).expect_err("nobody may be let in");
        let refused = error.downcast::<Refused>().unwrap_or_else(|error| panic!("{name}: {error:#}"));
        assert_ne!(refused.sqlstate(), "XX000", "{name}");
    }
    wait(8);
    let grown = stage.proxy.resident_kib().expect("it runs").saturating_sub(memory);
    assert!(grown < GROWTH_KIB_MAX, "{grown} KiB more than {memory} KiB");
    assert_well(&stage);
}
