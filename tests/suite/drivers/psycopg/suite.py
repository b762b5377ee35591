"""psycopg 3 at its defaults."""

import threading

import psycopg
from psycopg.types.json import Jsonb
from psycopg.types.range import Range

from checks import RUNNING, SLEEP, VALUES, WHO, eventually, raises, run

errors = psycopg.errors


def types():
    pairs = [*VALUES, (Jsonb({"a": [1, None]}), "jsonb"), (Range(1, 10), "int4range")]
    values, casts = zip(*pairs)
    sql = "SELECT " + ", ".join(f"%s::{cast}" for cast in casts)
    expected = tuple({"a": [1, None]} if isinstance(value, Jsonb) else value for value in values)
    with psycopg.connect() as connection:
        for binary in (False, True):
            for _ in range(8):
                found = connection.execute(sql, values, binary=binary).fetchone()
                assert found == expected, (found, expected)


def transactions():
    with psycopg.connect() as connection:
        connection.execute("INSERT INTO item (who, n) VALUES (%s, 1)", (WHO,))
        with raises(ZeroDivisionError), connection.transaction():
            connection.execute("INSERT INTO item (who, n) VALUES (%s, 2)", (WHO,))
            1 / 0
        with raises(errors.UndefinedTable), connection.transaction():
            connection.execute("SELECT * FROM nowhere")
        connection.commit()
        connection.execute("INSERT INTO item (who, n) VALUES (%s, 3)", (WHO,))
        connection.rollback()
        connection.isolation_level, connection.read_only = psycopg.IsolationLevel.SERIALIZABLE, True
        assert connection.execute("SHOW transaction_isolation").fetchone() == ("serializable",)
        with raises(errors.ReadOnlySqlTransaction):
            connection.execute("INSERT INTO item (who, n) VALUES (%s, 4)", (WHO,))
        connection.rollback()
        assert connection.execute("SELECT n FROM item WHERE who = %s", (WHO,)).fetchall() == [(1,)]
    with psycopg.connect(autocommit=True) as connection, connection.cursor("mine", withhold=True) as cursor:
        cursor.execute("SELECT n FROM generate_series(1, 250) n")
        assert [row[0] for row in cursor] == list(range(1, 251))


def prepared():
    with psycopg.connect(autocommit=True) as connection:
        for n in range(120):
            assert connection.execute("SELECT %s::int + 1", (n,)).fetchone() == (n + 1,)
            assert connection.execute(f"SELECT {n} + %s", (n,), prepare=True).fetchone() == (2 * n,)
        connection.execute(f'CREATE TABLE "{WHO}_p" AS SELECT 1 AS a')
        for column in "bcd":
            for _ in range(7):
                connection.execute(f'SELECT * FROM "{WHO}_p"').fetchone()
            connection.execute(f'ALTER TABLE "{WHO}_p" ADD COLUMN {column} int')
            # PostgreSQL itself says so to whoever was told other columns.
            for _ in range(2):
                try:
                    connection.execute(f'SELECT * FROM "{WHO}_p"').fetchone()
                    break
                except errors.FeatureNotSupported:
                    pass
            else:
                raise AssertionError("again")
        connection.execute("DEALLOCATE ALL")


def batches():
    with psycopg.connect() as connection:
        with connection.pipeline() as pipeline:
            cursors = [connection.execute("SELECT %s::int", (n,)) for n in range(200)]
            pipeline.sync()
            assert [cursor.fetchone()[0] for cursor in cursors] == list(range(200))
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO item (who, n) VALUES (%s, %s)", [(WHO + "b", n) for n in range(300)])
            assert cursor.rowcount == 300
        connection.commit()
        with raises(errors.DivisionByZero), connection.pipeline():
            connection.execute("SELECT 1")
            connection.execute("SELECT 1 / %s", (0,))
            connection.execute("SELECT 3")
        connection.rollback()
        count = connection.execute("SELECT count(*) FROM item WHERE who = %s", (WHO + "b",)).fetchone()
        assert count == (300,), count


def copy():
    with psycopg.connect() as connection, connection.cursor() as cursor:
        for options in ("", "WITH BINARY"):
            with cursor.copy(f"COPY item (who, n) FROM STDIN {options}") as copy:
                copy.set_types(["text", "int4"])
                for n in range(1000):
                    copy.write_row((WHO + "c", n))
        with raises(errors.InvalidTextRepresentation), connection.transaction():
            with cursor.copy("COPY item (who, n) FROM STDIN") as copy:
                copy.write(b"x\ty\n")
        with cursor.copy("COPY (SELECT n FROM item WHERE who = %s ORDER BY n) TO STDOUT", (WHO + "c",)) as copy:
            assert [row[0] for row in copy.rows()] == [str(n // 2) for n in range(2000)]


def notifications():
    with psycopg.connect(autocommit=True) as listener, psycopg.connect(autocommit=True) as other:
        listener.execute(f'LISTEN "{WHO}"')
        other.execute("SELECT pg_notify(%s, 'one')", (WHO,))
        other.execute(f"NOTIFY \"{WHO}\", 'two'")
        payloads = [notify.payload for notify in listener.notifies(timeout=30, stop_after=2)]
        assert payloads == ["one", "two"], payloads
        listener.execute("UNLISTEN *")


def cancel():
    with psycopg.connect() as connection, psycopg.connect(autocommit=True) as other:
        def stop():
            eventually(lambda: other.execute(RUNNING).fetchone()[0])
            connection.cancel_safe()

        thread = threading.Thread(target=stop)
        thread.start()
        with raises(errors.QueryCanceled):
            connection.execute(SLEEP)
        thread.join()
        connection.rollback()
        assert connection.execute("SELECT 1").fetchone() == (1,)


def timeouts():
    with psycopg.connect(options="-c statement_timeout=100") as connection:
        with raises(errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(60)")
        connection.rollback()
        connection.execute("SET LOCAL statement_timeout = 0")
        assert connection.execute("SHOW statement_timeout").fetchone() == ("0",)
        connection.commit()
        assert connection.execute("SHOW statement_timeout").fetchone() == ("100ms",)


def settings():
    options = {"application_name": WHO, "options": "-c DateStyle=German", "client_encoding": "LATIN1"}
    with psycopg.connect(autocommit=True, **options) as connection:
        connection.execute("SET TimeZone = 'Asia/Tokyo'")
        for _ in range(3):
            row = connection.execute("SELECT current_setting('application_name'), '2020-01-02'::date::text, "
                                     "current_setting('TimeZone'), 'ü'").fetchone()
            assert row == (WHO, "02.01.2020", "Asia/Tokyo", "ü"), row
        assert connection.info.timezone.key == "Asia/Tokyo"
    with psycopg.connect(max_protocol_version="latest") as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def reconnect():
    connection = psycopg.connect(autocommit=True)
    with raises(psycopg.OperationalError):
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        connection.execute("SELECT 1")
    assert connection.closed
    with psycopg.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


run(types, transactions, prepared, batches, copy, notifications, cancel, timeouts, settings, reconnect)
