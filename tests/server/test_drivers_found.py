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
        (key,) = (message for message in self.until(b"Z") if message[:1] == b"K")
        self.cancel = frontend.cancel_request(int.from_bytes(key[5:9], "big"), key[9:])

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


def bound(name: bytes) -> bytes:
    return frontend.bind_nothing(name) + frontend.EXECUTE_ALL + frontend.SYNC


STALE: dict[str, tuple[bytes, bool]] = {
    "another type": (b"ALTER TABLE told ALTER b TYPE text", True),
    "one column more": (b"ALTER TABLE told ADD c int", True),
    "nothing of it": (b"CREATE INDEX ON told (a)", False),
    "made anew": (b"DROP TABLE told; CREATE TABLE told (a int, b int)", False),
    "gone": (b"DROP TABLE told", True),
}


@pytest.mark.parametrize("where", ["alone", "in a transaction", "in the same transaction"])
@pytest.mark.parametrize("case", STALE)
def test_columns_that_a_driver_was_told_hold_or_it_gets_an_error(
    one_server: Served, case: str, where: str
) -> None:
    """As with the database itself, also on a server connection that prepares the statement only afterwards."""
    ddl, fails = STALE[case]
    create = b"DROP TABLE IF EXISTS told; CREATE TABLE told (a int, b int); INSERT INTO told VALUES (1, 2)"
    prepare = frontend.parse(b"t", b"SELECT * FROM told") + frontend.describe(STATEMENT, b"t")
    answers = []
    for url in (one_server.dsn, one_server.url):
        client, other = Raw(url), Raw(url)
        with client.sock, other.sock:
            for each, data in ((other, frontend.query(create)), (client, prepare + frontend.SYNC)):
                each.sock.sendall(data)
                each.until(b"Z")
            found = []
            sent = [bound(b"t"), bound(b"t"), frontend.query(b"SELECT 1")]
            if where == "in the same transaction":
                sent = [frontend.query(ddl), *sent]
            else:
                other.sock.sendall(frontend.query(ddl))
                other.until(b"Z")
            if where != "alone":
                sent = [frontend.query(b"BEGIN"), *sent, frontend.query(b"ROLLBACK")]
            sent += [frontend.close(STATEMENT, b"t") + prepare + bound(b"t")]
            for data in sent:
                client.sock.sendall(data)
                # A table's number is another with each.
                found.append([message for message in client.until(b"Z") if message[:1] != b"T"])
            answers.append(found)
    theirs, ours = answers
    assert ours == theirs
    assert any(message[:1] == b"E" for reply in ours for message in reply) is fails


def test_another_client_that_prepares_after_the_ddl_is_spared(one_server: Served) -> None:
    with one_server.connect() as conn:
        conn.execute(
            "DROP TABLE IF EXISTS spared; CREATE TABLE spared (a int); INSERT INTO spared VALUES (1)"
        )
    prepare = (
        frontend.parse(b"s", b"SELECT * FROM spared") + frontend.describe(STATEMENT, b"s") + frontend.SYNC
    )
    old, new = Raw(one_server.url), Raw(one_server.url)
    with old.sock, new.sock:
        old.sock.sendall(prepare)
        old.until(b"Z")
        new.sock.sendall(frontend.query(b"ALTER TABLE spared ADD b int"))
        new.until(b"Z")
        new.sock.sendall(prepare + bound(b"s"))
        assert any(message[:1] == b"T" for message in new.until(b"Z"))
        assert any(message[:1] == b"D" for message in new.until(b"Z"))
        old.sock.sendall(bound(b"s"))
        assert b"E0A000" in old.until(b"Z")


@pytest.mark.parametrize("described", ["before", "behind the DDL"])
def test_ddl_in_the_clients_own_transaction(served: Callable[..., Served], described: str) -> None:
    """On another server connection than the one that has described the statement."""
    server = served("transaction", helios_server_connections=2)
    holder = server.connect(autocommit=False)
    with server.connect() as conn:
        conn.execute("DROP TABLE IF EXISTS owned; CREATE TABLE owned (a int); INSERT INTO owned VALUES (1)")
    prepare = (
        frontend.parse(b"s", b"SELECT * FROM owned") + frontend.describe(STATEMENT, b"s") + frontend.SYNC
    )
    client = Raw(server.url)
    with client.sock:
        begin = [frontend.query(b"BEGIN"), frontend.query(b"ALTER TABLE owned ADD b int")]
        if described == "before":
            sent = [prepare, *begin, bound(b"s"), frontend.query(b"ROLLBACK")]
        else:
            sent = [*begin, prepare, frontend.query(b"ROLLBACK"), bound(b"s")]
        for number, data in enumerate(sent):
            if data == sent[-1] or number == 1:
                holder.execute("SELECT 1")  # the connection that was used before: last in, first out
                holder.commit() if data == sent[-1] else None
            client.sock.sendall(data)
            answer = client.until(b"Z")
            if data == bound(b"s"):
                assert b"E0A000" in answer


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_who_waits_for_its_cancel_request_may_go_on(served: Callable[..., Served], mode: str) -> None:
    """The proxy hangs up when the request is delivered, as PostgreSQL does: none hits the statement after it."""
    server = served(mode, helios_server_connections=1)
    client = Raw(server.url)
    with client.sock:
        for _ in range(40):
            client.sock.sendall(QUERY)
            with socket.socket(client.sock.family) as request:
                request.settimeout(10)
                request.connect(client.sock.getpeername())
                request.sendall(client.cancel)
                client.until(b"Z")
                assert request.recv(1) == b""
            client.sock.sendall(frontend.query(b"SELECT pg_sleep(0.01)"))
            assert not [message for message in client.until(b"Z") if message[:1] == b"E"]


def test_deallocate_all_behind_ddl_in_the_same_transaction_prepares_anew(one_server: Served) -> None:
    """psycopg sends it after every DROP and ALTER: its statements may be about what is no more."""
    conn = one_server.connect(autocommit=False, prepare_threshold=0)
    for _ in range(2):
        conn.execute("CREATE TYPE found_mood AS ENUM ('good')")
        conn.execute("CREATE TABLE found_days (mood found_mood)")
        conn.execute("INSERT INTO found_days VALUES (%s::found_mood)", ("good",))
        conn.execute("DROP TABLE found_days")
        conn.execute("DROP TYPE found_mood")
