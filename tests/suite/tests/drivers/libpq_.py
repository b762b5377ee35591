"""libpq itself, by ctypes: connects with protocol 3.2, cancels a query, and prints what it saw.

Arguments: the library, a connection string, how often to cancel.
"""

import ctypes
import sys

lib = ctypes.CDLL(sys.argv[1])
for name in ("PQconnectdb", "PQgetResult", "PQcancelCreate"):
    getattr(lib, name).restype = ctypes.c_void_p
for name in ("PQerrorMessage", "PQresultErrorField", "PQgetvalue", "PQcancelErrorMessage"):
    getattr(lib, name).restype = ctypes.c_char_p
FATAL_ERROR, SQLSTATE = 7, ord("C")


def result(conn):
    last = None
    while True:
        found = lib.PQgetResult(conn)
        if not found:
            return last
        last = ctypes.c_void_p(found)


conn = ctypes.c_void_p(lib.PQconnectdb(sys.argv[2].encode()))
assert lib.PQstatus(conn) == 0, lib.PQerrorMessage(conn)
print("protocol", lib.PQfullProtocolVersion(conn))
for _ in range(int(sys.argv[3])):
    assert lib.PQsendQuery(conn, b"SELECT pg_sleep(600)") == 1
    # A cancel that comes before the query does nothing.
    while lib.PQisBusy(conn):
        cancel = ctypes.c_void_p(lib.PQcancelCreate(conn))
        assert lib.PQcancelBlocking(cancel) == 1, lib.PQcancelErrorMessage(cancel)
        lib.PQcancelFinish(cancel)
        assert lib.PQconsumeInput(conn) == 1, lib.PQerrorMessage(conn)
    ended = result(conn)
    assert lib.PQresultStatus(ended) == FATAL_ERROR
    print("cancelled", lib.PQresultErrorField(ended, SQLSTATE).decode())
lib.PQfinish(conn)
