//! SET, RESET and `set_config()`.

use super::{Dialect, ESCAPING, check, check_in};

#[test]
fn assignments() {
    check("set x = 1; SET Foo.Bar TO 'it''s'", "set <x>=<1>; set <foo.bar>=<it's>");
    check("set session x to on; set local x = TRUE", "set <x>=<on>; local <x>=<true>");
    check("set \"X\".\"Y\" = \"Off\"", "set <x.y>=<Off>");
    check("set/**/x--\n=/*;*/'a'\n'b'", "set <x>=<ab>");
    check("set x to default; reset x; reset \"X\"", "set <x>=default; set <x>=default; set <x>=default");
    check("reset all; reset session authorization", "ResetAll; set <session_authorization>=default");
    check(
        "reset time zone; reset transaction isolation level",
        "set <timezone>=default; set <transaction_isolation>=default",
    );
    check("set x from current", "set <x>=?");
    check(
        "set local = 1; set session.x = 2; set local local to 3",
        "set <local>=<1>; set <session.x>=<2>; local <local>=<3>",
    );
    check("set time = 1; set names = 'a'; set role = b", "set <time>=<1>; set <names>=<a>; set <role>=<b>");
    check("set session characteristics = 1", "set <characteristics>=<1>");
    check("set sort_mem = 1; reset vacuum_mem", "set <work_mem>=<1>; set <maintenance_work_mem>=default");
    check(
        "SET standard_conforming_strings = off; set x = 'a\\'",
        "set <standard_conforming_strings>=<off>; set <x>=<a\\>",
    );
}

#[test]
fn values() {
    check(
        "set x = -1; set x = + 2; set x = -0; set x = 007",
        "set <x>=<-1>; set <x>=<2>; set <x>=<0>; set <x>=<7>",
    );
    check("set x = 0x1F; set x = 1_000; set x = -0b11", "set <x>=<31>; set <x>=<1000>; set <x>=<-3>");
    check(
        "set x = 2147483647; set x = 2147483648; set x = -4_294_967_296",
        "set <x>=<2147483647>; set <x>=<2147483648>; set <x>=<-4_294_967_296>",
    );
    check("set x = 1.50; set x = -.5e3", "set <x>=<1.50>; set <x>=<-.5e3>");
    check("set x = E'a\\tb\\'\\\\\\101\\x42\\u0043'", "set <x>=<a\tb'\\ABC>");
    check("set x = U&'d\\0061t!' ; set x = U&'d!0061\\' uescape '!'", "set <x>=<dat!>; set <x>=<da\\>");
    check("set x = $a$b'$$c$a$; set x = ''", "set <x>=<b'$$c>; set <x>=<>");
    check("set x = 'é'; set x = \"É\"; set x = É", "set <x>=<é>; set <x>=<É>; set <x>=<É>");
    check("set x = a, 'B', 1", "set <x>=<a, B, 1>");
    // What an escape beyond ASCII is depends on the server's encoding, and \v on its version.
    check(
        "set x = E'\\xe9'; set x = E'\\u00e9'; set x = U&'\\00e9'; set x = E'\\v'",
        ["set <x>=?"; 4].join("; ").as_str(),
    );
    check("set x = 12a; set x = $1; set x = b'1'", "Unknown(Form); Unknown(Form); Unknown(Form)");
    check_in(ESCAPING, "set x = 'a\\'b'; set y = 1", "set <x>=<a'b>; set <y>=<1>");
    let single_byte = Dialect { ascii_folding: false, ..Dialect::default() };
    check_in(single_byte, "set x = É; set x = \"É\"", "set <x>=?; set <x>=<É>");
}

#[test]
fn long_names_are_cut_as_the_server_cuts_them() {
    let long = "a".repeat(70);
    check(&format!("set x = {long}"), &format!("set <x>=<{}>", &long[..63]));
    check(&format!("set x = '{long}'"), &format!("set <x>=<{long}>"));
    check(&format!("set x = \"{}\"", "é".repeat(32)), "set <x>=?");
}

#[test]
fn lists_of_names_are_quoted() {
    check(
        "set search_path = a, \"B\", 'c d', \"$user\", 1",
        "set <search_path>=<a, \"B\", \"c d\", \"$user\", 1>",
    );
    check("set Search_Path to 'a, b'", "set <search_path>=<\"a, b\">");
    check("set temp_tablespaces = ''", "set <temp_tablespaces>=<\"\">");
    check("set search_path to public, table_x, \"table\"", "set <search_path>=<public, table_x, \"table\">");
    check("set schema 'Foo'", "set <search_path>=<\"Foo\">");
    check("set search_path = pg_temp, x", "set <search_path>=<pg_temp, x>, UseTemporary");
}

