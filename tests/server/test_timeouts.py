"""Who takes too long: idle clients, idle transactions, statements, logins; and nobody else."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from heliosproxy.server.client import timed
from heliosproxy.server.protocol import frontend
from tests.server.conftest import Served
from tests.server.test_pooling import login, raw

Serve = Callable[..., Served]
WHOLE = frontend.bind_nothing() + frontend.EXECUTE_ALL


@pytest.fixture
def limited(served: Serve) -> Serve:
    """A server with these keys of ``[server]``, and one server connection."""

    def make(mode: str = "transaction", **keys: Any) -> Served:
        return served(mode, sections={"server": keys}, helios_server_connections=1, helios_pool_timeout=10)

    return make


def last_words(sock: socket.socket) -> bytes:
    """What comes until the server hangs up."""
    said = b""
    while data := sock.recv(4096):
        said += data
    return said


def time_passes(server: Served, seconds: float) -> None:
    """By the database's clock."""
    server.direct().execute("SELECT pg_sleep(%s)", (seconds,))


def test_the_log_says_whose_time_was_over(limited: Serve, caplog: pytest.LogCaptureFixture) -> None:
    server = limited(idle_timeout=0.05)
    with caplog.at_level("INFO", "heliosproxy.server"), pytest.raises(psycopg.OperationalError):
        conn = server.connect(autocommit=True)
        for _ in conn.notifies(timeout=10):
            pass
    (said,) = [record.getMessage() for record in caplog.records if "timeout" in record.getMessage()]
    assert f"user {conn.info.user!r}, database {conn.info.dbname!r}: idle-session timeout" in said


def test_a_login_takes_as_long_as_login_timeout(limited: Serve) -> None:
    server = limited(login_timeout="50ms")
    with raw(server) as sock:
        assert b"canceling authentication due to timeout" in last_words(sock)


def test_without_time_outs_nobody_is_looked_at(served: Serve) -> None:
    server = served()
    server.connect()
    (link,) = server.serving._service.links.values()
    assert not isinstance(link, timed.TimedLink)
    assert server.serving._service.timeouts._timer is None


# -- idle --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_an_idle_client_is_hung_up_on(limited: Serve, mode: str) -> None:
    server = limited(mode, idle_timeout=0.2)
    with login(server) as sock:
        said = last_words(sock)
    assert b"VFATAL\0C57P05\0" in said
    assert b"terminating connection due to idle-session timeout" in said
    assert server.settles(0)
    assert server.connect().execute("SELECT 1").fetchone() == (1,)


def test_who_is_busy_or_in_a_transaction_is_not_idle(limited: Serve) -> None:
    server = limited(idle_timeout=0.2)
    conn = server.connect()
    conn.execute("SELECT pg_sleep(0.6)")
    conn.execute("BEGIN")
    conn.execute("SELECT 1")
    time_passes(server, 0.6)
    conn.execute("COMMIT")


def test_who_waits_for_a_server_connection_is_not_idle(limited: Serve) -> None:
    server = limited(idle_timeout=0.2, idle_transaction_timeout=60)
    holder, waiter = server.connect(autocommit=False), server.connect()
    holder.execute("SELECT 1")
    thread = threading.Thread(target=waiter.execute, args=("SELECT 2",))
    thread.start()
    time_passes(server, 0.6)
    holder.rollback()
    thread.join()
    assert waiter.execute("SELECT 3").fetchone() == (3,)


def test_who_asks_from_time_to_time_is_not_idle(limited: Serve) -> None:
    server = limited(idle_timeout=1)
    conn = server.connect()
    for _ in range(8):
        time_passes(server, 0.2)
        conn.execute("SELECT 1")


# -- idle in transaction -----------------------------------------------------------------------------------------


def test_an_idle_transaction_is_rolled_back_and_its_client_hung_up_on(limited: Serve) -> None:
    server = limited(idle_transaction_timeout=0.2)
    direct = server.direct()
    direct.execute("DROP TABLE IF EXISTS left_open; CREATE TABLE left_open (n int)")
    with login(server) as sock:
        sock.sendall(frontend.query(b"BEGIN") + frontend.query(b"INSERT INTO left_open VALUES (1)"))
        said = last_words(sock)
    assert b"INSERT 0 1" in said
    assert b"VFATAL\0C25P03\0" in said
    assert b"terminating connection due to idle-in-transaction timeout" in said
    assert server.settles(0)
    other = server.connect()
    assert other.execute("SELECT count(*) FROM left_open").fetchone() == (0,)
    assert server.pool["pool_size"] == 1  # the same one, clean


