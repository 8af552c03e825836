"""What the suites of other drivers have found: each exchange is held against the same one with the database itself."""

from __future__ import annotations

import socket
from collections.abc import Callable

import psycopg
import pytest

from heliosproxy.server.protocol import frontend

from .conftest import Served

STATEMENT = ord("S")
PREPARE = frontend.parse(b"s", b"SELECT 1 AS one") + frontend.describe(STATEMENT, b"s")
FAILING = frontend.parse(b"f", b"SELECT nothing") + frontend.describe(STATEMENT, b"f")
RUN = frontend.bind_nothing(b"s") + frontend.EXECUTE_ALL
COPY = frontend.query(b"COPY copied FROM STDIN")
QUERY = frontend.query(b"SELECT 2 AS two")


class Raw:
    """A client that sends bytes, and reads as far as it is told."""

    def __init__(self, url: str) -> None:
        given = psycopg.conninfo.conninfo_to_dict(url)
        host, port = str(given["host"]), int(str(given["port"]))
        local = host.startswith("/")
        self.sock = socket.socket(socket.AF_UNIX if local else socket.AF_INET)
        self.sock.settimeout(10)
        self.sock.connect(f"{host}/.s.PGSQL.{port}" if local else (host, port))
        names = {b"user": str(given["user"]).encode(), b"database": str(given["dbname"]).encode()}
        self._buffer = b""
        self.sock.sendall(frontend.startup(names))
        self.until(b"Z")

    def until(self, kind: bytes) -> list[bytes]:
        """The messages up to the next one of *kind*; of an error only its code."""
        found: list[bytes] = []
        while not found or found[-1][:1] != kind:
            while len(self._buffer) < 5 or len(self._buffer) < 1 + int.from_bytes(self._buffer[1:5], "big"):
                data = self.sock.recv(4096)
                assert data, f"hung up after {found}"
                self._buffer += data
            size = 1 + int.from_bytes(self._buffer[1:5], "big")
            message, self._buffer = self._buffer[:size], self._buffer[size:]
            if message[:1] == b"E":
                (code,) = (field for field in message[5:].split(b"\0") if field[:1] == b"C")
                message = b"E" + code[1:]
            found.append(message)
        return found


# What is sent, and the kind of message up to which is read before the next is sent.
EXCHANGES: dict[str, list[tuple[bytes, bytes]]] = {
    # asyncpg prepares with Flush, and goes on with whatever is next.
    "a Query behind a Flush": [(PREPARE + frontend.FLUSH, b"T"), (QUERY, b"Z"), (RUN + frontend.SYNC, b"Z")],
    "a Query at once behind a Flush": [(PREPARE + frontend.FLUSH + QUERY, b"Z")],
    "a Query behind no end at all": [(PREPARE + RUN + QUERY, b"Z"), (RUN + frontend.SYNC, b"Z")],
    "a Query behind an error": [
        (FAILING + frontend.FLUSH, b"E"),
        (QUERY + frontend.SYNC, b"Z"),
        (QUERY, b"Z"),
    ],
    "a Query behind an error to come": [
        (FAILING + frontend.FLUSH + QUERY + frontend.SYNC, b"Z"),
        (QUERY, b"Z"),
    ],
    "a Query that fails behind a Flush": [
        (PREPARE + frontend.FLUSH, b"T"),
        (frontend.query(b"SELECT 1 / 0"), b"Z"),
        (RUN + frontend.SYNC, b"Z"),
    ],
    "BEGIN and COMMIT behind a Flush": [
        (PREPARE + frontend.FLUSH, b"T"),
        (frontend.query(b"BEGIN"), b"Z"),
        (RUN + frontend.FLUSH, b"C"),
        (frontend.query(b"COMMIT"), b"Z"),
    ],
    "a Query behind a Flush behind BEGIN": [
        (frontend.query(b"BEGIN"), b"Z"),
        (PREPARE + frontend.FLUSH, b"T"),
        (QUERY, b"Z"),
        (FAILING + frontend.FLUSH + QUERY + frontend.SYNC, b"Z"),
        (frontend.query(b"ROLLBACK"), b"Z"),
    ],
    "COPY behind a Flush": [
        (frontend.query(b"CREATE TEMP TABLE copied (n int)"), b"Z"),
        (PREPARE + frontend.FLUSH, b"T"),
        (COPY, b"G"),
        (frontend.message(b"d", b"1\n") + frontend.message(b"c", b""), b"Z"),
        (frontend.SYNC, b"Z"),
        (COPY + frontend.message(b"d", b"2\n") + frontend.message(b"c", b""), b"Z"),
        (COPY + frontend.message(b"f", b"no more\0"), b"Z"),
        (frontend.query(b"SELECT n + 0 FROM copied"), b"Z"),
    ],
}


@pytest.mark.parametrize("mode", ["session", "transaction"])
@pytest.mark.parametrize("case", EXCHANGES)
def test_an_exchange_is_as_with_the_database_itself(
    served: Callable[..., Served], mode: str, case: str
) -> None:
    server = served(mode)
    ours, theirs = Raw(server.url), Raw(server.dsn)
    with ours.sock, theirs.sock:
        for data, kind in EXCHANGES[case]:
            ours.sock.sendall(data)
            theirs.sock.sendall(data)
            assert ours.until(kind) == theirs.until(kind)


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_database_whose_clients_have_gone_can_be_dropped(served: Callable[..., Served], mode: str) -> None:
    server = served(mode)
    conn = server.connect()
    for name in ("found_one", "found two"):
        conn.execute(f'CREATE DATABASE "{name}"')
        with psycopg.connect(server.url, dbname=name, autocommit=True) as other:
            other.execute("SELECT 1")
    conn.execute('CREATE DATABASE found_three TEMPLATE "found two"')
    conn.execute("ALTER DATABASE found_one RENAME TO found_four")
    for name in ("found two", "found_three", "found_four"):
        conn.execute(f'DROP DATABASE "{name}"')
