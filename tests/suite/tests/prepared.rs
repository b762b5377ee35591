//! Prepared statements in transaction mode: clients have the names that they gave, whichever server connection serves
//! them, and none is pinned for it.

use halephant_harness::{Cluster, psql};
use halephant_suite::encode::{
    bind, close_statement, copy_data, copy_done, copy_fail, describe_portal, describe_statement, execute,
    flush, parse, query, sync,
};
use halephant_suite::{Client, Message, Stage, message, stage};

/// In transaction mode with so many server connections.
fn stage_of(connections: u32) -> Stage {
    with(connections, |config| config)
}

fn with(
    connections: u32,
    change: impl FnOnce(halephant_harness::ProxyConfig) -> halephant_harness::ProxyConfig,
) -> Stage {
    let stage = Stage::with(Cluster::builder(), |config| {
        change(
            config
                .set("cluster.main.pool.app.max_connections.primary", connections)
                .set("admin.users", vec![stage::ROLE]),
        )
    });
    stage.expect("it starts")
}

fn client(stage: &Stage) -> Client {
    stage.client().expect("it may log in")
}

/// Bind and Execute of a named statement.
fn run(name: &str, parameters: &[Option<&str>]) -> Vec<u8> {
    [bind("", name, parameters), describe_portal(""), execute("", 0)].concat()
}

/// Sends `parts` and reads up to the ReadyForQuery.
fn exchange(client: &mut Client, parts: &[Vec<u8>]) -> Vec<Message> {
    client.send(&parts.concat()).expect("it is read");
    client.receive_until(b'Z').expect("it is answered")
}

fn tags(messages: &[Message]) -> String {
    messages.iter().map(|message| char::from(message.tag)).collect()
}

fn sqlstate(messages: &[Message]) -> String {
    message::error(messages).and_then(Message::sqlstate).unwrap_or_default()
}

fn values(client: &mut Client, name: &str) -> Vec<String> {
    let messages = exchange(client, &[run(name, &[]), sync()]);
    assert_eq!(sqlstate(&messages), "", "{messages:?}");
    message::values(&messages)
}

fn prepare(client: &mut Client, name: &str, sql: &str) {
    let messages = exchange(client, &[parse(name, sql), sync()]);
    assert_eq!(tags(&messages), "1Z", "{messages:?}");
}

/// The clients that are pinned, and why.
fn pins(stage: &Stage) -> String {
    let console = stage.transaction().database("halephant");
    psql::query(stage.cluster.binaries(), &console, "SHOW PINS").expect("it answers")
}

#[test]
fn twenty_clients_share_two_connections_and_nobody_is_pinned() {
    let stage = stage_of(2);
    let mut clients: Vec<Client> = (0..20).map(|_| client(&stage)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        // The same name for different statements, and different names for the same one.
        prepare(client, "mine", &format!("SELECT {number}"));
        prepare(client, &format!("shared{number}"), "SELECT $1::int * 2");
    }
    for round in 0..5 {
        // All transactions of one turn are under way before the first is read.
        for (number, client) in clients.iter_mut().enumerate() {
            let parameter = (number + round).to_string();
            let shared = run(&format!("shared{number}"), &[Some(&parameter)]);
            client.send(&[run("mine", &[]), shared, sync()].concat()).expect("it is read");
        }
        for (number, client) in clients.iter_mut().enumerate() {
            let messages = client.receive_until(b'Z').expect("it is answered");
            let expected = [number.to_string(), (2 * (number + round)).to_string()];
            assert_eq!(message::values(&messages), expected, "{messages:?}");
        }
    }
    assert_eq!(pins(&stage), "");
    assert!(stage.server_connections().expect("the server answers") <= 2);
}

/// A pooler handed the server on after the first ReadyForQuery, and another client read the first one's rows.
#[test]
fn several_syncs_in_one_packet_are_one_clients() {
    let stage = stage_of(1);
    let mut clients: Vec<Client> = (0..4).map(|_| client(&stage)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        prepare(client, "s", &format!("SELECT '{number}', pg_sleep(0.01)"));
    }
    for _ in 0..10 {
        for client in &mut clients {
            let batch = [run("s", &[]), sync()].concat();
            client.send(&[batch.clone(), batch.clone(), batch].concat()).expect("it is read");
        }
        for (number, client) in clients.iter_mut().enumerate() {
            for _ in 0..3 {
                let messages = client.receive_until(b'Z').expect("it is answered");
                assert_eq!(tags(&messages), "2TDCZ");
                assert_eq!(message::values(&messages), [number.to_string()]);
            }
        }
    }
    assert_eq!(pins(&stage), "");
}

