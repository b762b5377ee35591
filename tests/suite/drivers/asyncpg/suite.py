"""asyncpg at its defaults: every statement is prepared by name, and kept."""

import asyncio
import json

import asyncpg

from checks import RUNNING, SLEEP, VALUES, WHO, raises


async def types():
    pairs = [*VALUES, (json.dumps({"a": [1, None]}), "jsonb"), (asyncpg.Range(1, 10), "int4range")]
    values, casts = zip(*pairs)
    sql = "SELECT " + ", ".join(f"${n}::{cast}" for n, cast in enumerate(casts, 1))
    connection = await asyncpg.connect()
    found = tuple(await connection.fetchrow(sql, *values))
    assert found == values, found
    # A type that it has to ask the server about.
    await connection.execute(f"CREATE TYPE \"{WHO}_mood\" AS ENUM ('sad', 'happy')")
    assert await connection.fetchval(f'SELECT $1::"{WHO}_mood"', "happy") == "happy"
    await connection.execute(f'CREATE TYPE "{WHO}_pair" AS (a int, b text)')
    assert tuple(await connection.fetchval(f"SELECT ROW(1, 'x')::\"{WHO}_pair\"")) == (1, "x")
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    assert await connection.fetchval("SELECT $1::jsonb", {"b": 2}) == {"b": 2}
    await connection.close()


async def transactions():
    connection = await asyncpg.connect()
    async with connection.transaction():
        await connection.execute("INSERT INTO item (who, n) VALUES ($1, 1)", WHO)
        with raises(asyncpg.DivisionByZeroError):
            async with connection.transaction():
                await connection.execute("INSERT INTO item (who, n) VALUES ($1, 2)", WHO)
                await connection.fetchval("SELECT 1 / $1::int", 0)
    with raises(asyncpg.ReadOnlySQLTransactionError):
        async with connection.transaction(isolation="serializable", readonly=True):
            await connection.execute("INSERT INTO item (who, n) VALUES ($1, 3)", WHO)
    async with connection.transaction():
        cursor = await connection.cursor("SELECT n FROM generate_series(1, 1000) n")
        await cursor.forward(10)
        assert [row["n"] for row in await cursor.fetch(3)] == [11, 12, 13]
    assert [row["n"] for row in await connection.fetch("SELECT n FROM item WHERE who = $1", WHO)] == [1]
    await connection.close()


async def prepared():
    async with asyncpg.create_pool(min_size=2, max_size=2) as pool:
        async def work(number):
            for n in range(30):
                # More than its cache of 100 holds.
                found = await pool.fetchval(f"SELECT {number} * 100 + {n} + $1::int", n)
                assert found == number * 100 + 2 * n

        await asyncio.gather(*(work(number) for number in range(6)))
        async with pool.acquire() as connection:
            statement = await connection.prepare("SELECT $1::int8 * 2")
            assert [await statement.fetchval(n) for n in range(20)] == [2 * n for n in range(20)]
    await columns()


async def columns():
    connection, *holders = [await asyncpg.connect() for _ in range(3)]
    table = f'"{WHO}_grows"'
    await connection.execute(f"CREATE TABLE {table} (a int); INSERT INTO {table} VALUES (1)")
    select, expected = f"SELECT * FROM {table}", [1]
    for n, (kind, value) in enumerate([("text", "x"), ("int8", 2**40), ("bool", True), ("int[]", [1, 2])]):
        held = []
        for holder in holders:
            for _ in range(7):
                assert list(await connection.fetchrow(select)) == expected
            # Keeps a server connection, so that it is not the same ones that are at hand from then on.
            held.append(holder.transaction())
            await held[-1].start()
        for transaction in held:
            await transaction.rollback()
        await holders[0].execute(f"ALTER TABLE {table} ADD COLUMN b{n} {kind}")
        await holders[0].execute(f"UPDATE {table} SET b{n} = $1", value)
        await holders[0].execute(f"ALTER TABLE {table} ALTER COLUMN a TYPE {'text' if n % 2 == 0 else 'int USING a::int'}")
        expected = ["1" if n % 2 == 0 else 1, *expected[1:], value]
        # It is told that its statement is outdated, and prepares another.
        for _ in range(3):
            assert list(await connection.fetchrow(select)) == expected
            rows = await connection.fetch(f"UPDATE {table} SET a = a RETURNING *")
            assert [list(row) for row in rows] == [expected], rows
    for connection in (connection, *holders):
        await connection.close()