@pytest.mark.parametrize(
    "begun",
    [
        frontend.query(b"BEGIN"),
        frontend.query(b"BEGIN") + frontend.query(b"SELECT nonsense"),
        frontend.parse(b"", b"SELECT 1") + WHOLE + frontend.FLUSH,
        frontend.parse(b"", b"SELECT nonsense") + WHOLE + frontend.FLUSH,
        frontend.parse(b"", b"SELECT 1") + WHOLE,
    ],
    ids=["promised", "failed", "a batch without Sync", "a failed batch without Sync", "not even a Flush"],
)
def test_every_kind_of_open_transaction_has_its_end(limited: Serve, begun: bytes) -> None:
    server = limited(idle_transaction_timeout=0.2)
    with login(server) as sock:
        sock.sendall(begun)
        assert b"C25P03\0" in last_words(sock)
    assert server.settles(0)
    assert server.connect().execute("SELECT 1").fetchone() == (1,)


def test_who_is_idle_without_a_transaction_stays(limited: Serve) -> None:
    server = limited(idle_transaction_timeout=0.2)
    conn = server.connect()
    conn.execute("SELECT 1")
    time_passes(server, 0.6)
    assert conn.execute("SELECT 2").fetchone() == (2,)
    conn.execute("BEGIN")
    conn.execute("SELECT pg_sleep(0.6)")  # busy
    conn.execute("COMMIT")


# -- statements --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["simple", "extended", "mixed"])
def test_a_statement_that_takes_too_long_is_cancelled(limited: Serve, case: str) -> None:
    server = limited(query_timeout=0.2)
    conn = server.connect()
    statement = "SELECT 1; SELECT pg_sleep(60)" if case == "mixed" else "SELECT pg_sleep(60)"
    for _ in range(2):
        with pytest.raises(psycopg.errors.QueryCanceled, match="query_timeout of the proxy"):
            if case == "extended":
                conn.execute(statement, prepare=True)
            else:
                conn.execute(statement)
        assert conn.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(psycopg.errors.InFailedSqlTransaction), conn.transaction():
        with pytest.raises(psycopg.errors.QueryCanceled):
            conn.execute(statement)
        conn.execute("SELECT 1")
    assert conn.execute("SELECT 1").fetchone() == (1,)


def test_an_endless_answer_is_cancelled(limited: Serve) -> None:
    conn = limited(query_timeout=0.2).connect()
    with pytest.raises(psycopg.errors.QueryCanceled), conn.cursor() as cursor:
        for _ in cursor.stream("SELECT generate_series(1, 1000000000)"):
            pass


def test_a_pipeline_is_cancelled(limited: Serve) -> None:
    conn = limited(query_timeout=0.2).connect()
    with pytest.raises(psycopg.errors.QueryCanceled), conn.pipeline():
        conn.execute("SELECT 1")
        conn.execute("SELECT pg_sleep(60)")
    assert conn.execute("SELECT 1").fetchone() == (1,)


def test_who_does_not_read_its_answer_keeps_its_server_no_longer_than_that(
    limited: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timed, "GRACE", 0.2)
    server = limited(query_timeout=0.3)
    with login(server) as sock:
        sock.sendall(frontend.query(b"SELECT repeat('x', 1000) FROM generate_series(1, 1000000)"))
        assert sock.recv(1) == b"T"
        assert server.settles(0)
        assert server.connect().execute("SELECT 1").fetchone() == (1,)


def test_many_statements_that_are_quick_take_as_long_as_they_like(limited: Serve) -> None:
    server = limited(query_timeout=1)
    conn = server.connect()
    for _ in range(8):
        conn.execute("SELECT pg_sleep(0.2)")
    with conn.transaction():
        conn.execute("SELECT 1")
        time_passes(server, 1.5)  # no statement runs
        conn.execute("SELECT 2")


def test_the_servers_own_time_out_keeps_its_words(limited: Serve) -> None:
    conn = limited(query_timeout=30).connect()
    conn.execute("SET statement_timeout = 50")
    with pytest.raises(psycopg.errors.QueryCanceled, match="due to statement timeout"):
        conn.execute("SELECT pg_sleep(60)")


def test_a_server_that_does_not_answer_a_cancel_request_is_given_up(
    limited: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timed, "GRACE", 0.2)
    server = limited(query_timeout=0.3)
    conn = server.connect()
    (pid,) = conn.execute("SELECT pg_backend_pid()").fetchone()  # type: ignore[misc]
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(psycopg.errors.QueryCanceled, match="did not answer a cancel request"):
            conn.execute("SELECT 1")
        row = conn.execute("SELECT pg_backend_pid()").fetchone()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert row is not None
    assert row[0] != pid
