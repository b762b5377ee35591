//! Rules: what they say, whom they are for, and what is wrong with them.

use super::address::Network;
use super::*;
use crate::auth::Method;
use proptest::prelude::*;
use std::fs;
use std::net::IpAddr;

fn load(text: &str) -> Result<Hba, Vec<HbaError>> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pg_hba.conf");
    fs::write(&path, text).unwrap();
    Hba::load(&path)
}

fn subject<'a>(database: &'a str, user: &'a str, from: &str) -> Subject<'a> {
    let (from, tls) = match from.strip_suffix(" tls") {
        Some(from) => (from, true),
        None => (from, false),
    };
    let origin = match from {
        "local" => Origin::Local,
        address => Origin::of_address(address.parse().unwrap()),
    };
    Subject { database, user, origin, tls, replicates: false }
}

/// The line that decides for a client of database `d` and user `u` unless they are named; 0: none.
async fn decides(hba: &Hba, subject: Subject<'_>, facts: Facts) -> usize {
    let mut facts = facts;
    hba.find(&subject, &mut facts).await.map_or(0, |rule| rule.place.line)
}

async fn line(text: &str, database: &str, user: &str, from: &str) -> usize {
    let facts = Facts::given(Vec::new(), None);
    decides(&load(text).unwrap(), subject(database, user, from), facts).await
}

#[tokio::test]
async fn the_first_rule_that_applies_decides() {
    let text = "host a all all reject\nhost all u all trust\nhost all all all md5\n";
    assert_eq!(line(text, "a", "u", "10.0.0.1").await, 1);
    assert_eq!(line(text, "b", "u", "10.0.0.1").await, 2);
    assert_eq!(line(text, "b", "v", "::1").await, 3);
    assert_eq!(line(text, "b", "v", "local").await, 0);
}

#[tokio::test]
async fn a_rule_is_for_its_kind_of_connection() {
    let text = "local all all trust\nhostssl all all all trust\nhostnossl all all all trust\n";
    assert_eq!(line(text, "d", "u", "local").await, 1);
    assert_eq!(line(text, "d", "u", "10.0.0.1 tls").await, 2);
    assert_eq!(line(text, "d", "u", "10.0.0.1").await, 3);
}

#[tokio::test]
async fn physical_replication_has_a_keyword_of_its_own() {
    for (rule, applies) in [
        ("host replication all all trust", true),
        ("host d,replication all all trust", true),
        ("host all all all trust", false),
        ("host d all all trust", false),
        ("host \"replication\" all all trust", false),
    ] {
        let hba = load(rule).unwrap();
        let subject = Subject { replicates: true, ..subject("d", "u", "192.0.2.1") };
        assert_eq!(decides(&hba, subject, Facts::default()).await, usize::from(applies), "{rule}");
    }
    assert!(
        Hba::default()
            .find(&Subject { replicates: true, ..subject("d", "u", "local") }, &mut Facts::default())
            .await
            .is_some()
    );
}

#[tokio::test]
async fn names_are_lists_keywords_and_expressions() {
    for (rule, database, user, applies) in [
        ("host a,b u all trust", "b", "u", true),
        ("host a,b u all trust", "c", "u", false),
        ("host sameuser all all trust", "u", "u", true),
        ("host sameuser all all trust", "d", "u", false),
        ("host \"sameuser\" all all trust", "u", "u", false),
        ("host \"all\" all all trust", "d", "u", false),
        ("host \"all\" all all trust", "all", "u", true),
        ("host all \"all\" all trust", "d", "u", false),
        ("host replication all all trust", "replication", "u", false),
        ("host \"replication\" all all trust", "replication", "u", true),
        ("host /^app_[0-9]+$ all all trust", "app_7", "u", true),
        ("host /^app_[0-9]+$ all all trust", "app_", "u", false),
        ("host \"/^a,b$\" all all trust", "a,b", "u", true),
        ("host all /^u all trust", "d", "user", true),
        ("host D all all trust", "d", "u", false),
        ("host all \"+u\" all trust", "d", "+u", true),
    ] {
        assert_eq!(
            line(rule, database, user, "10.0.0.1").await > 0,
            applies,
            "{rule} for {database}, {user}"
        );
    }
}