async def batches():
    connection = await asyncpg.connect()
    await connection.executemany("INSERT INTO item (who, n) VALUES ($1, $2)", [(WHO + "b", n) for n in range(300)])
    with raises(asyncpg.DivisionByZeroError):
        await connection.executemany(f"INSERT INTO item (who, n) VALUES ('{WHO}b', 1 / $1::int)", [(1,), (0,)])
    assert await connection.fetchval("SELECT count(*) FROM item WHERE who = $1", WHO + "b") == 300
    rows = await connection.fetchmany("INSERT INTO item (who, n) VALUES ($1, $2) RETURNING n", [(WHO, 5), (WHO, 6)])
    assert [row["n"] for row in rows] == [5, 6]
    await connection.close()


async def copy():
    connection = await asyncpg.connect()
    rows = [(WHO + "c", n) for n in range(2000)]
    await connection.copy_records_to_table("item", records=rows, columns=["who", "n"])
    out = bytearray()

    async def write(data):
        out.extend(data)

    await connection.copy_from_query("SELECT n FROM item WHERE who = $1 ORDER BY n", WHO + "c", output=write)
    assert out.decode().split() == [str(n) for n in range(2000)]
    with raises(asyncpg.UndefinedColumnError):
        await connection.copy_records_to_table("item", records=rows, columns=["nothing"])
    await connection.close()


async def notifications():
    listener, other = await asyncpg.connect(), await asyncpg.connect()
    queue = asyncio.Queue()
    await listener.add_listener(WHO, lambda *message: queue.put_nowait(message))
    await other.execute("SELECT pg_notify($1, 'one')", WHO)
    await other.execute("SELECT pg_notify($1, 'two')", WHO)
    payloads = [(await asyncio.wait_for(queue.get(), 30))[3] for _ in range(2)]
    assert payloads == ["one", "two"], payloads
    await listener.close(), await other.close()


async def cancel():
    connection, other = await asyncpg.connect(), await asyncpg.connect()
    task = asyncio.create_task(connection.fetchval(SLEEP))
    while not await other.fetchval(RUNNING):
        pass
    # It sends a CancelRequest, and waits for it before the next statement.
    task.cancel()
    with raises(asyncio.CancelledError):
        await task
    assert await connection.fetchval("SELECT 1") == 1
    assert await other.fetchval(RUNNING) == 0
    await connection.close(), await other.close()


async def timeouts():
    connection = await asyncpg.connect()
    with raises(asyncio.TimeoutError):
        await connection.fetchval("SELECT pg_sleep(60)", timeout=0.2)
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()
    connection = await asyncpg.connect(server_settings={"statement_timeout": "100"})
    with raises(asyncpg.QueryCanceledError):
        await connection.fetchval("SELECT pg_sleep(60)")
    assert await connection.fetchval("SHOW statement_timeout") == "100ms"
    await connection.close()


async def settings():
    connection = await asyncpg.connect(server_settings={"application_name": WHO, "DateStyle": "German"})
    await connection.execute("SET TimeZone = 'Asia/Tokyo'")
    for _ in range(3):
        row = await connection.fetchrow(
            "SELECT current_setting('application_name'), '2020-01-02'::date::text, current_setting('TimeZone')"
        )
        assert tuple(row) == (WHO, "02.01.2020", "Asia/Tokyo"), row
    assert connection.get_settings().TimeZone == "Asia/Tokyo"
    await connection.reset()
    await connection.close()


async def reconnect():
    async with asyncpg.create_pool(min_size=1, max_size=1) as pool:
        with raises(asyncpg.AdminShutdownError, asyncpg.ConnectionDoesNotExistError):
            await pool.fetchval("SELECT pg_terminate_backend(pg_backend_pid())")
        assert await pool.fetchval("SELECT 1") == 1


async def main():
    for check in (
        types, transactions, prepared, batches, copy, notifications, cancel, timeouts, settings, reconnect,
    ):
        await check()
        print("ok", check.__name__, flush=True)


asyncio.run(main())
