//! The text of every error, and that all of them come at once.

use super::{LEAST, errors_of};
use crate::config::{load, parse};
use insta::assert_snapshot;
use std::io::Write;

/// The errors of a pool's own lines.
#[track_caller]
fn pool_errors(lines: &str) -> String {
    errors_of(&format!("[cluster.main]\nnodes = [\"pg-1:5432\"]\n[cluster.main.pool.app]\n{lines}"))
}

#[test]
fn syntax() {
    assert_snapshot!(errors_of("[server\nworkers = 1\nlisten = ['0.0.0.0:1'\n"));
}

#[test]
fn syntax_bad_escape() {
    assert_snapshot!(errors_of("[logging]\nlevel = \"in\\fo\\q\"\n"));
}

#[test]
fn syntax_duplicate_key() {
    assert_snapshot!(errors_of("[logging]\nlevel = 'info'\nlevel = 'warn'\n[logging]\nformat = 'text'\n"));
}

#[test]
fn nothing_at_all() {
    assert_snapshot!(errors_of(""));
}

#[test]
fn unknown_keys() {
    assert_snapshot!(errors_of(
        r#"
workers = 4
[server]
listne = ["0.0.0.0:6432"]
[server.tls]
cert = "cert.pem"
[log]
level = "info"
[cluster.main]
nodes = ["pg-1:5432"]
Admin_User = "x"
[cluster.main.pool.app]
max_connection = { primary = 20 }
max_connections = { primary = 20, replicas = 80 }
[cluster.main.pool.app.user.app]
"weird key\n" = 1
[cluster.main.pool.app.user.app.parameters]
search_path = "app"
"#
    ));
}

#[test]
fn wrong_types() {
    assert_snapshot!(errors_of(
        r#"
admin = true
logging = [1]
[server]
listen = "0.0.0.0:6432"
pgpass = false
workers = "4"
shutdown_timeout = 30
checkout_timeout = 2020-01-01
[otel]
query_text = true
[ebpf]
colocated = "yes"
credit = 1048576
[[cluster.main]]
[cluster.other]
nodes = ["pg-1:5432", 5432]
auth = "SELECT $1"
[cluster.other.pool.app]
max_connections = 20
[cluster.other.pool.app.user]
app = 1
[cluster.other.pool.app.user.web]
min_connections = { primary = 1.5 }
parameters = { options = "-c x=y" }
[cluster.other.pool.app.user.web2.parameters]
options = { search_path = ["a", "b"] }
"#
    ));
}

#[test]
fn missing_and_empty() {
    assert_snapshot!(errors_of(
        r#"
[server]
listen = []
pgpass = ""
[otel]
service_name = ""
[cluster.a]
[cluster.b]
nodes = []
[cluster.b.pool.one]
[cluster.b.pool.two]
user = {}
database = ""
[cluster.b.pool."".user.""]
alias = ""
"#
    ));
}

#[test]
fn addresses() {
    assert_snapshot!(errors_of(
        r#"
[server]
listen = ["localhost:6432", "6432", ":6432", "0.0.0.0:0", "0.0.0.0:65536", "[::]", "::1:6432"]
[admin]
listen = "*:6433"
[cluster.main]
nodes = [
    "pg-1",
    "pg-1:",
    "pg 1:5432",
    "10.0.0.256:5432",
    "2001:db8::1:5432",
    "[2001:db8:5432",
    "postgres://pg-1:5432",
]
[cluster.main.pool.app.user.app]
"#
    ));
}

#[test]
fn duplicate_addresses() {
    assert_snapshot!(errors_of(
        r#"
[server]
listen = ["0.0.0.0:6432", "[::]:6432", "127.0.0.1:6432", "[0::1]:6432", "0.0.0.0:6432", "0.0.0.0:6433"]
[cluster.main]
nodes = ["pg-1:5432", "PG-1.:5432", "pg-1:5433", "[::1]:5432", "[0:0::1]:5432"]
[cluster.main.pool.app.user.app]
"#
    ));
}

#[test]
fn admin_listens_where_clients_do() {
    let text = "[server]\nlisten = [\"[::]:1\", \"0.0.0.0:6432\"]\n[admin]\nlisten = \"127.0.0.1:6432\"\n";
    assert_snapshot!(errors_of(&format!("{text}{LEAST}")));
}

#[test]
fn console_users() {
    let console = "[cluster.main.pool.halephant.user.app]\n";
    assert_snapshot!(errors_of(&format!(
        "[admin]\nusers = ['a', 'b', 'a', '']\nstats_users = 'a'\n{LEAST}{console}"
    )));
    assert_snapshot!(errors_of(&format!("[admin]\nstats_users = ['a']\n{LEAST}{console}")));
    parse(&format!("[admin]\nusers = []\n{LEAST}{console}"), "a.toml").expect("there is no console");
}