#[tokio::test]
async fn addresses_are_networks() {
    for (addresses, from, applies) in [
        ("10.1.0.0/16", "10.1.255.1", true),
        ("10.1.0.0/16", "10.2.0.1", false),
        ("10.1.2.3/16", "10.1.0.0", true),
        ("0.0.0.0/0", "255.1.1.1", true),
        ("0.0.0.0/0", "::1", false),
        ("::/0", "1.2.3.4", false),
        ("::/0", "::ffff:1.2.3.4", false),
        ("1.2.3.4/32", "::ffff:1.2.3.4", true),
        ("fe80::/10", "febf::1", true),
        ("fe80::/10", "fec0::1", false),
        ("::1/128", "::1", true),
        ("10.0.0.0 255.0.0.255", "10.9.9.0", true),
        ("10.0.0.0 255.0.0.255", "10.9.9.1", false),
        ("2001:db8:: ffff:ffff::", "2001:db8::5", true),
        ("all", "::5", true),
    ] {
        let rule = format!("host all all {addresses} trust");
        assert_eq!(line(&rule, "d", "u", from).await > 0, applies, "{addresses} for {from}");
    }
}

#[tokio::test]
async fn this_machine_has_addresses_and_networks() {
    let parse = |text: &str| text.parse::<IpAddr>().unwrap();
    let own = || vec![Network { address: parse("192.168.1.5"), mask: parse("255.255.255.0") }];
    for (rule, from, applies) in [
        ("samehost", "192.168.1.5", true),
        ("samehost", "192.168.1.6", false),
        ("samenet", "192.168.1.6", true),
        ("samenet", "192.168.2.6", false),
        ("\"samenet\"", "192.168.1.6", false),
    ] {
        let hba = load(&format!("host all all {rule} trust")).unwrap();
        let facts = Facts::given(own(), None);
        assert_eq!(decides(&hba, subject("d", "u", from), facts).await > 0, applies, "{rule} for {from}");
    }
}

#[tokio::test]
async fn hosts_have_the_names_that_lead_back_to_them() {
    for (rule, name, applies) in [
        ("db.example.com", Some("DB.Example.com"), true),
        ("db.example.com", Some("xdb.example.com"), false),
        ("db.example.com", None, false),
        (".example.com", Some("db.example.com"), true),
        (".example.com", Some("a.b.Example.Com"), true),
        (".example.com", Some("example.com"), false),
        (".example.com", Some(".example.com"), false),
        (".example.com", Some("dbexample.com"), false),
        (".example.com", Some("db.exämple.com"), false),
    ] {
        let hba = load(&format!("host all all {rule} trust")).unwrap();
        let facts = Facts::given(Vec::new(), name);
        assert_eq!(
            decides(&hba, subject("d", "u", "10.0.0.1"), facts).await > 0,
            applies,
            "{rule} for {name:?}"
        );
    }
}

/// The loopback addresses of the machine that runs this, by the system's own lists.
#[tokio::test]
async fn the_system_is_asked_where_a_rule_wants_to_know() {
    let hba = load("host all all samehost trust").unwrap();
    assert_eq!(decides(&hba, subject("d", "u", "127.0.0.1"), Facts::default()).await, 1);
    let hba = load("host all all samenet trust").unwrap();
    assert_eq!(decides(&hba, subject("d", "u", "127.1.2.3"), Facts::default()).await, 1);
    assert_eq!(decides(&hba, subject("d", "u", "240.0.0.1"), Facts::default()).await, 0);
    let hba = load("host all all no-such-name.invalid trust").unwrap();
    assert_eq!(decides(&hba, subject("d", "u", "127.0.0.1"), Facts::default()).await, 0);
}

#[tokio::test]
async fn without_a_file_it_is_scram_for_everybody() {
    let hba = Hba::default();
    for from in ["local", "10.0.0.1", "::1 tls"] {
        let mut facts = Facts::default();
        let rule = hba.find(&subject("d", "u", from), &mut facts).await.unwrap();
        assert_eq!(rule.demand.method, Method::ScramSha256, "{from}");
    }
}

#[test]
fn options_come_behind_the_method() {
    let hba =
        load("hostssl all all all cert map=m clientname=\"DN\"\nlocal all all ident map=\"a b\"").unwrap();
    assert_eq!(hba.rules()[0].demand.method.map(), Some("m"));
    assert_eq!(hba.rules()[1].demand.method, Method::Peer { map: Some("a b".into()) });
}

