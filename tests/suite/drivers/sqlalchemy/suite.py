"""SQLAlchemy at its defaults, over psycopg 3, psycopg 2 and asyncpg."""

import asyncio
import datetime
import decimal
import io
import os
import select
import threading
import uuid

import sqlalchemy as sa
from sqlalchemy import exc, orm
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import create_async_engine

from checks import LIMIT, RUNNING, SLEEP, WHO, eventually, raises, run

PLACE = "{PGUSER}:{PGPASSWORD}@{PGHOST}:{PGPORT}/{PGDATABASE}".format(**os.environ)
ENGINES = {name: sa.create_engine(f"postgresql+{name}://{PLACE}") for name in ("psycopg", "psycopg2")}


class Base(orm.DeclarativeBase):
    pass


class Thing(Base):
    __tablename__ = f"{WHO}_thing"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str]
    amount: orm.Mapped[decimal.Decimal] = orm.mapped_column(sa.Numeric(12, 2))
    made: orm.Mapped[datetime.datetime] = orm.mapped_column(sa.DateTime(timezone=True))
    data: orm.Mapped[dict] = orm.mapped_column(pg.JSONB)
    tags: orm.Mapped[list] = orm.mapped_column(pg.ARRAY(sa.Text))
    key: orm.Mapped[uuid.UUID]
    parts: orm.Mapped[list["Part"]] = orm.relationship(order_by="Part.id")


class Part(Base):
    __tablename__ = f"{WHO}_part"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    thing_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey(Thing.id))


def thing(name):
    made = datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone.utc)
    return Thing(
        name=name, amount=decimal.Decimal("1.50"), made=made, data={"a": [1]}, tags=["x", "ü"],
        key=uuid.UUID(int=7), parts=[Part(), Part()],
    )


def types():
    for engine in ENGINES.values():
        # It looks for the tables first, then makes them.
        Base.metadata.create_all(engine)
        with orm.Session(engine) as session:
            session.add(thing("one"))
            session.commit()
            found = session.scalars(sa.select(Thing).order_by(Thing.id.desc()).limit(1)).one()
            assert (found.amount, found.data, found.tags) == (decimal.Decimal("1.50"), {"a": [1]}, ["x", "ü"])
            assert (found.key, len(found.parts)) == (uuid.UUID(int=7), 2)
    columns = sa.inspect(ENGINES["psycopg"]).get_columns(Thing.__tablename__)
    assert [column["name"] for column in columns][:2] == ["id", "name"]


def transactions():
    for name, engine in ENGINES.items():
        with engine.begin() as connection:
            connection.execute(sa.text("INSERT INTO item (who, n) VALUES (:who, 1)"), {"who": WHO + name})
            with raises(exc.ProgrammingError), connection.begin_nested():
                connection.execute(sa.text("INSERT INTO item (who, n) VALUES (:who, 2)"), {"who": WHO + name})
                connection.execute(sa.text("SELECT * FROM nowhere"))
        with raises(exc.DataError), engine.begin() as connection:
            connection.execute(sa.text("INSERT INTO item (who, n) VALUES (:who, 3)"), {"who": WHO + name})
            connection.execute(sa.text("SELECT 1 / 0"))
        options = {"isolation_level": "SERIALIZABLE", "postgresql_readonly": True}
        with raises(exc.InternalError, exc.OperationalError), engine.connect() as connection:
            connection = connection.execution_options(**options)
            connection.execute(sa.text("INSERT INTO item (who, n) VALUES ('x', 4)"))
        with engine.connect() as connection:
            found = connection.scalars(sa.text("SELECT n FROM item WHERE who = :who"), {"who": WHO + name}).all()
            assert found == [1], found
            rows = connection.execution_options(stream_results=True).execute(
                sa.text("SELECT n FROM generate_series(1, 3000) n"))
            assert [row.n for row in rows] == list(range(1, 3001))


def prepared():
    """asyncpg prepares every statement, and SQLAlchemy keeps 100 of them for each connection."""

    async def main():
        engine = create_async_engine(f"postgresql+asyncpg://{PLACE}", pool_size=2)

        async def work(number):
            for n in range(60):
                async with engine.connect() as connection:
                    found = await connection.scalar(sa.text(f"SELECT {n} + CAST(:n AS int)"), {"n": number})
                    assert found == n + number

        await asyncio.gather(*(work(number) for number in range(4)))
        await engine.dispose()

    asyncio.run(main())


def batches():
    for name, engine in ENGINES.items():
        with orm.Session(engine) as session:
            session.add_all([thing(f"{name} {n}") for n in range(100)])
            session.commit()
            session.execute(sa.insert(Thing).returning(Thing.id, sort_by_parameter_order=True), [
                {"name": f"{name} bulk", "amount": n, "made": datetime.datetime.now(datetime.timezone.utc), "data": {}, "tags": [],
                 "key": uuid.UUID(int=n)} for n in range(100)])
            session.commit()
            count = sa.select(sa.func.count()).select_from(Thing).where(Thing.name.like(f"{name} %"))
            assert session.scalar(count) == 200
            session.execute(sa.update(Thing).where(Thing.name == f"{name} bulk").values(tags=["new"]))
            session.commit()


def driver(connection):
    """For what SQLAlchemy has nothing of its own, its users ask the driver."""
    return connection.connection.driver_connection