/// A pooler ran the old text.
#[test]
fn a_name_that_is_closed_and_parsed_anew_stands_for_the_new_text() {
    let stage = stage_of(1);
    let mut client = client(&stage);
    prepare(&mut client, "s", "SELECT 'old'");
    assert_eq!(values(&mut client, "s"), ["old"]);
    for text in ["new", "newer", "old", "new"] {
        let parts = [close_statement("s"), parse("s", &format!("SELECT '{text}'")), run("s", &[]), sync()];
        let messages = exchange(&mut client, &parts);
        assert_eq!((tags(&messages), message::values(&messages)), ("312TDCZ".into(), vec![text.into()]));
        assert_eq!(values(&mut client, "s"), [text]);
    }
    // In two packets, too, and each with a Sync of its own in one.
    exchange(&mut client, &[close_statement("s"), sync()]);
    prepare(&mut client, "s", "SELECT 'last'");
    let parts =
        [close_statement("s"), sync(), parse("s", "SELECT 'very last'"), sync(), run("s", &[]), sync()];
    client.send(&parts.concat()).expect("it is read");
    let messages: Vec<_> = (0..3).flat_map(|_| client.receive_until(b'Z').expect("it is answered")).collect();
    assert_eq!((tags(&messages), message::values(&messages)), ("3Z1Z2TDCZ".into(), vec!["very last".into()]));
    assert_eq!(pins(&stage), "");
}

/// A pooler dropped the statements of others.
#[test]
fn what_one_client_deallocates_is_its_own() {
    for command in ["DEALLOCATE ALL", "DISCARD ALL", "DEALLOCATE s"] {
        let stage = stage_of(1);
        let (mut one, mut other) = (client(&stage), client(&stage));
        for client in [&mut one, &mut other] {
            prepare(client, "s", "SELECT 'here'");
            assert_eq!(values(client, "s"), ["here"]);
        }
        let answer = one.query(command).expect("it is answered");
        assert_eq!(sqlstate(&answer), "", "{command}: {answer:?}");
        assert_eq!(values(&mut other, "s"), ["here"], "{command}");
        let gone = exchange(&mut one, &[run("s", &[]), sync()]);
        assert_eq!((tags(&gone), sqlstate(&gone)), ("EZ".into(), "26000".into()), "{command}");
        prepare(&mut one, "s", "SELECT 'again'");
        assert_eq!(values(&mut one, "s"), ["again"], "{command}");
        assert_eq!(values(&mut other, "s"), ["here"], "{command}");
        assert_eq!(pins(&stage), "", "{command}");
    }
}

/// Where it failed, nothing is gone.
#[test]
fn what_could_not_be_deallocated_stays() {
    let stage = stage_of(1);
    let mut client = client(&stage);
    prepare(&mut client, "s", "SELECT 'here'");
    client.query("BEGIN").expect("it is answered");
    client.query("SELEKT").expect("it is answered");
    let refused = client.query("DEALLOCATE s").expect("it is answered");
    assert_eq!(sqlstate(&refused), "25P02");
    client.query("ROLLBACK").expect("it is answered");
    assert_eq!(values(&mut client, "s"), ["here"]);
}

/// A pooler never answered it.
#[test]
fn a_flush_is_answered() {
    let stage = stage_of(1);
    // The second has its Parse answered without the server.
    for _ in 0..2 {
        let mut client = client(&stage);
        client.send(&[parse("s", "SELECT $1::int"), flush()].concat()).expect("it is read");
        client.receive_until(b'1').expect("ParseComplete without Sync");
        client.send(&[describe_statement("s"), flush()].concat()).expect("it is read");
        client.receive_until(b'T').expect("RowDescription without Sync");
        client.send(&[bind("", "s", &[Some("7")]), flush()].concat()).expect("it is read");
        client.receive_until(b'2').expect("BindComplete without Sync");
        client.send(&[execute("", 0), flush()].concat()).expect("it is read");
        let rows = client.receive_until(b'C').expect("CommandComplete without Sync");
        assert_eq!(message::values(&rows), ["7"]);
        client.send(&[close_statement("s"), flush()].concat()).expect("it is read");
        client.receive_until(b'3').expect("CloseComplete without Sync");
        assert_eq!(tags(&exchange(&mut client, &[sync()])), "Z");
    }
}

