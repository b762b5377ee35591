"""psycopg2 at its defaults: simple queries, and what libpq does by itself."""

import datetime
import decimal
import io
import select
import threading

import psycopg2
import psycopg2.extensions
import psycopg2.extras

from checks import RUNNING, SLEEP, WHO, eventually, raises, run

errors = psycopg2.errors


def connect(**options):
    return psycopg2.connect("", **options)


def one(connection, sql, values=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchone()


def types():
    values = (2**40, decimal.Decimal("1.50"), 1.5, True, "Ünïcode 🐘", datetime.date(2020, 1, 2), [1, None, 3], None)
    with connect() as connection:
        found = one(connection, "SELECT %s, %s, %s::float8, %s, %s, %s::date, %s::int[], %s", values)
        assert found == values, found
        assert bytes(one(connection, "SELECT %s::bytea", (b"\x00\xff",))[0]) == b"\x00\xff"
        found = one(connection, "SELECT %s::jsonb", (psycopg2.extras.Json({"a": [1, None]}),))
        assert found == ({"a": [1, None]},), found
    connection.close()


def transactions():
    connection = connect()
    with connection:
        one(connection, "INSERT INTO item (who, n) VALUES (%s, 1) RETURNING n", (WHO,))
    with raises(errors.DivisionByZero), connection:
        one(connection, "INSERT INTO item (who, n) VALUES (%s, 2) RETURNING n", (WHO,))
        one(connection, "SELECT 1 / 0")
    connection.set_session(isolation_level="SERIALIZABLE", readonly=True)
    with raises(errors.ReadOnlySqlTransaction), connection:
        one(connection, "INSERT INTO item (who, n) VALUES (%s, 3) RETURNING n", (WHO,))
    connection.set_session(isolation_level="DEFAULT", readonly=False)
    with connection, connection.cursor("mine") as cursor:
        cursor.execute("SELECT n FROM generate_series(1, 5000) n")
        assert [row[0] for row in cursor] == list(range(1, 5001))
    with connection.cursor("held", withhold=True) as cursor:
        cursor.execute("SELECT n FROM generate_series(1, 10) n")
        connection.commit()
        assert len(cursor.fetchall()) == 10
    assert one(connection, "SELECT array_agg(n) FROM item WHERE who = %s", (WHO,)) == ([1],)
    connection.close()


def prepared():
    connection = connect()
    connection.autocommit = True
    one(connection, "PREPARE doubled AS SELECT $1::int * 2; SELECT 1")
    for n in range(20):
        assert one(connection, "EXECUTE doubled(%s)", (n,)) == (2 * n,)
    connection.cursor().execute("DEALLOCATE doubled")
    with raises(errors.InvalidSqlStatementName):
        one(connection, "EXECUTE doubled(1)")
    connection.close()


def batches():
    with connect() as connection, connection.cursor() as cursor:
        rows = [(WHO + "b", n) for n in range(300)]
        cursor.executemany("INSERT INTO item (who, n) VALUES (%s, %s)", rows)
        psycopg2.extras.execute_batch(cursor, "INSERT INTO item (who, n) VALUES (%s, %s)", rows)
        psycopg2.extras.execute_values(cursor, "INSERT INTO item (who, n) VALUES %s", rows)
        cursor.execute("SELECT count(*) FROM item WHERE who = %s", (WHO + "b",))
        assert cursor.fetchone() == (900,)
    connection.close()


def copy():
    with connect() as connection, connection.cursor() as cursor:
        text = "".join(f"{WHO}c\t{n}\n" for n in range(2000))
        cursor.copy_expert("COPY item (who, n) FROM STDIN", io.StringIO(text))
        out = io.StringIO()
        cursor.copy_expert(f"COPY (SELECT who, n FROM item WHERE who = '{WHO}c' ORDER BY n) TO STDOUT", out)
        assert out.getvalue() == text
    with raises(errors.InvalidTextRepresentation), connection, connection.cursor() as cursor:
        cursor.copy_expert("COPY item (n) FROM STDIN", io.StringIO("x\n"))
    assert one(connection, "SELECT 1") == (1,)
    connection.close()


def notifications():
    listener, other = connect(), connect()
    listener.autocommit = other.autocommit = True
    listener.cursor().execute(f'LISTEN "{WHO}"')
    for payload in ("one", "two"):
        other.cursor().execute("SELECT pg_notify(%s, %s)", (WHO, payload))

    def both():
        select.select([listener], [], [], 1)
        listener.poll()
        return len(listener.notifies) == 2

    eventually(both)
    assert [notify.payload for notify in listener.notifies] == ["one", "two"]
    listener.close(), other.close()


def cancel():
    connection, other = connect(), connect()
    other.autocommit = True

    def stop():
        eventually(lambda: one(other, RUNNING)[0])
        connection.cancel()

    thread = threading.Thread(target=stop)
    thread.start()
    with raises(errors.QueryCanceled):
        one(connection, SLEEP)
    thread.join()
    connection.rollback()
    assert one(connection, "SELECT 1") == (1,)
    connection.close(), other.close()


def timeouts():
    connection = connect(options="-c statement_timeout=100")
    with raises(errors.QueryCanceled):
        one(connection, "SELECT pg_sleep(60)")
    connection.rollback()
    assert one(connection, "SHOW statement_timeout") == ("100ms",)
    connection.close()


def settings():
    connection = connect(application_name=WHO, client_encoding="LATIN1")
    connection.autocommit = True
    connection.cursor().execute("SET TimeZone = 'Asia/Tokyo'")
    for _ in range(3):
        row = one(connection, "SELECT current_setting('application_name'), current_setting('TimeZone'), 'ü'")
        assert row == (WHO, "Asia/Tokyo", "ü"), row
    assert connection.get_parameter_status("TimeZone") == "Asia/Tokyo"
    connection.set_client_encoding("UTF8")
    assert one(connection, "SELECT '🐘'") == ("🐘",)
    connection.reset()
    connection.close()


def reconnect():
    connection = connect()
    with raises(psycopg2.OperationalError):
        one(connection, "SELECT pg_terminate_backend(pg_backend_pid())")
        one(connection, "SELECT 1")
    assert connection.closed
    connection = connect()
    assert one(connection, "SELECT 1") == (1,)
    connection.close()


run(types, transactions, prepared, batches, copy, notifications, cancel, timeouts, settings, reconnect)
