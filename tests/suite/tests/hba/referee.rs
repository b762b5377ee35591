//! PostgreSQL reads the same files: what it takes is taken, what it refuses is refused, and clients get the same answers.

use super::stage::{Ruled, as_user, outcome};
use halephant::auth::hba::{Facts, Hba, Scope, Subject};
use halephant::auth::origin::Origin;
use halephant_harness::{Cluster, postgres::Binaries};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

const LINES: usize = 3000;

/// What a line may be made of, right and wrong.
const SCOPES: [&str; 8] =
    ["local", "host", "hostssl", "hostnossl", "\"host\"", "hosts", "HOST", "host,local"];
const NAMES: [&str; 12] = [
    "all",
    "app",
    "a,b",
    "a, b",
    "\"all\"",
    "\"a b\"",
    "sameuser",
    "replication",
    "\"\"",
    "a\"b c\"d",
    "\"x\"\"y\"",
    "é",
];
const ADDRESSES: [&str; 26] = [
    "all",
    "samehost",
    "samenet",
    "127.0.0.1/32",
    "10.0.0.0/8",
    "10.1.2.3/8",
    "0.0.0.0/0",
    "::/0",
    "::1/128",
    "fe80::/10",
    "2001:db8::/32",
    "10.0.0.0 255.0.0.0",
    "10.0.0.0 255.0.0.255",
    "::1 ffff::",
    "10.0.0.1 ffff::",
    "10.0.0.0/33",
    "::/129",
    "10.0.0.0/",
    "10.0.0.0/x",
    "example.com",
    ".example.com",
    "example.com/8",
    "\"all\"",
    "10.0.0.1",
    "a,b",
    "10.0.0.300/8",
];
const METHODS: [&str; 20] = [
    "trust",
    "reject",
    "scram-sha-256",
    "md5",
    "password",
    "\"md5\"",
    "MD5",
    "nonsense",
    "trust,md5",
    "peer",
    "ident map=m",
    "peer map=m",
    "md5 map=m",
    "md5 clientcert=verify-ca",
    "trust clientcert=verify-full",
    "trust clientcert=x",
    "reject x",
    "reject x=y",
    "password # remark",
    "md5\\",
];

fn line(random: &mut StdRng) -> String {
    let scope = pick(random, &SCOPES);
    let mut parts = vec![scope, pick(random, &NAMES), pick(random, &NAMES)];
    if scope != "local" || random.random_bool(0.1) {
        parts.push(pick(random, &ADDRESSES));
    }
    parts.push(pick(random, &METHODS));
    // Most lines are whole.
    if random.random_bool(0.1) {
        parts.truncate(random.random_range(0..parts.len()));
    }
    let blank = pick(random, &[" ", "\t", "  ", " \t "]);
    parts.join(blank)
}

fn pick<'t>(random: &mut StdRng, from: &[&'t str]) -> &'t str {
    from[random.random_range(0..from.len())]
}

/// One line of pg_hba_file_rules.
struct Row {
    kind: String,
    address: String,
    mask: String,
    method: String,
    error: String,
}

fn rows(cluster: &Cluster) -> BTreeMap<usize, Row> {
    let sql = "SELECT line_number, coalesce(type, ''), coalesce(address, ''), coalesce(netmask, ''), \
               coalesce(auth_method, ''), coalesce(error, '') FROM pg_hba_file_rules";
    let text = cluster.query("postgres", sql).expect("the view answers");
    let row = |line: &str| {
        let mut cells = line.split('|').map(str::to_owned);
        let mut cell = || cells.next().expect("a column");
        let number = cell().parse().expect("a number");
        (number, Row { kind: cell(), address: cell(), mask: cell(), method: cell(), error: cell() })
    };
    text.lines().map(row).collect()
}

fn mistakes(path: &Path) -> BTreeMap<usize, String> {
    let Err(mistakes) = Hba::load(path) else { return BTreeMap::new() };
    let line = |text: String| {
        let number = text.split(':').nth(1).and_then(|number| number.parse().ok());
        (number.unwrap_or_else(|| panic!("no line: {text}")), text)
    };
    mistakes.iter().map(|mistake| line(mistake.to_string())).collect()
}