/// A pooler answered with FATAL 58000.
#[test]
fn an_unknown_name_is_an_error_and_no_more() {
    let stage = stage_of(1);
    let mut client = client(&stage);
    for parts in [run("nowhere", &[]), describe_statement("nowhere"), run("hp_1", &[])] {
        let messages = exchange(&mut client, &[parts, sync()]);
        assert_eq!(tags(&messages), "EZ");
        let error = message::error(&messages).expect("an error");
        let fields = [b'V', b'C'].map(|code| error.field(code).unwrap_or_default());
        assert_eq!(fields, ["ERROR", "26000"]);
    }
    // Not even where there is such a name on the server connection.
    prepare(&mut client, "s", "SELECT 'mine'");
    let names = client.values("SELECT name FROM pg_prepared_statements").expect("it answers");
    assert_eq!(names.len(), 1);
    let messages = exchange(&mut client, &[run(&names[0], &[]), sync()]);
    assert_eq!(sqlstate(&messages), "26000");
    assert_eq!(values(&mut client, "s"), ["mine"]);
}

#[test]
fn a_name_is_free_after_its_parse_failed() {
    let stage = stage_of(1);
    let mut client = client(&stage);
    let failed = exchange(&mut client, &[parse("s", "SELECT FROM missing"), run("s", &[]), sync()]);
    assert_eq!((tags(&failed), sqlstate(&failed)), ("EZ".into(), "42P01".into()));
    assert_eq!(sqlstate(&exchange(&mut client, &[run("s", &[]), sync()])), "26000");
    // Skipped with what failed before it.
    exchange(&mut client, &[parse("", "SELEKT"), parse("s", "SELECT 1"), sync()]);
    assert_eq!(sqlstate(&exchange(&mut client, &[run("s", &[]), sync()])), "26000");
    prepare(&mut client, "s", "SELECT 'at last'");
    assert_eq!(values(&mut client, "s"), ["at last"]);
    let taken = exchange(&mut client, &[parse("s", "SELECT 2"), sync()]);
    assert_eq!(sqlstate(&taken), "42P05");
    assert_eq!(
        message::error(&taken).and_then(|error| error.field(b'M')),
        Some("prepared statement \"s\" already exists".into())
    );
    assert_eq!(values(&mut client, "s"), ["at last"]);
}

/// The text is known and the copy there, but the table is not any more.
#[test]
fn a_parse_that_would_fail_by_now_leaves_its_name_free() {
    let stage = stage_of(1);
    stage.prepare("CREATE TABLE comes_and_goes (a int)").expect("it is made");
    let (mut one, mut other) = (client(&stage), client(&stage));
    prepare(&mut one, "s", "SELECT a FROM comes_and_goes");
    stage.prepare("DROP TABLE comes_and_goes").expect("it goes");
    let batch = [parse("s", "SELECT a FROM comes_and_goes"), describe_statement("s"), sync()];
    for _ in 0..2 {
        assert_eq!(sqlstate(&exchange(&mut other, &batch)), "42P01");
    }
    stage.prepare("CREATE TABLE comes_and_goes (a int)").expect("it is made");
    assert_eq!(tags(&exchange(&mut other, &batch)), "1tTZ");
    assert_eq!(values(&mut one, "s"), [""; 0]);
}

/// "cached plan must not change result type" is not for whoever is told the new columns anyway.
#[test]
fn a_changed_table_replaces_the_copies() {
    let stage = stage_of(1);
    stage.prepare("CREATE TABLE grows (a int); INSERT INTO grows VALUES (1)").expect("it is made");
    let text = "SELECT * FROM grows";
    let (mut one, mut other) = (client(&stage), client(&stage));
    prepare(&mut one, "s", text);
    assert_eq!(values(&mut one, "s"), ["1"]);
    let columns = |messages: &[Message]| {
        let row = messages.iter().find(|message| message.tag == b'D').expect("a row");
        row.columns().len()
    };
    for column in ["b", "c", "d"] {
        stage.prepare(&format!("ALTER TABLE grows ADD COLUMN {column} int")).expect("it grows");
        // By one that describes what it binds, and by one that has just prepared the text.
        let messages = exchange(&mut one, &[run("s", &[]), sync()]);
        assert_eq!(tags(&messages), "2TDCZ", "{messages:?}");
        let now = columns(&messages);
        stage.prepare(&format!("ALTER TABLE grows ADD COLUMN {column}{column} int")).expect("it grows");
        let batch = [parse(column, text), describe_statement(column), sync()];
        let messages = exchange(&mut other, &batch);
        assert_eq!(tags(&messages), "1tTZ", "{messages:?}");
        let messages = exchange(&mut other, &[bind("", column, &[]), execute("", 0), sync()]);
        assert_eq!((tags(&messages).as_str(), columns(&messages)), ("2DCZ", now + 1));
    }
    // One that was told other columns gets the error, as it would from PostgreSQL, until it is told the new ones.
    stage.prepare("ALTER TABLE grows ADD COLUMN e int").expect("it grows");
    let batch = [bind("", "s", &[]), execute("", 0), sync()];
    for _ in 0..2 {
        assert_eq!(sqlstate(&exchange(&mut one, &batch)), "0A000");
    }
    assert_eq!(tags(&exchange(&mut one, &[describe_statement("s"), sync()])), "tTZ");
    assert_eq!(tags(&exchange(&mut one, &batch)), "2DCZ");
    // In a transaction block nothing is sent again.
    stage.prepare("ALTER TABLE grows ADD COLUMN f int").expect("it grows");
    one.query("BEGIN").expect("it is answered");
    let messages = exchange(&mut one, &[run("s", &[]), sync()]);
    assert_eq!(sqlstate(&messages), "0A000");
    assert_eq!(message::error(&exchange(&mut one, &[query("ROLLBACK")])), None);
    assert_eq!(tags(&exchange(&mut one, &[run("s", &[]), sync()])), "2TDCZ");
    assert_eq!(pins(&stage), "");
}

