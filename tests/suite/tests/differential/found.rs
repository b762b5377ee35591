//! What random sequences have shown to differ, each as short as it gets.

use halephant_suite::encode::{
    bind, close_statement, copy_data, copy_done, copy_fail, describe_portal, describe_statement, execute,
    function_call, parse, query, sync,
};

use super::sequences::stage;
use super::stretch::{Sent, difference};

type Messages = Vec<Vec<u8>>;

/// Sends the parts one after the other, each in one piece and in small ones.
fn check(parts: &[Messages]) {
    let stage = stage();
    for piece in [usize::MAX, 60, 7] {
        let stretch: Vec<Sent> =
            parts.iter().map(|messages| Sent { messages: messages.clone(), piece }).collect();
        if let Some(how) = difference(&stage, &stretch) {
            panic!("in pieces of {piece}: {how}");
        }
    }
}

/// The unnamed statement, run to its end.
fn run(sql: &str) -> Messages {
    vec![parse("", sql), bind("", "", &[]), execute("", 0)]
}

#[test]
fn a_query_behind_a_failed_statement_takes_the_unnamed_one_away() {
    let failed = vec![parse("", "SELECT 1"), bind("", "", &[Some("1")]), sync(), query("SELECT 2")];
    check(&[failed, vec![bind("", "", &[]), execute("", 0)]]);
}

#[test]
fn a_close_that_was_skipped_is_not_restored_over_a_query() {
    let failed = vec![parse("", "SELECT 1/0"), bind("", "", &[]), close_statement("")];
    check(&[failed, vec![bind("", "", &[Some("1")])]]);
}

#[test]
fn a_query_behind_a_name_that_is_taken_takes_the_unnamed_one_away() {
    let taken = vec![parse("", "SELECT 1"), parse("named", "SELECT 2"), sync(), parse("named", "SELEKT")];
    check(&[taken, vec![bind("", "", &[])]]);
}

#[test]
fn nothing_is_waited_for_where_the_server_may_skip_everything() {
    let mut messages = run("INSERT INTO deferred VALUES (1)");
    messages.push(sync());
    messages.extend(run("COPY v FROM STDIN"));
    messages.extend([copy_data(b"\\.\n"), sync()]);
    messages.extend([parse("", "SELEKT"), describe_statement(""), bind("", "", &[]), describe_portal("")]);
    messages.extend([copy_fail("stray"), execute("", 2), close_statement(""), query("COPY t FROM STDIN")]);
    messages.extend([copy_data(b"1\n2\n"), copy_done()]);
    messages.extend(run("SELECT 1/0"));
    messages.extend([parse("named", "SELECT 1"), bind("", "named", &[]), execute("", 0), sync()]);
    messages.push(function_call(1397, &["-5"]));
    check(&[messages]);
}

#[test]
fn a_statement_in_the_middle_of_a_copy_ends_the_connection_in_the_words_of_postgresql() {
    let first = vec![parse("named", "SELECT 1")];
    let mut copy = run("COPY t FROM STDIN");
    copy.extend([parse("named", "SELEKT"), sync(), query("COPY missing FROM STDIN")]);
    check(&[first, copy]);
}

/// The first Sync is read while the server takes data, and ends nothing: what was copied is not committed yet.
#[test]
fn a_copy_that_ignored_its_sync_holds_its_connection() {
    let set = run("SET application_name = 'y'");
    let mut copy = run("COPY t FROM STDIN");
    copy.extend([sync(), copy_done(), parse("", "SET application_name = 'y'")]);
    check(&[set, copy]);
}

#[test]
fn a_statement_is_prepared_behind_a_failed_copy_and_two_syncs() {
    let mut copy = run("COPY v FROM STDIN");
    copy.extend([sync(), sync(), parse("named", "SET application_name = 'y'")]);
    check(&[copy]);
}

#[test]
fn a_name_stands_for_its_first_text_where_the_count_is_lost() {
    let first = vec![parse("named", "INSERT INTO deferred VALUES (1)")];
    let taken = vec![query("SELEKT"), parse("named", "SELECT 2")];
    let mut lost = run("COPY refuses FROM STDIN");
    lost.extend([sync(), query("SELECT 1")]);
    let again = vec![parse("named", "SELECT generate_series(1, 5)")];
    check(&[first, taken, lost, again, vec![bind("", "named", &[]), execute("", 2)]]);
}
