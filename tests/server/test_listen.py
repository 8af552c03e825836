"""LISTEN in transaction mode: by one connection for all, and as PostgreSQL has it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import generators, pq, waiting

from heliosproxy.embedded import Cluster
from tests.server.conftest import Served
from tests.server.hearing import OURS, Conn, heard, silent, until


def test_fifty_listen_with_one_server_connection(one_server: Served) -> None:
    clients = [one_server.connect() for _ in range(50)]
    for number, client in enumerate(clients):
        client.execute("LISTEN everybody")
        client.execute(f"LISTEN mine_{number}")
    sender = one_server.connect()
    sender.execute("NOTIFY everybody, 'all'")
    for number in range(50):
        sender.execute(f"NOTIFY mine_{number}, '{number}'")
    for number, client in enumerate(clients):
        assert heard(client, 2) == [("everybody", "all"), (f"mine_{number}", str(number))]
    assert one_server.pool["pool_size"] == 1
    assert one_server.settles(0)


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_listen_holds_no_server_connection(served: Callable[..., Served], mode: str) -> None:
    server = served(mode, helios_server_connections=1)
    conn = server.connect()
    assert conn.execute("LISTEN a").statusmessage == "LISTEN"
    assert server.settles(0)
    server.direct().execute("NOTIFY a, 'x'")
    assert heard(conn) == [("a", "x")]


@pytest.mark.parametrize("prepare", [None, True])
def test_listen_by_the_extended_protocol(one_server: Served, direct: Conn, prepare: bool | None) -> None:
    conn = one_server.connect()
    for _ in range(3):
        conn.execute("LISTEN a", binary=True, prepare=prepare)
    assert one_server.settles(0)
    direct.execute("NOTIFY a, 'x'")
    direct.execute("NOTIFY a, 'y'")
    assert heard(conn, 2) == [("a", "x"), ("a", "y")]
    conn.execute("UNLISTEN a", binary=True, prepare=prepare)
    direct.execute("NOTIFY a")
    assert silent(one_server, conn)


def test_listen_in_a_batch_without_sync_still_pins(one_server: Served, direct: Conn) -> None:
    conn = one_server.connect()
    with conn.pipeline():
        conn.execute("LISTEN a")
        conn.execute("SELECT 1")
    direct.execute("NOTIFY a, 'x'")
    assert heard(conn) == [("a", "x")]


def test_what_notify_says_after_listen_is_heard(one_server: Served, direct: Conn) -> None:
    for number in range(20):
        conn = one_server.connect()
        conn.execute(f"LISTEN race_{number}")
        direct.execute(f"NOTIFY race_{number}")
        assert heard(conn) == [(f"race_{number}", "")]


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
@pytest.mark.parametrize("first", ["", "SELECT 1"])
def test_listen_takes_effect_at_commit(one_server: Served, direct: Conn, end: str, first: str) -> None:
    conn = one_server.connect()
    conn.execute("BEGIN")
    if first:
        conn.execute(first)
    conn.execute("LISTEN a")
    conn.execute(end)
    direct.execute("NOTIFY a, 'x'")
    if end == "COMMIT":
        assert heard(conn) == [("a", "x")]
    else:
        assert silent(one_server, conn)
    assert one_server.settles(0)


def test_rollback_to_a_savepoint_undoes_listen_and_unlisten(one_server: Served, direct: Conn) -> None:
    conn = one_server.connect()
    conn.execute("LISTEN kept")
    conn.execute("BEGIN; SAVEPOINT before")
    conn.execute("LISTEN a")
    conn.execute("UNLISTEN kept")
    conn.execute("ROLLBACK TO before")
    conn.execute("LISTEN b")
    conn.execute("RELEASE before")
    conn.execute("COMMIT")
    for channel in ("a", "b", "kept"):
        direct.execute(f"NOTIFY {channel}")
    assert heard(conn, 2) == [("b", ""), ("kept", "")]


def test_a_savepoint_before_the_first_listen_of_all(one_server: Served, direct: Conn) -> None:
    conn = one_server.connect()
    conn.execute("BEGIN")
    conn.execute("SAVEPOINT before")
    conn.execute("LISTEN a")
    conn.execute("ROLLBACK TO before")
    conn.execute("COMMIT")
    direct.execute("NOTIFY a")
    assert silent(one_server, conn)


def test_listen_in_a_failed_transaction_fails(one_server: Served) -> None:
    conn = one_server.connect(autocommit=False)
    with pytest.raises(psycopg.errors.DivisionByZero):
        conn.execute("SELECT 1/0")
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        conn.execute("LISTEN a")
    conn.rollback()


def test_a_commit_that_fails_does_not_listen(one_server: Served, direct: Conn) -> None:
    direct.execute("DROP TABLE IF EXISTS late")
    direct.execute("CREATE TABLE late (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    conn = one_server.connect()
    conn.execute("BEGIN")
    conn.execute("LISTEN a")
    conn.execute("INSERT INTO late VALUES (1), (1)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        conn.execute("COMMIT")
    direct.execute("NOTIFY a")
    assert silent(one_server, conn)


def test_a_transaction_that_listens_cannot_be_prepared(one_server: Served) -> None:
    conn = one_server.connect()
    conn.execute("BEGIN")
    conn.execute("LISTEN a")
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="executed LISTEN"):
        conn.execute("PREPARE TRANSACTION 'x'")
    conn.execute("ROLLBACK")


@pytest.mark.parametrize("end", ["UNLISTEN a", "UNLISTEN *", "DISCARD ALL", "BEGIN; UNLISTEN a; COMMIT"])
def test_what_is_unlistened_is_not_heard(one_server: Served, direct: Conn, end: str) -> None:
    conn, other = one_server.connect(), one_server.connect()
    conn.execute("LISTEN a")
    other.execute("LISTEN a")
    conn.execute(end)
    direct.execute("NOTIFY a")
    assert heard(other) == [("a", "")]
    assert silent(one_server, conn)
    assert one_server.settles(0)


NAMES = {
    "Folded": "folded",
    '"Not Folded"': "Not Folded",
    '"with ""quotes"""': 'with "quotes"',
    "größe": "größe",
}


