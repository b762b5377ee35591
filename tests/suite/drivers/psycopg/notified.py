"""Listens, works until it is told, and prints what it is notified of."""

import sys

import psycopg

url, wanted = sys.argv[1], int(sys.argv[2])
with psycopg.connect(url, autocommit=True) as connection:
    connection.execute("LISTEN news")
    for number in range(200):
        assert connection.execute(f"SELECT {number}").fetchone() == (number,)
    print("ready", flush=True)
    for seen, notification in enumerate(connection.notifies(), start=1):
        print(notification.channel, notification.payload, flush=True)
        if seen == wanted:
            break
