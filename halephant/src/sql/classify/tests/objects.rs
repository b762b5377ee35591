//! What a session keeps: channels, prepared statements, cursors, temporary tables, locks, and what only the server sees.

use super::check;

#[test]
fn channels() {
    check(
        "listen Foo; LISTEN \"Foo\"; unlisten foo; unlisten *",
        "listen <foo>; listen <Foo>; unlisten <foo>; unlisten all",
    );
    check("notify a; notify a, 'x'", "notify <a>; notify <a>");
    check("select pg_notify('a', 'b'), pg_notify($1, 'c')", "notify <a>, notify $1");
    check("listen/**/u&\"f\\006fo\"", "listen <foo>");
}

#[test]
fn prepared_statements() {
    check("prepare P as select 1; prepare p(int, text) as select $1", "prepare <p> []; prepare <p> []");
    check("prepare p as select set_config('a', 'b', false)", "prepare <p> [set <a>=<b>]");
    check("prepare transaction as select nextval('s')", "prepare <transaction> [Sequence(Advance)]");
    check("execute p; execute p(1, nextval('s'))", "execute <p>; execute <p>, Sequence(Advance)");
    check("explain execute p; explain analyze execute p(1)", "execute <p>; execute <p>");
    check(
        "create table t as execute p; create temp table t (a) as execute p(1)",
        "execute <p>; temporary, execute <p>",
    );
    check("explain create table t as execute p", "execute <p>");
    check(
        "deallocate p; deallocate prepare p; deallocate all; deallocate prepare all; deallocate prepare",
        "deallocate <p>; deallocate <p>; deallocate all; deallocate all; deallocate <prepare>",
    );
}

#[test]
fn cursors() {
    check(
        "declare C cursor for select 1; declare c cursor without hold for select 1",
        "cursor <c>; cursor <c>",
    );
    check("declare c binary insensitive no scroll cursor with hold for select 1", "cursor <c> hold");
    check("declare c cursor for select set_config('a', 'b', false)", "cursor <c>, set <a>=<b> perhaps");
    check("close c; close all", "close <c>; close all");
    check("explain analyze declare c cursor for select 1", "cursor <c>");
}

#[test]
fn temporary_objects() {
    for text in [
        "create temp table t (a int)",
        "CREATE LOCAL TEMPORARY TABLE IF NOT EXISTS t AS SELECT 1",
        "create global temp sequence s",
        "create or replace temp view v as select nextval('s')",
        "create temporary recursive view v (a) as select 1",
        "create table pg_temp.t (a int)",
        "create function PG_TEMP.f() returns int language sql as 'select 1'",
        "create table db.\"pg_temp\".t ()",
        "select 1 into temp t",
        "select 1 as insert into temp t",
        "select a merge into temp values from x",
        "select * into local temporary table \"t\" from x",
        "with x as (select 1) (select a into /* */ temp t from x)",
        "create temp table t (a int) on commit delete rows",
    ] {
        check(text, "temporary");
    }
    check("create temp table t (a int) with (x = 1) on commit drop", "temporary until commit");
    check("create temp table t on commit drop as select 1", "temporary until commit");
    check(
        "select * from pg_temp.t; drop table pg_temp_3.t; select temp.x from temp",
        "UseTemporary; UseTemporary; ",
    );
    check("select 1 into temp from x", "");
    check("create unlogged table t (temp int default nextval('s'))", "Sequence(Advance)");
}

#[test]
fn locks_and_sequences() {
    check(
        "select pg_advisory_lock(1), pg_catalog.pg_try_advisory_lock_shared(1, 2)",
        "AdvisoryLock, AdvisoryLock",
    );
    check(
        "select * from pg_advisory_lock_shared(1) x, pg_try_advisory_lock(2)",
        "AdvisoryLock, AdvisoryLock",
    );
    check(
        "select pg_advisory_unlock(1), pg_advisory_unlock_shared(1); select pg_advisory_unlock_all()",
        "unlock, unlock; unlock all",
    );
    check(
        "select nextval('s'), setval('s', 1); select currval('s'), lastval()",
        "Sequence(Advance), Sequence(Advance); Sequence(Recall), Sequence(Recall)",
    );
    check(
        "insert into t values (nextval('s')) returning currval('s')",
        "Sequence(Advance), Sequence(Recall)",
    );
    // What PostgreSQL 14 takes for a number and a name.
    check("select 1from pg_advisory_lock(1)", "AdvisoryLock");
}

#[test]
fn session_objects() {
    check(
        "select public.dblink_connect('a', 'b'), dblink_connect_u('c')",
        "SessionObject(RemoteConnection), SessionObject(RemoteConnection)",
    );
    check("select pg_create_logical_replication_slot('a', 'b', true)", "SessionObject(ReplicationSlot)");
    check("select pg_replication_origin_session_setup('a')", "SessionObject(ReplicationOrigin)");
    check(
        "select pg_backup_start('a'), pg_start_backup('a')",
        "SessionObject(Backup), SessionObject(Backup)",
    );
    check("load 'x'", "Load");
}

#[test]
fn opaque_bodies() {
    check("do $$ begin set x = 1; end $$; DO LANGUAGE plpgsql ''", "Opaque(Do); Opaque(Do)");
    check("call p(nextval('s'))", "Opaque(Call), Sequence(Advance)");
}

#[test]
fn copy() {
    check(
        "copy t from stdin; COPY t (a, \"to\") TO STDOUT WITH (FORMAT csv)",
        "copy In client; copy Out client",
    );
    check("copy (select nextval('from') from t) to stdout", "Sequence(Advance), copy Out client");
    check("copy binary s.t from '/x'; copy t to program 'cat'", "copy In server; copy Out server");
}

#[test]
fn explain() {
    check(
        "explain (analyze) select nextval('s'); explain analyse verbose select nextval('s')",
        "Sequence(Advance); Sequence(Advance)",
    );
    check("explain (verbose, analyze true, analyze 0) select nextval('s')", "");
    check("explain (analyze off, analyse 'on') select nextval('s')", "Sequence(Advance)");
    check("explain (select nextval('s')); explain ((values (nextval('s')))); explain (values (1))", "; ; ");
    check("explain verbose (select 1)", "");
    check("explain select * from pg_temp.t", "UseTemporary");
}