#[test]
fn every_mistake_is_told_with_its_line() {
    for (rule, words) in [
        ("hosts all all all trust", "invalid connection type \"hosts\""),
        ("host,local all all all trust", "multiple values specified for connection type"),
        ("hostgssenc all all all trust", "GSSAPI"),
        ("host", "end-of-line before database specification"),
        ("host all", "end-of-line before role specification"),
        ("host all all", "end-of-line before IP address specification"),
        ("host all all 10.0.0.1", "end-of-line before netmask specification"),
        ("host all all 10.0.0.1 trust", "invalid IP mask \"trust\""),
        ("host all all 10.0.0.1 ffff:: trust", "do not match"),
        ("host all all 10.0.0.0/33 trust", "invalid CIDR mask"),
        ("host all all ::/129 trust", "invalid CIDR mask"),
        ("host all all ::/-1 trust", "invalid CIDR mask"),
        ("host all all 10.0.0.0/ trust", "invalid CIDR mask"),
        ("host all all example.com/8 trust", "both host name and CIDR mask"),
        ("host all all 10.0.0/8 trust", "both host name and CIDR mask"),
        ("host all all 10.0.1 trust", "invalid IP address"),
        ("host all all fe80::1%lo trust", "invalid IP address"),
        ("host all all a,b trust", "multiple values specified for host address"),
        ("host all all all", "end-of-line before authentication method"),
        ("local all all", "end-of-line before authentication method"),
        ("host all all all trust,md5", "multiple values specified for authentication type"),
        ("host all all all nonsense", "invalid authentication method \"nonsense\""),
        ("host all all all ident", "not supported"),
        ("host all all all cert", "hostssl"),
        ("host samerole all all trust", "members of a role"),
        ("host all +admins all trust", "members of a role"),
        ("host all /( all trust", "invalid regular expression"),
        ("host all all all md5 x", "name=value"),
    ] {
        let mistakes = load(&format!("# first\n{rule}\nhost all all all reject\n")).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{rule}");
        let text = mistakes[0].to_string();
        assert!(text.contains("pg_hba.conf:2: ") && text.contains(words), "{rule}: {text}");
    }
    assert_eq!(load("x\ny\n").unwrap_err().len(), 2);
    assert!(load("# nothing\n").unwrap_err()[0].to_string().contains("no entries"));
}

/// Words that mean something to the parser, for random lines to be more than noise.
fn word() -> impl Strategy<Value = String> {
    let words = [
        "local",
        "host",
        "hostssl",
        "all",
        "sameuser",
        "samerole",
        "+g",
        "\"all\"",
        "/^a",
        "/(",
        "10.0.0.0/8",
        "::/0",
        "10.0.0.1",
        "255.0.0.0",
        "samenet",
        ".example.com",
        "a/b",
        "trust",
        "md5",
        "cert",
        "ldap",
        "jwt",
        "map=m",
        "clientcert=verify-ca",
        "=",
        "@x",
        ",",
        "\"",
        "#",
        "\\",
        "\n",
        "include",
        "ldapurl=ldap://h:1/%zz",
        "ldapport=99999",
        "leeway=-1",
    ];
    prop_oneof![4 => prop::sample::select(words.to_vec()).prop_map(str::to_owned), 1 => "\\PC{0,8}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    /// Whatever stands in a file: rules, or mistakes with places in it; and never a rule that was a mistake.
    #[test]
    fn any_file_is_rules_or_mistakes(words in prop::collection::vec(word(), 0..40)) {
        let text = words.join(" ");
        match load(&text) {
            Ok(hba) => {
                let lines = text.split('\n').count();
                prop_assert!(!hba.rules().is_empty());
                prop_assert!(hba.rules().iter().all(|rule| (1..=lines).contains(&rule.place.line)));
            }
            Err(mistakes) => {
                prop_assert!(!mistakes.is_empty());
                prop_assert!(mistakes.iter().all(|mistake| mistake.to_string().contains("pg_hba.conf:")));
            }
        }
    }

    /// The mask of a prefix has its first bits set, and a network contains what agrees in them.
    #[test]
    fn prefixes_are_masks(network: u32, bits in 0_u32..=32, probe: u32) {
        let network = std::net::Ipv4Addr::from_bits(network);
        let hba = load(&format!("host all all {network}/{bits} trust")).unwrap();
        let rule = &hba.rules()[0];
        let mut facts = Facts::given(Vec::new(), None);
        let probe = std::net::Ipv4Addr::from_bits(probe);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let found = runtime.block_on(rule.is_from(Origin::Address(probe.into()), &mut facts));
        let differing = (network.to_bits() ^ probe.to_bits()).leading_zeros();
        prop_assert_eq!(found, differing >= bits);
    }
}