def with_asyncpg(work):
    async def main():
        engine = create_async_engine(f"postgresql+asyncpg://{PLACE}")
        await work(engine)
        await engine.dispose()

    asyncio.run(main())


def copy():
    sql = "COPY item (who, n) FROM STDIN"
    for name, engine in ENGINES.items():
        data = "".join(f"{WHO}c{name}\t{n}\n" for n in range(1000))
        with engine.begin() as connection, driver(connection).cursor() as cursor:
            if name == "psycopg":
                with cursor.copy(sql) as copy:
                    copy.write(data)
            else:
                cursor.copy_expert(sql, io.StringIO(data))
            count = connection.scalar(sa.text("SELECT count(*) FROM item WHERE who = :who"), {"who": f"{WHO}c{name}"})
            assert count == 1000, count

    async def records(engine):
        async with engine.begin() as connection:
            raw = (await connection.get_raw_connection()).driver_connection
            # SQLAlchemy begins its transaction with the first statement of its own.
            await connection.execute(sa.text("SELECT 1"))
            await raw.copy_records_to_table("item", records=[(WHO + "ca", n) for n in range(1000)], columns=["who", "n"])
        async with engine.connect() as connection:
            assert await connection.scalar(sa.text(f"SELECT count(*) FROM item WHERE who = '{WHO}ca'")) == 1000

    with_asyncpg(records)


def notifications():
    def wait(raw, name):
        if name == "psycopg":
            return [notify.payload for notify in raw.notifies(timeout=LIMIT, stop_after=2)]
        while len(raw.notifies) < 2:
            assert select.select([raw], [], [], LIMIT)[0]
            raw.poll()
        return [notify.payload for notify in raw.notifies]

    def tell(connection):
        for payload in ("one", "two"):
            connection.execute(sa.text("SELECT pg_notify(:who, :payload)"), {"who": WHO, "payload": payload})

    for name, engine in ENGINES.items():
        listening = engine.execution_options(isolation_level="AUTOCOMMIT")
        with listening.connect() as listener, listening.connect() as other:
            listener.execute(sa.text(f'LISTEN "{WHO}"'))
            tell(other)
            assert wait(driver(listener), name) == ["one", "two"]
            listener.execute(sa.text("UNLISTEN *"))

    async def listen(engine):
        async with engine.connect() as listener:
            raw, heard = (await listener.get_raw_connection()).driver_connection, asyncio.Queue()

            def hear(*message):
                heard.put_nowait(message[3])

            await raw.add_listener(WHO, hear)
            async with engine.begin() as other:
                await other.run_sync(tell)
            assert [await asyncio.wait_for(heard.get(), LIMIT) for _ in range(2)] == ["one", "two"]
            await raw.remove_listener(WHO, hear)

    with_asyncpg(listen)


def cancel():
    for name, engine in ENGINES.items():
        with engine.connect() as connection, engine.execution_options(isolation_level="AUTOCOMMIT").connect() as other:
            raw = driver(connection)

            def stop():
                eventually(lambda: other.scalar(sa.text(RUNNING)))
                raw.cancel_safe() if name == "psycopg" else raw.cancel()

            thread = threading.Thread(target=stop)
            thread.start()
            with raises(exc.OperationalError):
                connection.execute(sa.text(SLEEP))
            thread.join()
            connection.rollback()
            assert connection.scalar(sa.text("SELECT 1")) == 1

    async def abandon(engine):
        async def sleep():
            async with engine.connect() as connection:
                await connection.execute(sa.text(SLEEP))

        async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as other:
            async def running(count):
                async with asyncio.timeout(LIMIT):
                    while await other.scalar(sa.text(RUNNING)) != count:
                        pass

            task = asyncio.create_task(sleep())
            await running(1)
            task.cancel()
            with raises(asyncio.CancelledError):
                await task
            await running(0)

    with_asyncpg(abandon)


def timeouts():
    for name, engine in ENGINES.items():
        with raises(exc.OperationalError), engine.begin() as connection:
            connection.execute(sa.text("SET LOCAL statement_timeout = 100"))
            connection.execute(sa.text("SELECT pg_sleep(60)"))
        engine = sa.create_engine(
            f"postgresql+{name}://{PLACE}", connect_args={"options": "-c statement_timeout=100"})
        with raises(exc.OperationalError), engine.connect() as connection:
            connection.execute(sa.text("SELECT pg_sleep(60)"))
        engine.dispose()


def settings():
    for name in ENGINES:
        engine = sa.create_engine(
            f"postgresql+{name}://{PLACE}", connect_args={"application_name": WHO}, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text("SET TimeZone = 'Asia/Tokyo'"))
            for _ in range(3):
                row = connection.execute(
                    sa.text("SELECT current_setting('application_name'), current_setting('TimeZone')"))
                assert tuple(row.one()) == (WHO, "Asia/Tokyo")
        engine.dispose()


def reconnect():
    for name in ENGINES:
        engine = sa.create_engine(f"postgresql+{name}://{PLACE}", pool_size=1, pool_pre_ping=True)
        with raises(exc.OperationalError), engine.connect() as connection:
            connection.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))
            connection.execute(sa.text("SELECT 1"))
        with engine.connect() as connection:
            assert connection.scalar(sa.text("SELECT 1")) == 1
        engine.dispose()


run(types, transactions, prepared, batches, copy, notifications, cancel, timeouts, settings, reconnect)
