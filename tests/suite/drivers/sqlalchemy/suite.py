"""SQLAlchemy at its defaults, over psycopg 3, psycopg 2 and asyncpg."""

import asyncio
import datetime
import decimal
import os
import uuid

import sqlalchemy as sa
from sqlalchemy import exc, orm
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import create_async_engine

from checks import WHO, raises, run

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


run(types, transactions, prepared, batches, timeouts, settings, reconnect)
