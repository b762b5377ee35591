"""asyncpg as its users have it: every statement is prepared, described once, and kept."""

import asyncio
import sys

import asyncpg

CLIENTS, ROUNDS = 20, 30


async def work(dsn, number):
    connection = await asyncpg.connect(dsn)
    for round in range(ROUNDS):
        found = await connection.fetchrow("SELECT $1::int + $2::int, $3::text", number, round, f"of {number}")
        assert tuple(found) == (number + round, f"of {number}")
        async with connection.transaction():
            await connection.execute("INSERT INTO work (worker, round) VALUES ($1, $2)", number, round)
            mine = await connection.fetchval("SELECT count(*) FROM work WHERE worker = $1", number)
            assert mine == round + 1, mine
        if round % 5 == 4:
            try:
                await connection.fetchval("SELECT 1 / $1::int", 0)
            except asyncpg.DivisionByZeroError:
                pass
            else:
                raise AssertionError("no error")
    await connection.executemany("INSERT INTO work (worker, round) VALUES ($1, $2)", [(-number, n) for n in range(50)])
    async with connection.transaction():
        seen = [row["n"] async for row in connection.cursor("SELECT n FROM generate_series(1, 200) n WHERE n > $1", 100)]
    assert seen == list(range(101, 201))
    prepared = await connection.prepare("SELECT $1::int8 * 2")
    for n in range(20):
        assert await prepared.fetchval(n) == 2 * n
    await connection.close()


async def main(dsn):
    await asyncio.gather(*(work(dsn, number) for number in range(1, CLIENTS + 1)))


asyncio.run(main(sys.argv[1]))
