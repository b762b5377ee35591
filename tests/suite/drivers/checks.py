"""What the suites in Python share: who they are, and how they say what they checked."""

import contextlib
import datetime
import decimal
import os
import threading
import time
import uuid

# Of this process alone: rows and channels are told apart by it.
WHO = os.environ["WHO"]
LIMIT = 30.0


def run(*checks):
    """Runs each, and says its name."""
    for check in checks:
        check()
        print("ok", check.__name__, flush=True)


@contextlib.contextmanager
def raises(*kinds):
    try:
        yield
    except kinds:
        return
    raise AssertionError(f"none of {kinds}")


def eventually(condition):
    """Waits for a condition, and gives what it gave."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        threading.Event().wait(0.01)
    raise AssertionError("it did not come to pass")


# Values that come back as they went, as these types.
VALUES = [
    (2**40, "int8"),
    (decimal.Decimal("12345.678900"), "numeric"),
    (1.5, "float8"),
    (True, "bool"),
    ("Ünïcode 🐘", "text"),
    (b"\x00\xff", "bytea"),
    (datetime.date(2020, 1, 2), "date"),
    (datetime.datetime(2020, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.timezone.utc), "timestamptz"),
    (datetime.timedelta(days=1, seconds=2), "interval"),
    (uuid.UUID(int=7), "uuid"),
    ([1, None, 3], "int[]"),
    (None, "text"),
]

# What a statement that is to be cancelled looks like, and whether it runs.
SLEEP = f"SELECT pg_sleep(60) /* {WHO} */"
RUNNING = (
    "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' "
    f"AND query LIKE 'SELECT pg_sleep(60) /* {WHO}%' AND pid <> pg_backend_pid()"
)