/// Something that no text shows took the copies away.
#[test]
fn copies_that_are_lost_are_made_again() {
    let stage = stage_of(1);
    let (mut one, mut other) = (client(&stage), client(&stage));
    prepare(&mut one, "s", "SELECT 'here'");
    for _ in 0..3 {
        other.values("DO $$BEGIN EXECUTE 'DEALLOCATE ALL'; END$$").expect("it may");
        assert_eq!(values(&mut one, "s"), ["here"]);
    }
    other.values("DO $$BEGIN EXECUTE 'DEALLOCATE ALL'; END$$").expect("it may");
    // Nothing is sent again for one that is told nothing in the batch, but the error has its own name in it.
    let batch = [bind("", "s", &[]), execute("", 0), sync()];
    let messages = exchange(&mut one, &batch);
    let error = message::error(&messages).expect("an error");
    assert_eq!(error.field(b'M').as_deref(), Some("prepared statement \"s\" does not exist"));
    assert_eq!(tags(&exchange(&mut one, &batch)), "2DCZ");
}

#[test]
fn sql_knows_the_names_of_the_protocol() {
    let stage = stage_of(1);
    let mut client = client(&stage);
    prepare(&mut client, "s", "SELECT $1::int * 2");
    assert_eq!(client.values("EXECUTE s(21)").expect("it is there"), ["42"]);
    let messages = exchange(&mut client, &[run("s", &[Some("4")]), sync()]);
    assert_eq!(message::values(&messages), ["8"]);
    assert!(pins(&stage).contains("prepared_statement"));
    let taken = client.query("PREPARE s AS SELECT 1").expect("it is answered");
    assert_eq!(sqlstate(&taken), "42P05");
    client.values("PREPARE sql AS SELECT 'from SQL'").expect("it may");
    assert_eq!(values(&mut client, "sql"), ["from SQL"]);
    let taken = exchange(&mut client, &[parse("sql", "SELECT 1"), sync()]);
    assert_eq!(sqlstate(&taken), "42P05");
    client.values("DEALLOCATE ALL").expect("it may");
    assert_eq!(pins(&stage), "");
    for name in ["s", "sql"] {
        assert_eq!(sqlstate(&exchange(&mut client, &[run(name, &[]), sync()])), "26000");
    }
}

/// A statement that was prepared earlier, on another connection maybe, does to the session what its text says.
#[test]
fn a_prepared_statement_pins_when_it_runs() {
    let stage = stage_of(2);
    let mut client = client(&stage);
    prepare(&mut client, "lock", "SELECT pg_advisory_lock(7)");
    assert_eq!(pins(&stage), "");
    values(&mut client, "lock");
    assert!(pins(&stage).contains("advisory_lock"));
    client.values("DISCARD ALL").expect("it may");
    assert_eq!(pins(&stage), "");
}

#[test]
fn the_unnamed_statement_is_the_clients_own() {
    let stage = stage_of(1);
    let (mut one, mut other) = (client(&stage), client(&stage));
    exchange(&mut one, &[parse("", "SELECT 'one'"), sync()]);
    let messages = exchange(&mut other, &[run("", &[]), sync()]);
    assert_eq!(sqlstate(&messages), "26000", "{messages:?}");
    exchange(&mut other, &[parse("", "SELECT 'other'"), describe_statement(""), sync()]);
    for _ in 0..2 {
        assert_eq!(values(&mut one, ""), ["one"]);
        assert_eq!(values(&mut other, ""), ["other"]);
    }
    one.values("SELECT 1").expect("it answers");
    other.values("SELECT 1").expect("it answers");
    assert_eq!(sqlstate(&exchange(&mut one, &[run("", &[]), sync()])), "26000");
}

