"""psycopg 3 at its defaults: listens in autocommit and in transactions, with handlers and as a generator."""

import sys
import threading

import psycopg

URL = sys.argv[1]
LIMIT = 30


def payloads(connection, count):
    found = [notify.payload for notify in connection.notifies(timeout=LIMIT, stop_after=count)]
    assert len(found) >= count, found
    return found


def in_autocommit():
    with psycopg.connect(URL, autocommit=True) as one, psycopg.connect(URL, autocommit=True) as other:
        one.execute("LISTEN a")
        other.execute("LISTEN a")
        for round in range(20):
            other.execute("SELECT pg_notify('a', %s)", [str(round)])
            assert payloads(one, 1) == [str(round)]
            # Its own came with the answer.
            assert payloads(other, 1) == [str(round)]


def in_transactions():
    with psycopg.connect(URL) as one, psycopg.connect(URL, autocommit=True) as other:
        seen = []
        one.add_notify_handler(lambda notify: seen.append(notify.payload))
        one.execute("LISTEN a")
        other.execute("NOTIFY a, 'too early'")
        one.commit()
        with one.transaction():
            one.execute("LISTEN b")
            try:
                with one.transaction():
                    one.execute("LISTEN c")
                    one.execute("SELECT 1/0")
            except psycopg.errors.DivisionByZero:
                pass
        other.execute("SELECT pg_notify(channel, channel) FROM unnest('{c,b,a}'::text[]) channel")
        # A notification to itself is the last one.
        while not seen or seen[-1] != "end":
            one.execute("NOTIFY a, 'end'")
            one.commit()
        assert [payload for payload in seen if payload != "end"] == ["b", "a"], seen


def in_a_pipeline():
    with psycopg.connect(URL, autocommit=True) as one:
        with one.pipeline():
            one.execute("LISTEN a")
            one.execute("SELECT 1")
            one.execute("NOTIFY a, 'x'")
        # What comes in one packet with the last result, psycopg shows after the next statement: with PostgreSQL itself, too.
        one.execute("SELECT 1")
        assert payloads(one, 1) == ["x"]


def from_many_threads():
    def work(number):
        with psycopg.connect(URL, autocommit=True) as connection:
            connection.execute(f"LISTEN own{number}")
            for round in range(10):
                connection.execute("SELECT pg_notify(%s, %s)", [f"own{number}", str(round)])
                assert payloads(connection, 1) == [str(round)]

    failed = []

    def run(number):
        try:
            work(number)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=[number]) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed


in_autocommit()
in_transactions()
in_a_pipeline()
from_many_threads()
