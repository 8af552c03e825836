"""The PGconn of a connection that holds no server connection.

psycopg's C code reads the PGconn's own pointer (loaders, dumpers, escaping), so a stand-in in Python will not
do: it must be a real one, with live parameters. So libpq is connected once to ourselves, over a Unix socket in a
private folder that is removed at once: we accept, tell it the ParameterStatus of the pool and
ReadyForQuery, and hang up. libpq notices a closed socket only when it reads, which nobody does.

One serves every connection with equal parameters; three twins differ in the transaction status they report:
idle, in a transaction (BEGIN promised, not sent) and in a failed one.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import tempfile
from typing import TypeAlias
from weakref import WeakValueDictionary

from psycopg import errors as e
from psycopg import pq
from psycopg.conninfo import make_conninfo

Parameters: TypeAlias = tuple[tuple[bytes, bytes], ...]

# Every setting PostgreSQL 18 reports (Protocol, Asynchronous Operations); older servers report fewer.
REPORTED = (
    b"application_name",
    b"client_encoding",
    b"DateStyle",
    b"default_transaction_read_only",
    b"in_hot_standby",
    b"integer_datetimes",
    b"IntervalStyle",
    b"is_superuser",
    b"scram_iterations",
    b"search_path",
    b"server_encoding",
    b"server_version",
    b"session_authorization",
    b"standard_conforming_strings",
    b"TimeZone",
)

IDLE, INTRANS, INERROR = b"I", b"T", b"E"

_STATUS = {
    IDLE: pq.TransactionStatus.IDLE,
    INTRANS: pq.TransactionStatus.INTRANS,
    INERROR: pq.TransactionStatus.INERROR,
}


class Parked:
    """The three twins for one login and set of parameters, each made when first needed.

    Attributes:
        user, database: those of the login.
        parameters: what its server reported, name and value.
        encoding: Python's name of the client encoding among them.
    """

    __slots__ = ("__weakref__", "_twins", "database", "encoding", "parameters", "user")

    def __init__(self, user: bytes, database: bytes, parameters: Parameters) -> None:
        self.user = user
        self.database = database
        self.parameters = parameters
        self._twins: dict[bytes, pq.abc.PGconn] = {}
        self.encoding: str = self.pgconn(IDLE)._encoding

    def pgconn(self, status: bytes) -> pq.abc.PGconn:
        """The twin that reports transaction *status* (I, T or E).

        One that somebody closed or used (``conn.pgconn.finish()``, ``exec_()``) is replaced: it is shared.
        """
        twin = self._twins.get(status)
        if twin is None or twin.transaction_status != _STATUS[status]:
            twin = self._twins[status] = shake_hands(self, status)
        return twin


_known: WeakValueDictionary[tuple[bytes, bytes, Parameters], Parked] = WeakValueDictionary()


def of(pgconn: pq.abc.PGconn) -> Parked:
    """The shared twins for what the server of *pgconn*, a live connection, has reported."""
    status = pgconn.parameter_status
    reported = tuple((name, value) for name in REPORTED if (value := status(name)) is not None)
    key = pgconn.user, pgconn.db, reported
    twins = _known.get(key)
    if twins is None:
        twins = _known.setdefault(key, Parked(*key))
    return twins


def shake_hands(like: Parked, status: bytes) -> pq.abc.PGconn:
    """A PGconn in transaction *status* whose server told what *like* says, and then vanished.

    Raises OperationalError when libpq refuses the handshake, OSError when there is no room for a socket.
    """
    folder = tempfile.mkdtemp(prefix="helios")
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.join(folder, ".s.PGSQL.5432"))
            server.listen(1)
            conninfo = make_conninfo(
                host=folder,
                port=5432,
                user=like.user.decode(errors="replace"),
                dbname=like.database.decode(errors="replace"),
                sslmode="disable",
                gssencmode="disable",
            )
            pgconn = pq.PGconn.connect_start(conninfo.encode())
            polled = pgconn.connect_poll()
            peer, _ = server.accept()
            with peer:
                while polled == pq.PollingStatus.WRITING:
                    polled = pgconn.connect_poll()
                peer.recv(10_000)  # PostgreSQL's own limit of a startup packet
                peer.sendall(_greeting(like.parameters, status))
                while polled == pq.PollingStatus.READING:
                    polled = pgconn.connect_poll()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if polled != pq.PollingStatus.OK:
        raise e.OperationalError(f"libpq refused to be parked: {pgconn.get_error_message()}")
    pgconn.nonblocking = 1
    return pgconn


def closed_pgconn() -> pq.abc.PGconn:
    """A PGconn that is closed for good: what a closed connection holds."""
    pgconn = pq.PGconn.connect_start(b"host=/ port=1 dbname=closed user=closed")
    pgconn.finish()
    return pgconn


def _greeting(parameters: Parameters, status: bytes) -> bytes:
    parts = [_message(b"R", struct.pack("!i", 0))]
    parts += [_message(b"S", name + b"\0" + value + b"\0") for name, value in parameters]
    parts += [_message(b"K", struct.pack("!ii", 0, 0)), _message(b"Z", status)]
    return b"".join(parts)


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body