#[test]
fn more_statements_than_a_connection_keeps_copies_of() {
    let stage = stage_of(1);
    let mut client = client(&stage);
    let names: Vec<String> = (0..1200).map(|number| format!("s{number}")).collect();
    let parts: Vec<Vec<u8>> =
        names.iter().map(|name| parse(name, &format!("SELECT '{name}'"))).chain([sync()]).collect();
    let messages = exchange(&mut client, &parts);
    assert_eq!(messages.len(), names.len() + 1, "{:?}", message::error(&messages));
    for _ in 0..2 {
        let parts: Vec<Vec<u8>> = names.iter().map(|name| run(name, &[])).chain([sync()]).collect();
        assert_eq!(message::values(&exchange(&mut client, &parts)), names);
    }
    let kept = client.value("SELECT count(*) <= 500 FROM pg_prepared_statements").expect("it answers");
    assert_eq!((kept.as_str(), pins(&stage).as_str()), ("t", ""));
}

/// Beyond max_prepared_statements a client keeps its connection, and everything works as before.
#[test]
fn a_statement_that_finds_no_room_pins() {
    let stage = with(2, |config| config.set("server.max_prepared_statements", 2));
    let (mut one, mut other) = (client(&stage), client(&stage));
    for (name, client) in [("a", &mut one), ("b", &mut other)] {
        prepare(client, name, &format!("SELECT '{name}'"));
    }
    assert_eq!(pins(&stage), "");
    prepare(&mut one, "c", "SELECT 'c'");
    assert!(pins(&stage).contains("prepared_statement"));
    assert_eq!((values(&mut one, "a"), values(&mut one, "c")), (vec!["a".into()], vec!["c".into()]));
    assert_eq!(values(&mut other, "b"), ["b"]);
    // The room of one that left is free.
    other.terminate().expect("it leaves");
    let mut next = client(&stage);
    prepare(&mut next, "d", "SELECT 'd'");
    assert_eq!(values(&mut next, "d"), ["d"]);
}

/// What a statement means depends on parameters that are the client's own.
#[test]
fn the_same_text_under_other_parameters_is_another_statement() {
    let stage = stage_of(1);
    let login = stage.transaction();
    let text = "SELECT '1/2/2003'::date::text";
    let mut clients = ["ISO, DMY", "ISO, MDY"]
        .map(|style| Client::connect_with(&login, 0, &[("datestyle", style)]).expect("it may log in"));
    for client in &mut clients {
        prepare(client, "s", text);
    }
    for _ in 0..2 {
        let found = clients.each_mut().map(|client| values(client, "s").concat());
        assert_eq!(found, ["2003-02-01", "2003-01-02"]);
    }
}

/// What is sent behind the end of a COPY, before that has ended, is as good as anywhere. tokio-postgres sends it so.
#[test]
fn statements_behind_the_end_of_a_copy_are_known() {
    let stage = stage_of(1);
    stage.prepare("CREATE TABLE sink (n int)").expect("it is made");
    let starts =
        [vec![bind("", "c", &[]), execute("", 0), sync()], vec![bind("", "c", &[]), execute("", 0), flush()]];
    for (start, end) in starts.iter().flat_map(|start| [copy_done(), copy_fail("no")].map(|end| (start, end)))
    {
        let mut client = client(&stage);
        prepare(&mut client, "c", "COPY sink FROM STDIN");
        client.send(&start.concat()).expect("it is read");
        client.receive_until(b'G').expect("it waits for data");
        let behind = [close_statement("c"), parse("s", "SELECT 'behind'"), parse("", "SELECT 'unnamed'")];
        client.send(&[copy_data(b"1\n"), end, sync(), behind.concat(), sync()].concat()).expect("it is read");
        client.receive_until(b'Z').expect("the COPY ends");
        assert_eq!(tags(&client.receive_until(b'Z').expect("it is answered")), "311Z");
        assert_eq!(values(&mut client, ""), ["unnamed"]);
        assert_eq!(values(&mut client, "s"), ["behind"]);
        let gone = exchange(&mut client, &[run("c", &[]), sync()]);
        assert_eq!((tags(&gone), sqlstate(&gone)), ("EZ".into(), "26000".into()));
        assert_eq!(pins(&stage), "");
        client.terminate().expect("it leaves");
        // Nothing of it is on the server under the client's own name.
        let names = "SELECT count(*) FROM pg_prepared_statements WHERE name IN ('c', 's')";
        assert_eq!(stage.client().expect("it may log in").value(names).expect("it answers"), "0");
    }
}