#[test]
fn words() {
    assert_snapshot!(errors_of(&format!(
        "[logging]\nformat = 'JSON'\nlevel = 'warning'\n[otel]\nquery_text = ''\n[ebpf]\nmode = 'on'\n{LEAST}\
         [cluster.main.pool.app]\nmode = 'statements'\nlisten_mode = 'drop'\n"
    )));
}

#[test]
fn integers() {
    assert_snapshot!(errors_of(&format!(
        "[server]\nworkers = -1\nmax_prepared_statements = 99999999999999999999\n{LEAST}\
         [cluster.main.pool.app]\nmax_connections = {{ primary = -5, replica = 262144 }}\n"
    )));
}

#[test]
fn durations() {
    assert_snapshot!(errors_of(
        r#"
[server]
shutdown_timeout = "30"
checkout_timeout = "0s"
[cluster.main]
nodes = ["pg-1:5432"]
connect_timeout = "-5s"
auth.cache_ttl = "20years"
topology = { interval = "1ms", timeout = "99999999999999999999s" }
[cluster.main.pool.app]
idle_timeout = ""
max_lifetime = "1 fortnight"
checkout_timeout = "999us"
[cluster.main.pool.app.user.app]
"#
    ));
}

#[test]
fn paths_sizes_and_urls() {
    let ebpf = |credit| format!("[ebpf]\ncgroup = 'sys/fs'\ncredit = '{credit}'\n{LEAST}");
    assert_snapshot!("credit_is_no_size", errors_of(&ebpf("lots")));
    assert_snapshot!("credit_is_too_small", errors_of(&ebpf("1KiB")));
    let mut endpoints = Vec::new();
    for endpoint in [
        "localhost:4317",
        "localhost",
        "",
        "ftp://localhost",
        "http://",
        "http://:4317",
        "http://localhost:port",
        "http://localhost:99999",
        "http://me:secret@localhost:4317",
        "http://localhost:4318/v1/traces",
        "http://localhost:4317?x=y",
        "http://local host",
    ] {
        let errors =
            parse(&format!("[otel]\nendpoint = '{endpoint}'\n{LEAST}"), "halephant.toml").unwrap_err();
        assert!(!errors.to_string().contains("secret"));
        endpoints.push(format!("{endpoint:?}: {errors}"));
    }
    assert_snapshot!("endpoints", endpoints.join("\n"));
}

#[test]
fn names() {
    let long = "x".repeat(64);
    assert_snapshot!(errors_of(&format!(
        r#"
[otel]
service_name = "a\nb"
[cluster."ma\u0007in"]
nodes = ["pg-1:5432"]
admin_user = "{long}"
admin_database = "a\u0000b"
auth.query = "SELECT usename, passwd FROM pg_shadow"
[cluster."ma\u0007in".pool.app]
database = "a\u0000b"
[cluster."ma\u0007in".pool.{long}.user.app]
[cluster."ma\u0007in".pool.app.user."a\u0000b"]
[cluster."ma\u0007in".pool.app.user.{long}]
[cluster."ma\u0007in".pool.app.user.app.parameters]
application_name = "{long}"
"#
    )));
}

#[test]
fn parameters() {
    let long = "a ".repeat(3000);
    let errors = errors_of(&format!(
        r#"{LEAST}
[cluster.main.pool.app.user.app.parameters]
application_name = "a\u0000b"
[cluster.main.pool.app.user.app.parameters.options]
"work mem" = "64MB"
"work_mem=1 -c x" = "64MB"
search-path = "app"
"1st" = "x"
"a..b" = "x"
"" = "x"
lock_timeout = "1\u0000"
cursor_tuple_fraction = nan
random_page_cost = 1e999
work_mem = 99999999999999999999
vacuum_cost_delay = 2020-01-01
[cluster.main.pool.app.user.web.parameters]
options = {{ search_path = "{long}" }}
"#
    ));
    assert_snapshot!(errors.replace(&long, "(6,000 bytes)"));
}

#[test]
fn pool_names_that_two_clusters_share() {
    assert_snapshot!(errors_of(
        r#"
[cluster.b]
nodes = ["pg-1:5432"]
[cluster.b.pool.app.user.app]
[cluster.b.pool.other.user.app]
[cluster.a]
nodes = ["pg-1:5432"]
[cluster.a.pool.app]
database = "app_a"
[cluster.a.pool.app.user.app]
"#
    ));
}

