//! Each rule of libpq's password file.

use super::*;
use crate::telemetry::logging::tests::log_of;
use crate::telemetry::settings::{LogFormat, LogLevel};
use proptest::prelude::*;
use std::os::unix::fs::PermissionsExt;

/// The password that `text` has for `host`, port 5432, database `db` and user `me`.
fn found(text: &[u8], host: &str) -> Option<String> {
    let password = PgPass::parse(text).lookup(host, 5432, "db", "me")?;
    Some(String::from_utf8(password.expose().clone()).unwrap())
}

#[track_caller]
fn check(text: &str, expected: Option<&str>) {
    assert_eq!(found(text.as_bytes(), "pg").as_deref(), expected, "{text:?}");
}

#[test]
fn every_field_has_to_match() {
    check("pg:5432:db:me:secret", Some("secret"));
    check("other:5432:db:me:secret", None);
    check("pg:5433:db:me:secret", None);
    check("pg:5432:other:me:secret", None);
    check("pg:5432:db:other:secret", None);
    check("PG:5432:db:me:secret", None);
    check("pg1:5432:db:me:secret", None);
    check("p:5432:db:me:secret", None);
    check("pg:05432:db:me:secret", None);
    check(" pg:5432:db:me:secret", None);
    check(":5432:db:me:secret", None);
}

#[test]
fn an_asterisk_matches_any_value() {
    check("*:5432:db:me:secret", Some("secret"));
    check("pg:*:db:me:secret", Some("secret"));
    check("pg:5432:*:me:secret", Some("secret"));
    check("pg:5432:db:*:secret", Some("secret"));
    check("*:*:*:*:secret", Some("secret"));
    check("*:*:*:*:*", Some("*"));
    check("p*:5432:db:me:secret", None);
    check("\\*:5432:db:me:secret", None);
    assert_eq!(found(b"\\*:5432:db:me:secret", "*").as_deref(), Some("secret"));
}

#[test]
fn the_first_match_wins() {
    check("pg:5432:db:you:no\npg:5432:db:me:first\n*:*:*:*:second\n", Some("first"));
    check("*:*:*:*:first\npg:5432:db:me:second\n", Some("first"));
}

#[test]
fn backslashes_escape() {
    check("p\\g:5432:db:me:secret", Some("secret"));
    check("pg:5432:db:me:a\\:b\\\\c\\d", Some("a:b\\cd"));
    assert_eq!(found(b"a\\:b\\\\c:5432:db:me:x", "a:b\\c").as_deref(), Some("x"));
    check("pg:5432:db:me:ends in \\", Some("ends in \\"));
    check("pg\\:5432:db:me:secret", None);
    check("pg:5432:db:me\\", None);
}

#[test]
fn ipv6_addresses_are_found_with_and_without_backslashes() {
    assert_eq!(found(b"\\:\\:1:5432:db:me:x", "::1").as_deref(), Some("x"));
    assert_eq!(found(b"::1:5432:db:me:x", "::1").as_deref(), Some("x"));
    assert_eq!(found(b"[::1]:5432:db:me:x", "::1"), None);
}

#[test]
fn a_password_ends_at_a_plain_colon() {
    check("pg:5432:db:me:secret:and a remark", Some("secret"));
}

#[test]
fn an_empty_password_is_none_and_ends_the_search() {
    check("pg:5432:db:me:\n*:*:*:*:other", None);
}

#[test]
fn comments_and_incomplete_lines_are_passed_over() {
    check("# pg:5432:db:me:no\n\n\npg\npg:5432\npg:5432:db:me\npg:5432:db:me:secret", Some("secret"));
    check("#*:*:*:*:no", None);
    assert_eq!(found(b"\\#h:5432:db:me:x", "#h").as_deref(), Some("x"));
}

#[test]
fn line_ends() {
    check("pg:5432:db:me:secret\r\n", Some("secret"));
    check("\r\n\r\npg:5432:db:me:secret\r\r\n", Some("secret"));
    check("pg:5432:db:me:secret \n", Some("secret "));
    check("", None);
    check("\n\r\n", None);
}

#[test]
fn bytes_that_are_no_text() {
    let pgpass = PgPass::parse(b"pg:5432:db:me:\xff\xfe\n");
    let password = pgpass.lookup("pg", 5432, "db", "me").unwrap();
    assert_eq!(password.expose(), &[0xff, 0xfe]);
    assert_eq!(found(b"pg:5432:db:me:a\0b\npg:5432:db:me:c", "pg").as_deref(), Some("c"));
}

#[test]
fn long_lines() {
    let long = "x".repeat(100_000);
    check(&format!("{long}:5432:db:me:no\npg:5432:db:me:{long}\n"), Some(&long));
}

#[test]
fn passwords_are_not_shown() {
    let pgpass = PgPass::parse(b"pg:5432:db:me:secret\n");
    let shown = format!("{pgpass:?} {:?}", pgpass.lookup("pg", 5432, "db", "me"));
    assert!(!shown.contains("secret"), "{shown}");
}