/// Every line by itself: the same lines are mistakes, and the others say the same.
#[test]
fn generated_lines_are_read_as_postgresql_reads_them() {
    let cluster = Cluster::builder().start().expect("it starts");
    let seed = std::env::var("HBA_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    let mut random = StdRng::seed_from_u64(seed);
    let text: String = (0..LINES).map(|_| line(&mut random) + "\n\n").collect();
    let own = cluster.scratch().path().join("generated.conf");
    fs::write(&own, &text).expect("it is ours");
    cluster.primary().write_file("pg_hba.conf", &text).expect("it is ours");
    let (rows, mistakes) = (rows(&cluster), mistakes(&own));
    let lines: Vec<_> = text.lines().collect();
    let mut differences = Vec::new();
    for (number, row) in &rows {
        let mistake = mistakes.get(number);
        if row.error.is_empty() != mistake.is_none() && !is_ours(lines[number - 1]) {
            differences.push(format!("{number}: {:?}: {:?} {mistake:?}", lines[number - 1], row.error));
        }
    }
    assert!(differences.is_empty(), "seed {seed}\n{}", differences.join("\n"));
    let unknown: Vec<_> = mistakes.keys().filter(|number| !rows.contains_key(number)).collect();
    assert!(unknown.is_empty(), "PostgreSQL has no such lines: {unknown:?}");

    // What both take.
    let right: String = lines
        .iter()
        .enumerate()
        .map(
            |(index, line)| {
                if mistakes.contains_key(&(index + 1)) { "\n".into() } else { format!("{line}\n") }
            },
        )
        .collect();
    fs::write(&own, right).expect("it is ours");
    let hba = Hba::load(&own).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    assert!(hba.rules().len() > LINES / 10, "{} lines are right", hba.rules().len());
    for rule in hba.rules() {
        let row = &rows[&rule.place.line];
        let kind = match rule.scope {
            Scope::Local => "local",
            Scope::Host => "host",
            Scope::HostSsl => "hostssl",
            Scope::HostNoSsl => "hostnossl",
        };
        let line = lines[rule.place.line - 1];
        assert_eq!((kind, rule.demand.method.name()), (row.kind.as_str(), row.method.as_str()), "{line}");
    }
}

/// A server without TLS has more to say about hostssl, certificates have tests of their own, and nobody here asks an ident
/// server.
fn is_ours(line: &str) -> bool {
    line.starts_with("hostssl")
        || line.contains("clientcert")
        || (line.contains("ident") && !line.starts_with("local"))
}

/// Networks as the view shows them contain what the rules match.
#[tokio::test]
async fn networks_are_what_the_view_says() {
    let cluster = Cluster::builder().start().expect("it starts");
    let addresses: Vec<&str> = ADDRESSES.into_iter().filter(|address| address.contains(['/', ' '])).collect();
    let text: String = addresses.iter().map(|address| format!("host all all {address} trust\n")).collect();
    cluster.primary().write_file("pg_hba.conf", &text).expect("it is ours");
    let own = cluster.scratch().path().join("networks.conf");
    let probes = [
        "10.1.2.3",
        "10.0.0.0",
        "11.0.0.0",
        "127.0.0.1",
        "::1",
        "fe80::5",
        "2001:db8:1::",
        "2001:db9::",
        "10.255.255.255",
    ];
    let mut compared = 0;
    for (number, row) in rows(&cluster) {
        if !row.error.is_empty() {
            continue;
        }
        let line = text.lines().nth(number - 1).expect("it is a line");
        fs::write(&own, line).expect("it is ours");
        let hba = Hba::load(&own).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
        let (network, mask): (IpAddr, IpAddr) =
            (row.address.parse().expect("an address"), row.mask.parse().expect("a mask"));
        for probe in probes {
            let address: IpAddr = probe.parse().expect("an address");
            let subject = Subject {
                database: "d",
                user: "u",
                origin: Origin::Address(address),
                tls: false,
                replicates: false,
            };
            let found = hba.find(&subject, &mut Facts::default()).await.is_some();
            assert_eq!(found, contains(network, mask, address), "{line} for {probe}");
            compared += 1;
        }
    }
    assert!(compared > 50, "{compared} comparisons");
}

fn contains(network: IpAddr, mask: IpAddr, address: IpAddr) -> bool {
    let bytes = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let (network, mask, address) = (bytes(network), bytes(mask), bytes(address));
    network.len() == address.len()
        && network
            .iter()
            .zip(&mask)
            .zip(&address)
            .all(|((network, mask), address)| network & mask == address & mask)
}

/// Includes and regular expressions are newer than the oldest servers.
#[test]
fn included_files_are_read_as_a_new_server_reads_them() {
    let cluster =
        Cluster::builder().binaries(Binaries::major(18).expect("it is there")).start().expect("it starts");
    let lines = [
        "include more.conf",
        "include_if_exists nothing.conf",
        "include_dir more.d",
        "host @names all all trust",
        "host /^a.*z$ /^(x|y) all md5",
        "host \"/^a,b$\" all all md5",
        "host all all \\",
        "  all reject",
        "host all @missing all trust",
        "include missing.conf",
        "host /( all all trust",
    ];
    let file = |name: &str, text: &str| {
        fs::write(cluster.primary().data().join(name), text).expect("it is ours");
    };
    fs::create_dir(cluster.primary().data().join("more.d")).expect("it is ours");
    file("more.conf", "local all all trust\nhost all all 10.0.0.0/8 md5\n");
    file("more.d/b.conf", "host b b all password\n");
    file("more.d/a.conf", "host a a all scram-sha-256\nwrong\n");
    file("more.d/.hidden.conf", "wrong\n");
    file("more.d/other.txt", "wrong\n");
    file("names", "one two,three\n\"four five\"\n");
    file("pg_hba.conf", &(lines.join("\n") + "\n"));
    let sql = "SELECT regexp_replace(file_name, '.*/', ''), line_number, error IS NULL FROM pg_hba_file_rules \
               ORDER BY 1, 2";
    let expected: Vec<String> =
        cluster.query("postgres", sql).expect("the view answers").lines().map(str::to_owned).collect();
    let path = cluster.primary().data().join("pg_hba.conf");
    let mistakes = Hba::load(&path).expect_err("some lines are wrong");
    let wrong = |row: &&String| row.ends_with("|f");
    let mut wrong: Vec<String> =
        expected.iter().filter(wrong).map(|row| row.trim_end_matches("|f").replace('|', ":")).collect();
    let place = |text: String| {
        let (place, _) = text.split_once(": ").expect("a place");
        place.rsplit('/').next().expect("a name").to_owned()
    };
    let mut found: Vec<String> = mistakes.iter().map(|mistake| place(mistake.to_string())).collect();
    found.sort();
    found.dedup();
    // A line whose list cannot be read is a mistake of the format; those are told before rules are looked at.
    assert_eq!(found, ["pg_hba.conf:10", "pg_hba.conf:9"]);
    for line in ["host all @missing all trust", "include missing.conf"] {
        let text = fs::read_to_string(&path).expect("it is there").replace(line, "# none");
        file("pg_hba.conf", &text);
    }
    let mistakes = Hba::load(&path).expect_err("some lines are wrong");
    found.extend(mistakes.iter().map(|mistake| place(mistake.to_string())));
    found.sort();
    wrong.sort();
    assert_eq!(found, wrong, "{expected:?}");
}

/// The same file on both, and the same clients: they get the same answers.
#[test]
fn clients_get_the_answers_that_postgresql_gives() {
    let rules = "host all halephant all scram-sha-256\n\
                 host all rejected all reject\n\
                 host all nowhere 10.0.0.0/8 trust\n\
                 host all trusted all trust\n\
                 host all hashed all md5\n\
                 host all app all md5\n\
                 host all clear all password\n\
                 host all clear_hashed all password\n\
                 host all strict_hashed all scram-sha-256\n\
                 host \"/none\" all all trust\n\
                 host all /^nobody_t all trust\n\
                 host all nobody_s,scram all scram-sha-256\n\
                 host all nobody_p all password\n\
                 host all nobody_m all md5\n";
    // PostgreSQL 15 does not know regular expressions here.
    let rules = rules.replace("host \"/none\" all all trust\n", "").replace("/^nobody_t", "nobody_t");
    let users =
        ["rejected", "nowhere", "trusted", "hashed", "clear", "clear_hashed", "strict_hashed", "scram"];
    let builder = users.into_iter().fold(Cluster::builder(), |builder, user| builder.role(user, "right"));
    let ruled = Ruled::with(&rules, builder, |config| {
        users
            .into_iter()
            .fold(config, |config, user| config.pool("app_session", "session", 10, &[user]))
            .set("cluster.main.auth.password_passthrough", true)
            .set("server.throttle.failures", 0)
    });
    let stage = &ruled.stage;
    for user in ["hashed", "clear_hashed", "strict_hashed"] {
        let sql = format!("SET password_encryption = md5; ALTER ROLE {user} PASSWORD 'right'");
        stage.cluster.query("postgres", &sql).expect("it may be set");
    }
    // The superuser of these tests comes over the Unix socket or as itself.
    let superuser = "local all all trust\nhost all postgres all trust\n";
    stage.cluster.primary().write_file("pg_hba.conf", &(superuser.to_owned() + &rules)).expect("it is ours");
    stage.cluster.query("postgres", "SELECT pg_reload_conf()").expect("it reads it again");
    let applied = "SELECT count(*) FROM pg_hba_file_rules WHERE error IS NULL AND user_name = '{nobody_m}'";
    stage.wait_until(applied, "1", super::pki::LIMIT).expect("the rules are right");
    let nobodies = ["nobody_t", "nobody_s", "nobody_p", "nobody_m", "nobody_else", "app"];
    let mut differences = Vec::new();
    for user in users.into_iter().chain(nobodies) {
        for password in ["right", "wrong", "", halephant_suite::stage::PASSWORD] {
            let direct = outcome(&as_user(stage.direct(), user, password));
            let through = outcome(&as_user(stage.session(), user, password));
            // The pool is a database of another name.
            let through = through.map_err(|(state, text)| (state, text.replace("app_session", "app")));
            if direct != through {
                differences.push(format!("{user} {password:?}: {direct:?} {through:?}"));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