#[test]
fn aliases() {
    assert_snapshot!(pool_errors(
        r#"
[cluster.main.pool.app.user.app]
[cluster.main.pool.app.user.reports]
[cluster.main.pool.app.user.web]
alias = "app"
[cluster.main.pool.app.user.chain]
alias = "web"
[cluster.main.pool.app.user.me]
alias = "me"
[cluster.main.pool.app.user.x]
alias = "y"
[cluster.main.pool.other.user.y]
"#
    ));
}

#[test]
fn limits() {
    assert_snapshot!(pool_errors(
        r#"
max_connections = { primary = 10, replica = 5 }
[cluster.main.pool.app.user.min_above_pool]
min_connections = { primary = 11 }
[cluster.main.pool.app.user.min_above_own]
max_connections = { primary = 2 }
min_connections = { primary = 3, replica = 1 }
[cluster.main.pool.app.user.max_above_pool]
max_connections = { primary = 11, replica = 6 }
[cluster.main.pool.app.user.none]
max_connections = { primary = 0 }
[cluster.main.pool.zero]
max_connections = {}
[cluster.main.pool.zero.user.app]
min_connections = { primary = 1 }
[cluster.main.pool.sum]
max_connections = { primary = 10 }
[cluster.main.pool.sum.user.a]
min_connections = { primary = 6 }
[cluster.main.pool.sum.user.b]
min_connections = { primary = 5 }
[cluster.main.pool.default.user.app]
min_connections = { replica = 1 }
"#
    ));
}

#[test]
fn listen_mode_in_session_mode() {
    assert_snapshot!(pool_errors(
        "mode = 'session'\nlisten_mode = 'pin'\n[cluster.main.pool.app.user.app]\n"
    ));
}

#[test]
fn pin_in_session_mode() {
    assert_snapshot!(pool_errors("mode = 'session'\npin = 'allow'\n[cluster.main.pool.app.user.app]\n"));
}

/// One wrong value must not make the rules about other values complain.
#[test]
fn no_error_follows_from_another() {
    assert_snapshot!(pool_errors(
        r#"
mode = "sesion"
listen_mode = "pin"
max_connections = { primary = "many" }
[cluster.main.pool.app.user.app]
max_connections = { primary = -1 }
min_connections = { primary = 500 }
"#
    ));
}

#[test]
fn columns_count_characters() {
    assert_snapshot!(errors_of("cluster.\"é€\".nodes = ['ü', 'x']\n"));
}

#[test]
fn long_values_are_cut() {
    let level = "é\n".repeat(1000);
    let text = format!("[logging]\nlevel = '''{level}'''\n{LEAST}");
    let errors = parse(&text, "halephant.toml").unwrap_err().to_string();
    assert!(errors.len() < 400, "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
}

#[test]
fn more_errors_than_anybody_reads() {
    let text: Vec<_> = (0..1500).map(|index| format!("key{index} = 1\n")).collect();
    let errors = parse(&format!("{}{LEAST}", text.concat()), "halephant.toml").unwrap_err();
    assert_eq!(errors.iter().count(), 1000);
    assert!(errors.to_string().ends_with("\nhalephant.toml: 500 more errors"));
}

/// A parser that recurses would run out of stack.
#[test]
fn deep_nesting_is_refused() {
    let depth = 200_000;
    for text in [
        format!("{} = 1", vec!["a"; depth].join(".")),
        format!("[{}]", vec!["a"; depth].join(".")),
        format!("a = {}", "[".repeat(depth)),
        format!("a = {}", "{ a = ".repeat(depth)),
    ] {
        let errors = parse(&text, "halephant.toml").unwrap_err().to_string();
        assert!(
            errors.contains("recursion limit") || errors.contains("max recursion depth"),
            "{errors:.500}"
        );
    }
}

#[test]
fn files_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.toml");
    let error = load(&missing).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{}: cannot be read: No such file or directory (os error 2)", missing.display())
    );
    assert!(load(folder.path()).unwrap_err().to_string().contains("cannot be read: Is a directory"));
}

#[test]
fn files_that_are_not_utf8() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"# caf\xc3\xa9\n# caf\xe9\n").unwrap();
    let error = load(file.path()).unwrap_err();
    assert_eq!(error.to_string(), format!("{}:2:6: is not UTF-8 from here on", file.path().display()));
}

#[test]
fn files_that_are_too_large() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(super::super::FILE_BYTES_MAX + 1).unwrap();
    let error = load(file.path()).unwrap_err();
    assert!(error.to_string().contains("is larger than 1048576 bytes"), "{error}");
}
