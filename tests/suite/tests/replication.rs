//! Replication connections in session mode, by PostgreSQL's own programs: a base backup with its WAL, a logical slot, and what a
//! walsender says of itself.

use halephant_harness::{Cluster, Login, command};
use halephant_suite::{Client, Refused, Stage, message, stage};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const WALSENDERS: &str = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'";

fn stage() -> Stage {
    let cluster = Cluster::builder()
        .setting("wal_level", "logical")
        .setting("max_replication_slots", "4")
        .hba("host replication all all scram-sha-256");
    let stage = Stage::with(cluster, |config| config).expect("it starts");
    let role = stage::ROLE;
    stage.cluster.query("postgres", &format!("ALTER ROLE {role} REPLICATION")).expect("it is changed");
    stage.prepare("CREATE TABLE t (a int)").expect("it is made");
    stage
}

/// Runs it as a client of `login`, and gives what it prints.
fn run(program: PathBuf, login: &Login, arguments: &[&str]) -> String {
    let mut program = Command::new(program);
    login.apply(&mut program);
    let output = command::run(program.args(arguments), LIMIT).expect("it runs");
    let [printed, said] =
        [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    assert!(output.status.success(), "{program:?}: {said}");
    printed
}

fn text(path: &Path) -> &str {
    path.to_str().expect("it is text")
}

#[test]
fn a_base_backup_is_whole() {
    let stage = stage();
    stage.prepare("INSERT INTO t SELECT generate_series(1, 10000)").expect("it takes them");
    let directory = tempfile::tempdir().expect("there is room");
    let backup = directory.path().join("backup");
    let binaries = stage.cluster.binaries();
    // It asks for no database, so any pool in session mode that has the user will do.
    run(
        binaries.server("pg_basebackup"),
        &stage.session(),
        &["--pgdata", text(&backup), "--wal-method=stream", "--checkpoint=fast", "--no-password"],
    );
    run(binaries.server("pg_verifybackup"), &stage.session(), &[text(&backup)]);
    let wal: Vec<_> = fs::read_dir(backup.join("pg_wal")).expect("it is there").flatten().collect();
    assert!(wal.iter().any(|file| file.metadata().is_ok_and(|file| file.len() == 16 << 20)), "{wal:?}");
    stage.wait_until(WALSENDERS, "0", LIMIT).expect("nobody else gets them");
    let mut client = Client::connect(&stage.session()).expect("it may log in");
    assert_eq!(client.value("SELECT count(*) FROM t").expect("it is a session like any"), "10000");
}

#[test]
fn a_logical_slot_streams_what_was_committed() {
    let stage = stage();
    let directory = tempfile::tempdir().expect("there is room");
    let file = directory.path().join("changes");
    let program = || stage.cluster.binaries().server("pg_recvlogical");
    let login = stage.session();
    let slot = ["--dbname", &login.database, "--slot=changes", "--no-password"];
    let also = |more: &[&'static str]| -> Vec<String> {
        slot.iter().copied().chain(more.iter().copied()).map(str::to_owned).collect()
    };
    let recvlogical = |arguments: &[String]| {
        run(program(), &login, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    recvlogical(&also(&["--create-slot", "--plugin=test_decoding"]));
    for number in 0..300 {
        stage.prepare(&format!("INSERT INTO t VALUES ({number})")).expect("it takes it");
    }
    let end = stage.cluster.query("postgres", "SELECT pg_current_wal_lsn()").expect("it answers");
    let mut start = also(&["--start", "--no-loop", "--option=skip-empty-xacts=1"]);
    start.extend([format!("--endpos={end}"), format!("--file={}", text(&file))]);
    recvlogical(&start);
    let found = fs::read_to_string(&file).expect("it is there");
    let inserted: Vec<&str> = found.lines().filter(|line| line.contains("INSERT")).collect();
    let expected: Vec<_> =
        (0..300).map(|number| format!("table public.t: INSERT: a[integer]:{number}")).collect();
    assert_eq!(inserted, expected);
    recvlogical(&also(&["--drop-slot"]));
    stage.wait_until(WALSENDERS, "0", LIMIT).expect("nobody else gets them");
}

#[test]
fn a_walsender_answers_for_itself_and_is_named_by_its_client() {
    let stage = stage();
    let connect = |login: &Login, replication: &str| {
        Client::connect_with(login, 0, &[("replication", replication), ("application_name", "standby7")])
    };
    let null = &[0xFF; 4][..];
    for (replication, database) in [("database", stage::DATABASE.as_bytes()), ("true", null)] {
        let mut client = connect(&stage.session(), replication).expect("it may log in");
        let answer = client.query("IDENTIFY_SYSTEM").expect("it answers");
        let direct = stage.cluster.query("postgres", "SELECT system_identifier FROM pg_control_system()");
        assert_eq!(message::values(&answer), [direct.expect("it answers")], "it is a walsender");
        let row = answer.iter().find(|message| message.tag == b'D').expect("there is a row");
        assert!(row.body.ends_with(database), "{row:?}");
        let name = "SELECT application_name FROM pg_stat_activity WHERE backend_type = 'walsender'";
        assert_eq!(stage.cluster.query("postgres", name).expect("it answers"), "standby7");
        client.terminate().expect("it leaves");
        stage.wait_until(WALSENDERS, "0", LIMIT).expect("it is closed");
    }
    // No walsender.
    let mut client = connect(&stage.session(), "off").expect("it may log in");
    assert_eq!(client.value("SELECT 1").expect("it answers"), "1");
    let refused = |login: &Login, replication: &str| {
        let error = connect(login, replication).expect_err("it is refused");
        error.downcast::<Refused>().expect("by an error").sqlstate()
    };
    assert_eq!(refused(&stage.transaction(), "database"), "0A000");
    assert_eq!(refused(&stage.session(), "perhaps"), "22023");
    let role = stage::ROLE;
    stage.cluster.query("postgres", &format!("ALTER ROLE {role} NOREPLICATION")).expect("it is changed");
    assert_eq!(refused(&stage.session(), "database"), "42501", "PostgreSQL's own");
}