@pytest.mark.parametrize("written", NAMES)
def test_names_of_channels(one_server: Served, direct: Conn, written: str) -> None:
    conn = one_server.connect()
    conn.execute(f"LISTEN {written}")
    direct.execute("SELECT pg_notify(%s, 'grün')", (NAMES[written],))
    assert heard(conn) == [(NAMES[written], "grün")]
    conn.execute(f"UNLISTEN {written}")
    direct.execute("SELECT pg_notify(%s, '')", (NAMES[written],))
    assert silent(one_server, conn)


def test_a_name_that_is_too_long_is_cut_by_the_server(one_server: Served, direct: Conn) -> None:
    conn = one_server.connect()
    told: list[Any] = []
    conn.add_notice_handler(lambda diag: told.append(diag.sqlstate))
    conn.execute(f"LISTEN {'x' * 80}")
    direct.execute(f"NOTIFY {'x' * 63}")
    assert heard(conn) == [("x" * 63, "")]
    assert told == ["42622"]


def test_listen_among_others_pins_and_is_heard_once(one_server: Served, direct: Conn) -> None:
    conn = one_server.connect()
    conn.execute("LISTEN a")
    conn.execute("LISTEN a; LISTEN b; SELECT 1")
    for channel in ("a", "b"):
        direct.execute(f"NOTIFY {channel}")
    assert sorted(heard(conn, 2)) == [("a", ""), ("b", "")]
    conn.execute("UNLISTEN *")
    assert one_server.settles(0)
    for channel in ("a", "b"):
        direct.execute(f"NOTIFY {channel}")
    assert silent(one_server, conn)


