//! Clients that leave what they can in their session and vanish: the next one finds a session as a fresh connection to
//! PostgreSQL has it.

use halephant_harness::{Cluster, Login};
use halephant_suite::encode::{close_statement, copy_data, execute, parse, query, sync};
use halephant_suite::{Client, Stage, message};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;

/// Vandals of each mode, the same each time.
const VANDALS: u64 = 25;
const SEED: u64 = 20_261_122;

/// Settings that a session may change, with a value that is another one than the session's.
const OTHER_VALUES: &str = "
    SELECT name, CASE
        WHEN vartype = 'bool' THEN CASE setting WHEN 'on' THEN 'off' ELSE 'on' END
        WHEN vartype = 'enum' THEN (SELECT v FROM unnest(enumvals) v WHERE v <> setting LIMIT 1)
        WHEN vartype IN ('integer', 'real') THEN CASE WHEN setting = max_val THEN min_val ELSE
            least(setting::numeric + 1, max_val::numeric)::text END
        WHEN name IN ('DateStyle') THEN 'German'
        WHEN name IN ('TimeZone', 'log_timezone') THEN 'Asia/Tokyo'
        WHEN name IN ('timezone_abbreviations') THEN 'Australia'
        WHEN name IN ('client_encoding') THEN 'LATIN1'
        WHEN name IN ('search_path', 'temp_tablespaces') THEN ''
        WHEN name IN ('lc_messages', 'lc_monetary', 'lc_numeric', 'lc_time') THEN 'C'
        WHEN name IN ('default_text_search_config') THEN 'pg_catalog.german'
        WHEN name IN ('default_tablespace', 'default_table_access_method') THEN 'heap'
        ELSE 'vandal' END
    FROM pg_settings WHERE context = 'user' AND name NOT LIKE 'transaction_%' AND name NOT IN ('session_authorization', 'role', 'exit_on_error')
    ORDER BY name";

/// Beside settings. Some are refused, which is as well.
const LEFT: [&str; 32] = [
    "SELECT set_config('my.secret', 'secret', false)",
    "SET my.other_secret = 'secret'",
    "PREPARE vandal AS SELECT 'secret'",
    "LISTEN vandal",
    "LISTEN \"Vandal 2\"; LISTEN vandal3",
    "CREATE TEMP TABLE vandal (n int); INSERT INTO vandal VALUES (1)",
    "CREATE TEMP TABLE item AS SELECT 'secret' AS n",
    "CREATE TEMP SEQUENCE vandal_sequence; SELECT nextval('vandal_sequence')",
    "CREATE TEMP VIEW vandal_view AS SELECT 'secret'",
    "CREATE FUNCTION pg_temp.vandal() RETURNS text LANGUAGE sql AS $$SELECT 'secret'$$",
    "CREATE TYPE pg_temp.vandal_type AS ENUM ('secret')",
    "SELECT 'secret' AS n INTO TEMP vandal_into",
    "CREATE TABLE pg_temp.vandal_in (n int)",
    "SELECT pg_advisory_lock(7)",
    "SELECT pg_advisory_lock_shared(8), pg_advisory_lock(1, 2)",
    "SELECT pg_try_advisory_lock(9) FROM generate_series(1, 3)",
    "DECLARE vandal CURSOR WITH HOLD FOR SELECT 'secret'",
    "BEGIN; DECLARE vandal2 SCROLL CURSOR WITH HOLD FOR SELECT 'secret'; COMMIT",
    "SET ROLE pg_read_all_data",
    "SET SESSION AUTHORIZATION DEFAULT",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY",
    "SET NAMES 'LATIN1'",
    "SET SCHEMA 'pg_catalog'",
    "SET TIME ZONE 5",
    "SET SEED TO 0.5",
    "SELECT setseed(0.5)",
    "ALTER TABLE item SET (fillfactor = 70)",
    "BEGIN; SET LOCAL work_mem = '1MB'; SET statement_timeout = 1234; COMMIT",
    "BEGIN; SET statement_timeout = 4321; ROLLBACK",
    "DISCARD PLANS; SET enable_seqscan = off",
    "DO $$ BEGIN PERFORM 1; END $$; SET plan_cache_mode = force_generic_plan",
    "/* a comment */ sEt SESSION work_mem TO '2MB'; SELECT 1",
];