proptest! {
    #[test]
    fn escaped_fields_are_found(
        fields in prop::array::uniform3("[^\0\r\n]{1,12}"),
        port: u16,
        password in "[^\0\r\n]{1,40}",
    ) {
        let escape = |text: &str| text.replace('\\', "\\\\").replace(':', "\\:").replace('#', "\\#");
        let [host, database, user] = &fields;
        let line = format!(
            "{}:{port}:{}:{}:{}\n",
            escape(host), escape(database), escape(user), escape(&password)
        );
        let found = PgPass::parse(line.as_bytes()).lookup(host, port, database, user);
        prop_assert_eq!(found, Some(Secret::new(password.into_bytes())));
    }

    #[test]
    fn any_bytes_are_searched(bytes in prop::collection::vec(any::<u8>(), 0..200), host in ".*", user in ".*") {
        PgPass::parse(&bytes).lookup(&host, 5432, "db", &user);
    }
}

struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A password file for anything, with the name as its password.
    fn write(&self, name: &str, mode: u32) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, format!("*:*:*:*:{name}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn environment(&self, pgpassfile: Option<&str>) -> Environment {
        Environment {
            pgpassfile: pgpassfile.map(|name| self.path(name)),
            home: Some(self.folder.path().to_owned()),
        }
    }
}

/// What was loaded (the password for anything, or the error's text), and what was logged.
fn load(configured: Option<&Path>, environment: &Environment) -> (Result<Option<String>, String>, String) {
    let mut loaded = Ok(None);
    let log = log_of(LogFormat::Text, LogLevel::Warn, || {
        loaded =
            PgPass::load_from(configured, environment).map_err(|error| error.to_string()).map(|pgpass| {
                let password = pgpass.lookup("h", 1, "d", "u")?;
                Some(String::from_utf8(password.expose().clone()).unwrap())
            });
    });
    (loaded, log)
}

fn password(name: &str) -> (Result<Option<String>, String>, String) {
    (Ok(Some(name.to_owned())), String::new())
}

#[test]
fn the_configured_file_comes_first_then_the_environments_then_that_at_home() {
    let home = Home::new();
    let configured = home.write("configured", 0o600);
    home.write("environment", 0o400);
    home.write(".pgpass", 0o600);
    assert_eq!(load(Some(&configured), &home.environment(Some("environment"))), password("configured"));
    assert_eq!(load(None, &home.environment(Some("environment"))), password("environment"));
    assert_eq!(load(None, &home.environment(None)), password(".pgpass"));
    assert_eq!(load(Some(Path::new("~/configured")), &home.environment(None)), password("configured"));
}

#[test]
fn missing_files() {
    let home = Home::new();
    let nothing = (Ok(None), String::new());
    assert_eq!(load(None, &home.environment(None)), nothing);
    assert_eq!(load(None, &Environment::default()), nothing);

    let (loaded, log) = load(None, &home.environment(Some("missing")));
    assert_eq!(loaded, Ok(None));
    assert!(log.contains("/missing: cannot be read: No such file"), "{log}");

    let (loaded, _) = load(Some(&home.path("missing")), &home.environment(None));
    let error = loaded.unwrap_err();
    assert!(error.starts_with("password file /") && error.contains("/missing: cannot be read"), "{error}");

    let (loaded, _) = load(Some(Path::new("~/missing")), &Environment::default());
    assert_eq!(loaded, Err("password file ~/missing: there is no home directory".to_owned()));
}

#[test]
fn files_that_others_may_access_are_ignored() {
    let home = Home::new();
    for mode in [0o640, 0o604, 0o620, 0o610, 0o601, 0o644] {
        let path = home.write("open", mode);
        let (loaded, log) = load(Some(&path), &home.environment(None));
        assert_eq!(loaded, Ok(None), "{mode:o}");
        assert!(log.contains(&format!("(mode {mode:04o})")), "{log}");
    }
}

#[test]
fn what_is_no_plain_file_is_ignored() {
    let home = Home::new();
    let pipe = home.path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in [&pipe, home.folder.path(), Path::new("/dev/null")] {
        let (loaded, log) = load(Some(path), &home.environment(None));
        assert_eq!(loaded, Ok(None), "{}", path.display());
        assert!(log.contains("is not a plain file"), "{log}");
    }
}

#[test]
fn a_symbolic_link_is_followed() {
    let home = Home::new();
    let path = home.write("target", 0o600);
    std::os::unix::fs::symlink(&path, home.path(".pgpass")).unwrap();
    assert_eq!(load(None, &home.environment(None)), password("target"));
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    let home = Home::new();
    let path = home.write("large", 0o600);
    OpenOptions::new().write(true).open(&path).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
    let (loaded, _) = load(Some(&path), &home.environment(None));
    assert!(loaded.unwrap_err().ends_with("/large: is larger than 1048576 bytes"));
}
