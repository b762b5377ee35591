"""Django's backend at its defaults, over psycopg 3: server-side cursors are on, also outside of transactions."""

import datetime
import decimal
import os
import threading
import uuid

import django
import psycopg
from django.conf import settings as django_settings

from checks import LIMIT, RUNNING, SLEEP, WHO, eventually, raises, run

DATABASE = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": os.environ["PGDATABASE"],
    "USER": os.environ["PGUSER"],
    "PASSWORD": os.environ["PGPASSWORD"],
    "HOST": os.environ["PGHOST"],
    "PORT": os.environ["PGPORT"],
}
django_settings.configure(
    DATABASES={
        "default": DATABASE,
        "binding": DATABASE | {"OPTIONS": {"server_side_binding": True}},
        "pool": DATABASE | {"OPTIONS": {"application_name": WHO, "options": "-c statement_timeout=100"}},
    },
    USE_TZ=True,
    TIME_ZONE="Asia/Tokyo",
)
django.setup()

from django.contrib.postgres.fields import ArrayField  # noqa: E402
from django.db import DataError, OperationalError, connection, connections, models, transaction  # noqa: E402


class Thing(models.Model):
    name = models.TextField()
    amount = models.DecimalField(max_digits=12, decimal_places=2)
    made = models.DateTimeField()
    data = models.JSONField()
    tags = ArrayField(models.TextField())
    key = models.UUIDField()
    raw = models.BinaryField(null=True)

    class Meta:
        app_label = "suite"
        db_table = f"{WHO}_thing"


def thing(name):
    made = datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone.utc)
    return Thing(name=name, amount=decimal.Decimal("1.50"), made=made, data={"a": [1]}, tags=["x", "ü"],
                 key=uuid.UUID(int=7), raw=b"\x00\xff")


def types():
    with connection.schema_editor() as editor:
        editor.create_model(Thing)
    thing("one").save()
    for alias in ("default", "binding"):
        found = Thing.objects.using(alias).get(name="one")
        assert (found.amount, found.data, found.tags) == (decimal.Decimal("1.50"), {"a": [1]}, ["x", "ü"])
        assert (found.key, bytes(found.raw)) == (uuid.UUID(int=7), b"\x00\xff")
        assert found.made == datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone.utc)
        assert Thing.objects.using(alias).filter(made__date="2020-01-02", data__a__0=1, tags__contains=["x"]).exists()
    assert Thing._meta.db_table in connection.introspection.table_names()


def transactions():
    with transaction.atomic():
        thing("kept").save()
        with raises(DataError), transaction.atomic():
            thing("lost").save()
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 / 0")
        assert Thing.objects.select_for_update().get(name="kept")
    with raises(ZeroDivisionError), transaction.atomic():
        thing("lost").save()
        1 / 0
    assert not Thing.objects.filter(name="lost").exists()
    # Server-side cursors: in a transaction, and WITH HOLD outside of one.
    Thing.objects.bulk_create([thing("many") for _ in range(500)])
    for alias in ("default", "binding"):
        many = Thing.objects.using(alias).filter(name="many")
        assert sum(1 for _ in many.iterator(chunk_size=100)) == 500
        with transaction.atomic(using=alias):
            assert sum(1 for _ in many.iterator(chunk_size=100)) == 500


def prepared():
    for alias in ("default", "binding"):
        for n in range(60):
            assert Thing.objects.using(alias).filter(name="many", amount__gte=n).count() == (500 if n < 2 else 0)
        with connections[alias].schema_editor() as editor:
            field = models.IntegerField(null=True)
            field.set_attributes_from_name(f"more_{alias}")
            editor.add_field(Thing, field)
        assert Thing.objects.using(alias).raw(f'SELECT * FROM "{Thing._meta.db_table}"')[0].name


def batches():
    Thing.objects.bulk_create([thing("batch") for _ in range(300)], batch_size=50)
    rows = list(Thing.objects.filter(name="batch"))
    for row in rows:
        row.tags = ["new"]
    Thing.objects.bulk_update(rows, ["tags"], batch_size=100)
    assert Thing.objects.filter(tags=["new"]).count() == 300
    assert Thing.objects.filter(name="batch").delete()[0] == 300


def copy():
    for alias in ("default", "binding"):
        who = f"{WHO}c{alias}"
        with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
            with cursor.copy("COPY item (who, n) FROM STDIN") as copy:
                for n in range(1000):
                    copy.write_row((who, n))
            with cursor.copy("COPY (SELECT n FROM item WHERE who = %s ORDER BY n) TO STDOUT", (who,)) as copy:
                assert [row[0] for row in copy.rows()] == [str(n) for n in range(1000)]
        # Of the driver's own methods the errors are its own, too.
        with raises(psycopg.errors.InvalidTextRepresentation), transaction.atomic(using=alias):
            with connections[alias].cursor() as cursor, cursor.copy("COPY item (who, n) FROM STDIN") as copy:
                copy.write(b"x\ty\n")


def notifications():
    """Django has none of its own: its users ask the driver."""
    with connection.cursor() as listener, connections["binding"].cursor() as other:
        listener.execute(f'LISTEN "{WHO}"')
        for payload in ("one", "two"):
            other.execute("SELECT pg_notify(%s, %s)", (WHO, payload))
        heard = connection.connection.notifies(timeout=LIMIT, stop_after=2)
        assert [notify.payload for notify in heard] == ["one", "two"]
        listener.execute("UNLISTEN *")


def cancel():
    connection.ensure_connection()
    raw = connection.connection

    def running():
        # Each thread has connections of its own.
        with connection.cursor() as cursor:
            cursor.execute(RUNNING)
            return cursor.fetchone()[0]

    def stop():
        eventually(running)
        raw.cancel_safe()
        connection.close()

    thread = threading.Thread(target=stop)
    thread.start()
    with raises(OperationalError), connection.cursor() as cursor:
        cursor.execute(SLEEP)
    thread.join()
    assert Thing.objects.filter(name="one").count() == 1


def timeouts():
    with raises(OperationalError), connections["pool"].cursor() as cursor:
        cursor.execute("SELECT pg_sleep(60)")
    with connections["pool"].cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("100ms",)


def settings():
    for _ in range(3):
        with connections["pool"].cursor() as cursor:
            cursor.execute("SELECT current_setting('application_name'), current_setting('TimeZone')")
            # With USE_TZ, the connection's time zone is UTC whatever the process shows.
            assert cursor.fetchone() == (WHO, "UTC")


def reconnect():
    with raises(OperationalError), connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        cursor.execute("SELECT 1")
    # As at the end of a request.
    connection.close_if_unusable_or_obsolete()
    assert Thing.objects.filter(name="one").count() == 1


run(types, transactions, prepared, batches, copy, notifications, cancel, timeouts, settings, reconnect)
