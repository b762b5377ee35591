"""psycopg 3 as its users have it: statements are prepared from the fifth time on, and no more than 100 of them."""

import asyncio
import sys

import psycopg

CLIENTS, ROUNDS = 20, 30


async def work(dsn, number, start):
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=number % 2 == 0) as connection:
        await start.wait()
        for round in range(ROUNDS):
            async with connection.cursor() as cursor:
                await cursor.execute("SELECT %s::int + %s::int, %s::text", (number, round, f"of {number}"))
                assert await cursor.fetchone() == (number + round, f"of {number}")
                # More texts than it keeps prepared: it takes some of them away again.
                for _ in range(6 if round < 25 else 0):
                    await cursor.execute(f"SELECT {number} * 1000 + {round} + %s::int", (round,))
                    assert await cursor.fetchone() == (number * 1000 + 2 * round,)
                await cursor.execute("INSERT INTO work (worker, round) VALUES (%s, %s)", (number, round))
            if round % 5 == 4:
                try:
                    await connection.execute("SELECT 1 / %s::int", (0,))
                except psycopg.errors.DivisionByZero:
                    await connection.rollback()
                else:
                    raise AssertionError("no error")
            await connection.commit()
        async with connection.pipeline():
            cursors = [await connection.execute("SELECT %s::int", (n,)) for n in range(40)]
        found = [(await cursor.fetchone())[0] for cursor in cursors]
        assert found == list(range(40)), found
        await connection.commit()


async def evict(dsn):
    """Keeps one statement prepared, so that each other one takes it away."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        connection.prepare_threshold, connection.prepared_max = 0, 1
        for round in range(50):
            cursor = await connection.execute(f"SELECT {round % 3} + %s::int", (round,))
            assert await cursor.fetchone() == (round % 3 + round,)


async def main(dsn):
    start = asyncio.Event()
    workers = [asyncio.create_task(work(dsn, number, start)) for number in range(CLIENTS)]
    start.set()
    await asyncio.gather(*workers, evict(dsn))


asyncio.run(main(sys.argv[1]))
