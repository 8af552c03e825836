"""Whatever a client sends, it gets a PostgreSQL error or a closed socket, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Callable, Iterator

import pytest

from heliosproxy.server.protocol import frontend
from tests.server.conftest import Served
from tests.server.test_pooling import login, raw

PARAMETER = frontend.message(b"B", b"\0s\0" + b"\0\0" + b"\0\1" + b"\0\0\0\1" + b"7" + b"\0\0")
MESSAGES = [
    frontend.query(b"SELECT 1"),
    frontend.query(b"BEGIN"),
    frontend.query(b"COMMIT"),
    frontend.query(b"ROLLBACK"),
    frontend.query(b"SELECT 1/0; SELECT 2"),
    frontend.query(b"SET work_mem TO '5MB'"),
    frontend.query(b"RESET ALL"),
    frontend.query(b"COPY fuzzed FROM STDIN"),
    frontend.query(b"COPY (SELECT generate_series(1, 500)) TO STDOUT"),
    frontend.query(b"SELECT repeat('x', 50) FROM generate_series(1, 300)"),
    frontend.query(b""),
    frontend.query(b"DISCARD ALL"),
    frontend.parse(b"", b"SELECT 1"),
    frontend.parse(b"s", b"SELECT $1::int"),
    frontend.parse(b"t", b"SELECT nothing"),
    frontend.bind_nothing(),
    frontend.bind_nothing(b"t"),
    PARAMETER,
    frontend.describe(ord("S"), b"s"),
    frontend.describe(ord("P"), b""),
    frontend.EXECUTE_ALL,
    frontend.message(b"E", b"\0\0\0\0\1"),
    frontend.close(ord("S"), b"s"),
    frontend.close(ord("P"), b""),
    frontend.SYNC,
    frontend.FLUSH,
    frontend.message(b"d", b"1\n"),
    frontend.message(b"d", b"x" * 3000),
    frontend.message(b"c", b""),
    frontend.copy_fail(b"enough"),
    frontend.message(b"F", b"\0\0\0\1\0\0\0\0\0\0"),
    frontend.password(b"x\0"),
]
SEEDS = range(60)


def stream(chance: random.Random) -> bytes:
    """Messages in any order; in half of the cases a few bytes are changed, lost or added."""
    data = bytearray(b"".join(chance.choices(MESSAGES, k=chance.randint(1, 25))))
    if chance.random() < 0.5:
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(data))
            kind = chance.random()
            if kind < 0.5:
                data[place] = chance.randrange(256)
            elif kind < 0.75:
                del data[place : place + chance.randint(1, 5)]
            else:
                data[place:place] = chance.randbytes(chance.randint(1, 5))
            if not data:
                break
    return bytes(data)


def play(sock: socket.socket, data: bytes, chance: random.Random) -> None:
    """Send *data* in pieces; then hang up, at once or after reading what there is."""
    sock.settimeout(0.05)
    with contextlib.suppress(ConnectionError, TimeoutError):
        at = 0
        while at < len(data):
            step = chance.choice([1, 7, 100, 5000])
            sock.sendall(data[at : at + step])
            at += step
            if chance.random() < 0.2:
                sock.recv(65536)
        if chance.random() < 0.7:
            sock.sendall(frontend.SYNC + frontend.TERMINATE)
            while sock.recv(65536):
                pass


@pytest.fixture(scope="module")
def table(dsn: str) -> Iterator[str]:
    import psycopg

    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("CREATE TABLE fuzzed (n int)")
    return "fuzzed"


@pytest.mark.parametrize("mode", ["session", "transaction", "statement"])
def test_any_bytes_leave_nothing_behind(
    served: Callable[..., Served], table: str, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = served(mode, helios_server_connections=3, helios_cache=True)
    for seed in SEEDS:
        chance = random.Random(seed)
        with login(server) as sock:
            play(sock, stream(chance), chance)
    assert server.settles(0)
    conn = server.connect()
    for number in range(6):
        assert conn.execute("SELECT %s::int, current_setting('work_mem')", (number,)).fetchone() == (
            number,
            "4MB",
        )
    failures = [record for record in caplog.records if record.exc_info]
    assert not failures, failures[0].getMessage()


def test_any_bytes_before_the_login(served: Callable[..., Served], caplog: pytest.LogCaptureFixture) -> None:
    server = served()
    start = frontend.startup({b"user": b"x", b"database": b"y"})
    for seed in SEEDS:
        chance = random.Random(seed)
        data = bytearray(
            chance.choice([start, frontend.ssl_request() + start, frontend.cancel_request(7, b"key!")])
        )
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        with raw(server) as sock:
            play(sock, bytes(data), chance)
    assert server.connect().execute("SELECT 1").fetchone() == (1,)
    failures = [record for record in caplog.records if record.exc_info]
    assert not failures, failures[0].getMessage()