/// How it vanishes, and what it has sent by then.
const ENDS: [&[&str]; 6] = [
    &[],
    &["BEGIN", "SELECT pg_advisory_xact_lock(11)"],
    &["BEGIN", "SELECT 1/0"],
    &["COPY item FROM STDIN"],
    &["LISTEN last", "BEGIN"],
    &["SELEKT"],
];

/// What there is to see of a session, by name.
fn session(client: &mut Client) -> BTreeMap<&'static str, Vec<String>> {
    let looks = [
        // A parameter that nobody defined keeps its name, with an empty value, for as long as the server process lives, and a
        // library that was loaded for a statement stays.
        ("settings", "SELECT name || '=' || coalesce(setting, 'NULL') || ' ' || coalesce(reset_val, 'NULL') FROM pg_settings
            WHERE NOT (category = 'Customized Options' AND (setting = '' OR name LIKE 'plpgsql.%')) ORDER BY 1"),
        // Those of clients are under names of halephant's, and of use to nobody who has not the same.
        ("prepared", "SELECT name || statement FROM pg_prepared_statements WHERE name NOT LIKE 'hp\\_%'"),
        ("channels", "SELECT pg_listening_channels()"),
        ("cursors", "SELECT name || statement FROM pg_cursors WHERE name <> ''"),
        ("locks", "SELECT locktype || mode || coalesce(objid, 0) FROM pg_locks
            WHERE pid = pg_backend_pid() AND locktype NOT IN ('virtualxid', 'relation')"),
        ("temporary", "SELECT relname::text FROM pg_class WHERE relnamespace = pg_my_temp_schema()
            UNION ALL SELECT proname::text FROM pg_proc WHERE pronamespace = pg_my_temp_schema()
            UNION ALL SELECT typname::text FROM pg_type WHERE typnamespace = pg_my_temp_schema()"),
        ("who", "SELECT current_user || session_user || current_schemas(false)::text || current_database()"),
        ("table", "SELECT n::text FROM item"),
        ("transaction", "SELECT current_setting('transaction_isolation') || current_setting('transaction_read_only')
            || (now() = statement_timestamp())"),
    ];
    looks
        .into_iter()
        .map(|(name, sql)| (name, client.values(sql).unwrap_or_else(|error| panic!("{name}: {error}"))))
        .collect()
}

/// Everything in some order, by Query or by the extended protocol, in one message each or several in one write.
fn vandalize(login: &Login, settings: &[(String, String)], random: &mut StdRng) {
    let mut client = Client::connect(login).expect("it may log in");
    let mut deeds: Vec<String> = LEFT.iter().map(|sql| (*sql).to_owned()).collect();
    deeds.extend(settings.iter().map(|(name, value)| match random.random_range(0..3) {
        0 => format!("SELECT set_config('{name}', '{value}', false)"),
        1 => format!("SET {name} TO '{value}'"),
        _ => format!("SET SESSION \"{}\" = '{value}'", name.to_lowercase()),
    }));
    deeds.shuffle(random);
    // A deadline that it sets itself must not end its deeds.
    deeds.retain(|sql| !sql.contains("idle_") && !sql.contains("lock_timeout"));
    deeds.truncate(random.random_range(3..deeds.len()));
    for (number, sql) in deeds.iter().enumerate() {
        let run =
            [parse("", sql), halephant_suite::encode::bind("", "", &[]), execute("", 0), sync()].concat();
        let bytes = if sql.contains(';') || random.random_bool(0.7) { query(sql) } else { run };
        client.send(&bytes).expect("it is read");
        client.receive_until(b'Z').expect("it is answered");
        if number % 5 == 0 {
            let name = format!("vandal{number}");
            client.send(&[parse(&name, "SELECT 'secret'"), sync()].concat()).expect("it is read");
            client.receive_until(b'Z').expect("it is answered");
        }
        if number % 11 == 0 {
            client.send(&[close_statement("vandal0"), sync()].concat()).expect("it is read");
            client.receive_until(b'Z').expect("it is answered");
        }
    }
    for sql in ENDS[random.random_range(0..ENDS.len())] {
        client.send(&query(sql)).expect("it is read");
        let until = if sql.starts_with("COPY") { b'G' } else { b'Z' };
        if client.receive_until(until).is_err() {
            // In a session that may not write, COPY is refused.
            break;
        }
    }
    match random.random_range(0..4) {
        0 => drop(client.terminate()),
        1 => {
            client.send(&query("SELECT pg_sleep(60)")).expect("it is read");
            client.cut();
        }
        2 => {
            client.send(&[copy_data(b"1\n"), query("SELECT")[..3].to_vec()].concat()).expect("it is read");
            client.cut();
        }
        _ => client.cut(),
    }
}

/// One server connection in either mode, so that each client has what the one before it had.
fn narrow() -> Stage {
    let narrow = Stage::with(Cluster::builder(), |config| {
        config
            .set("cluster.main.pool.app.max_connections.primary", 1)
            .set("cluster.main.pool.app_session.max_connections.primary", 1)
    });
    let stage = narrow.expect("it starts");
    stage.prepare("CREATE TABLE item (n int); INSERT INTO item VALUES (1)").expect("it is made");
    stage
}

fn nothing_is_left(login: impl Fn(&Stage) -> Login) {
    let stage = narrow();
    let fresh = session(&mut Client::connect(&stage.direct()).expect("it may log in"));
    let mut owner = Client::connect(&stage.direct()).expect("it may log in");
    let messages = owner.query(OTHER_VALUES).expect("it is answered");
    assert_eq!(message::error(&messages), None);
    let columns =
        messages.iter().filter(|message| message.tag == b'D').map(halephant_suite::Message::columns);
    let settings: Vec<(String, String)> = columns
        .map(|row| {
            let text =
                |at: usize| String::from_utf8_lossy(row[at].as_deref().unwrap_or_default()).into_owned();
            (text(0), text(1))
        })
        .collect();
    assert!(settings.len() > 100, "{settings:?}");
    let first = std::env::var("LEAKS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    for seed in (0..VANDALS).map(|offset| first + offset) {
        let mut random = StdRng::seed_from_u64(seed);
        vandalize(&login(&stage), &settings, &mut random);
        let mut next = Client::connect(&login(&stage)).expect("it may log in");
        let found = session(&mut next);
        for (name, rows) in &fresh {
            let (missing, more): (Vec<_>, Vec<_>) = (
                rows.iter().filter(|row| !found[name].contains(row)).collect(),
                found[name].iter().filter(|row| !rows.contains(row)).collect(),
            );
            assert!(missing.is_empty() && more.is_empty(), "seed {seed}, {name}\n- {missing:?}\n+ {more:?}");
        }
        next.terminate().expect("it leaves");
    }
}

#[test]
fn of_a_session() {
    nothing_is_left(Stage::session);
}

#[test]
fn of_a_client_in_transaction_mode() {
    nothing_is_left(Stage::transaction);
}

/// DISCARD ALL leaves a replication origin and the seed of `random()`.
#[test]
fn what_no_reset_takes_away_reaches_nobody() {
    let stage = Stage::with(Cluster::builder(), |config| {
        config.set("cluster.main.pool.app.max_connections.primary", 1)
    })
    .expect("it starts");
    stage
        .cluster
        .query(
            "app",
            "GRANT EXECUTE ON FUNCTION pg_replication_origin_session_setup(text) TO app;
             GRANT EXECUTE ON FUNCTION pg_replication_origin_session_is_setup() TO app;
             SELECT pg_replication_origin_create('left')",
        )
        .expect("there is an origin");
    let backend = "SELECT pg_backend_pid()";
    for left in ["SELECT setseed(0.25)", "SELECT pg_replication_origin_session_setup('left')"] {
        for discards in [false, true] {
            let mut vandal = Client::connect(&stage.transaction()).expect("it may log in");
            let before = vandal.value(backend).expect("it has a backend");
            vandal.query(left).expect("it is answered");
            if discards {
                vandal.query("DISCARD ALL").expect("it is answered");
            }
            vandal.terminate().expect("it leaves");
            let mut next = Client::connect(&stage.transaction()).expect("it may log in");
            assert_ne!(next.value(backend).expect("it has a backend"), before, "{left}, {discards}");
            let origin = next.value("SELECT pg_replication_origin_session_is_setup()").expect("it may ask");
            assert_eq!(origin, "f", "{left}");
            next.terminate().expect("it leaves");
        }
    }
}