#[test]
fn special_forms() {
    check(
        "set time zone 'UTC'; set time zone local; set local time zone default",
        "set <timezone>=<UTC>; set <timezone>=default; local <timezone>=default",
    );
    check("set time zone -7; set time zone PST8PDT", "set <timezone>=<-7>; set <timezone>=<pst8pdt>");
    check("set time zone interval '1' hour to minute", "set <timezone>=?");
    check(
        "set names 'UTF8'; set names; set names default",
        "set <client_encoding>=<UTF8>; set <client_encoding>=default; set <client_encoding>=default",
    );
    check(
        "set role none; set local role 'Bob'; set role Bob",
        "set <role>=<none>; local <role>=<Bob>; set <role>=<bob>",
    );
    check(
        "set session authorization joe; set local session authorization default",
        "set <session_authorization>=<joe>; local <session_authorization>=default",
    );
    check("set session session authorization 'J'", "set <session_authorization>=<J>");
    check(
        "set xml option document; set local xml option content",
        "set <xmloption>=<DOCUMENT>; local <xmloption>=<CONTENT>",
    );
    check(
        "set session characteristics as transaction isolation level serializable, read only deferrable",
        "set <default_transaction_isolation>=<serializable>, set <default_transaction_read_only>=<on>, \
         set <default_transaction_deferrable>=<on>",
    );
    check(
        "set session session characteristics as transaction read write",
        "set <default_transaction_read_only>=<off>",
    );
    check(
        "discard all; discard temp; discard temporary; discard plans; discard sequences",
        "Discard(All); Discard(Temporary); Discard(Temporary); Discard(Plans); Discard(Sequences)",
    );
}

#[test]
fn set_config() {
    check("select set_config('a', 'b', false)", "set <a>=<b>");
    check("SELECT pg_catalog.SET_CONFIG('Search_Path', '', false);", "set <search_path>=<>");
    check(
        "select /**/ \"set_config\" ('a', 'b', true) as x, set_config('c', null, 'f'),U&\"set\\005fconfig\"('d', E'\\n', 't'::bool)",
        "local <a>=<b> perhaps, set <c>=default perhaps, local <d>=<\n> perhaps",
    );
    check(
        "select set_config('a', 'b', true) as x, set_config('c', null, 'f') y",
        "local <a>=<b>, set <c>=default",
    );
    check(
        "select set_config('a', 'b', true) as x, set_config('c', null, 'f') as y",
        "local <a>=<b>, set <c>=default",
    );
    check("select set_config('a'::text, 'b'::pg_catalog.varchar, false::boolean)", "set <a>=<b>");
    check("select set_config($1, $2::text, true); select set_config('a', $2, $3)", "local ?=$2; set? <a>=$2");
    check("select set_config('a', current_setting('a') || 'x', true)", "local <a>=?");
    check("select set_config('a', (select 'b' from t), false)", "set <a>=?");
    check("select set_config('a', 'b', x)", "set? <a>=<b>");
    check("select set_config('a', 'b'::char(1), false)", "set <a>=?");
    check("select set_config(setting_name => 'a', new_value => 'b', is_local => true)", "set? ?=?");
    check(
        "select set_config('a', 'b', true), 1; with x as (select set_config('a', 'b', false)) select 1",
        "local <a>=<b> perhaps; set <a>=<b> perhaps",
    );
    check("select set_config('a', 'b', false) where false", "set <a>=<b> perhaps");
    check("select set_config('a', set_config('b', 'c', false), false)", "set <a>=?, set <b>=<c> perhaps");
    check("values (set_config('a', 'b', false)); do $$begin end$$", "set <a>=<b> perhaps; Opaque(Do)");
    check("explain analyze select set_config('a', 'b', false)", "set <a>=<b>");
    check("select set_config('search_path', 'pg_temp', false)", "set <search_path>=<pg_temp>, UseTemporary");
    check("select set_config('a'", "set? ?=?");
    check("update pg_settings set setting = 'x'", "set ?=? perhaps");
    check("with x as (update pg_catalog.\"pg_settings\" set setting = 1) select 1", "set ?=? perhaps");
    check(
        "select setseed(0.5), public.set_limit(0.3)",
        "set <seed>=? perhaps, set <pg_trgm.similarity_threshold>=? perhaps",
    );
}

#[test]
fn nested_calls_are_read_in_linear_time() {
    let text = format!("select {}", "set_config(".repeat(100_000));
    assert_eq!(super::classify(text.as_bytes(), Dialect::default()).iter().count(), 100_000);
}