def test_session_mode_does_as_ever(served: Callable[..., Served]) -> None:
    server = served("session")
    conn = server.connect()
    conn.execute("LISTEN a")
    conn.execute("NOTIFY a, 'x'")
    (notify,) = conn.notifies(timeout=10, stop_after=1)
    assert notify.pid == conn.info.backend_pid
    row = (
        server.direct()
        .execute("SELECT count(*) FROM pg_stat_activity WHERE query = 'LISTEN \"a\"'")
        .fetchone()
    )
    assert row == (0,)


def test_the_connection_is_closed_when_nobody_listens(one_server: Served, direct: Conn) -> None:
    first, second = one_server.connect(), one_server.connect()
    first.execute("LISTEN helios_a")
    second.execute("LISTEN helios_b")
    until(direct, OURS, 1)
    first.execute("UNLISTEN *")
    second.close()
    until(direct, OURS, 0)
    first.execute("LISTEN helios_a")
    direct.execute("NOTIFY helios_a")
    assert heard(first) == [("helios_a", "")]


def test_without_a_listening_connection_listen_pins(one_server: Served, direct: Conn) -> None:
    async def refused() -> Any:
        raise psycopg.OperationalError("sorry, too many clients already")

    conn, other = one_server.connect(), one_server.connect()
    (home,) = one_server.serving._service.homes.values()
    home.listener._connect = refused
    conn.execute("LISTEN a")
    assert one_server.settles(1)
    direct.execute("NOTIFY a, 'x'")
    assert heard(conn) == [("a", "x")]
    conn.execute("UNLISTEN *")
    assert other.execute("SELECT 1").fetchone() == (1,)


def test_a_standby_says_itself_that_it_cannot_listen(
    replicated_cluster: Cluster,
) -> None:
    server = Served(
        replicated_cluster.replicas[0].dsn, helios_mode="transaction", helios_server_connections=1
    )
    conn = server.connect()
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction, match="LISTEN"):
        conn.execute("LISTEN a")
    assert conn.execute("SELECT 1").fetchone() == (1,)
    conn.execute("BEGIN")
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction, match="LISTEN"):
        conn.execute("LISTEN a")
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        conn.execute("SELECT 1")
    conn.execute("ROLLBACK")
    server.close()


def test_a_client_that_goes_while_it_waits_leaves_nothing(one_server: Served, direct: Conn) -> None:
    for _ in range(20):
        conn = one_server.connect()
        conn.pgconn.send_query(b"LISTEN helios_gone")
        conn.pgconn.flush()
        conn.pgconn.finish()
    until(direct, OURS, 0)
    assert one_server.connect().execute("SELECT 1").fetchone() == (1,)


def test_a_transaction_that_is_lost_while_its_listen_waits(one_server: Served, direct: Conn) -> None:
    conn = one_server.connect(autocommit=False)
    row = conn.execute("SELECT pg_backend_pid()").fetchone()
    (home,) = one_server.serving._service.homes.values()
    connect, gate = home.listener._connect, threading.Event()

    async def late() -> Any:
        while not gate.is_set():
            await asyncio.sleep(0.001)
        return await connect()

    home.listener._connect = late
    conn.pgconn.send_query(b"LISTEN a")
    conn.pgconn.flush()
    direct.execute("SELECT pg_terminate_backend(%s, 10000)", row)
    assert one_server.settles(0)
    gate.set()
    (result,) = waiting.wait(generators.execute(conn.pgconn), conn.pgconn.socket)
    assert result.error_field(pq.DiagnosticField.SQLSTATE) == b"25P02"
    conn.rollback()
    direct.execute("NOTIFY a")
    conn.autocommit = True
    assert silent(one_server, conn)


def test_the_status_is_that_of_the_transaction(one_server: Served) -> None:
    conn = one_server.connect()
    conn.execute("BEGIN")
    conn.execute("LISTEN a")
    assert conn.info.transaction_status is pq.TransactionStatus.INTRANS
    conn.execute("COMMIT")
    assert conn.info.transaction_status is pq.TransactionStatus.IDLE
