"""How a logical connection is opened: options, passwords, limits, psycopg_pool; and that closing leaves nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool, ConnectionPool

import heliosproxy
from heliosproxy.embedded import Cluster

PID = "SELECT pg_backend_pid()"


def keyword_form(dsn: str) -> str:
    return make_conninfo("", **conninfo_to_dict(dsn))


@pytest.fixture
def shut_down() -> Iterator[None]:
    """No implicit Proxy outlives its test."""
    yield
    heliosproxy.shutdown()


@pytest.mark.usefixtures("shut_down")
class TestOptions:
    def test_in_a_key_value_string(self, face: Any, dsn: str) -> None:
        given = keyword_form(dsn)
        with face.connect(f"{given} helios_mode=transaction helios_server_connections='1'") as conn:
            assert conn._home.pool.closed is False
            assert conn._home.proxy.config.pool.mode == "transaction"
            assert conn._home.proxy.config.pool.server_connections == 1

    def test_in_a_uri(self, face: Any, dsn: str) -> None:
        parts = conninfo_to_dict(dsn)
        uri = f"postgresql://{parts['user']}@{parts['host']}:{parts['port']}/{parts['dbname']}"
        with face.connect(f"{uri}?helios_mode=statement&application_name=a%20b") as conn:
            assert conn.autocommit
            assert conn.execute("SHOW application_name").fetchone() == ("a b",)

    def test_as_keywords_they_beat_the_string(self, face: Any, dsn: str) -> None:
        with face.connect(f"{keyword_form(dsn)} helios_mode=statement", helios_mode="transaction") as conn:
            assert conn._home.proxy.config.pool.mode == "transaction"

    def test_unknown_ones_are_refused_with_a_suggestion(self, face: Any, dsn: str) -> None:
        with pytest.raises(heliosproxy.ConfigError, match="helios_mode"):
            face.connect(dsn, helios_mod="transaction")

    def test_equal_ones_share_a_proxy(self, face: Any, dsn: str) -> None:
        with (
            face.connect(dsn, helios_mode="transaction") as one,
            face.connect(dsn, helios_mode="transaction") as two,
        ):
            assert one._home is two._home

    def test_shutdown_closes_what_is_idle_and_connect_begins_anew(self, face: Any, dsn: str) -> None:
        with face.connect(dsn, autocommit=True, helios_mode="transaction") as conn:
            pid = conn.execute(PID).fetchone()
        heliosproxy.shutdown()
        with face.connect(dsn, autocommit=True, helios_mode="transaction") as conn:
            assert conn.execute(PID).fetchone() != pid


def test_one_connection_too_many_is_refused_and_closing_one_makes_room(room: Any) -> None:
    here = room("transaction", helios_max_connections=2)
    first = here.connect()
    here.connect()
    with pytest.raises(heliosproxy.TooManyRequests, match="max_connections is 2"):
        here.connect()
    first.close()
    first.close()
    here.connect()
    with pytest.raises(heliosproxy.TooManyRequests):
        here.connect()


def test_who_waits_in_vain_for_a_server_connection_is_told_why(room: Any) -> None:
    here = room("transaction", helios_server_connections=1, helios_pool_timeout=0.01)
    holder, waiter = here.connect(), here.connect()
    holder.execute("SELECT 1")
    with pytest.raises(heliosproxy.PoolTimeout, match="1 of 1 leased") as caught:
        waiter.execute("SELECT 2")
    assert caught.value.sqlstate == "53300"
    name = next(iter(here.proxy.stats()["pools"]))
    assert name in str(caught.value)
    holder.rollback()
    assert waiter.execute("SELECT 2").fetchone() == (2,)
    waiter.rollback()


@pytest.fixture(scope="module")
def guarded() -> Iterator[Cluster]:
    """A server that wants a password of `app`."""
    with Cluster(replicas=0, hba=["host all app 127.0.0.1/32 scram-sha-256"]) as running:
        running.primary.sql("CREATE ROLE app LOGIN PASSWORD 'right'")
        yield running


def app(cluster: Cluster, password: str) -> str:
    return make_conninfo(cluster.primary.dsn, user="app", password=password, host="127.0.0.1")


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_wrong_password_surfaces_in_connect_whoever_knew_the_right_one(
    face: Any, make_proxy: Any, guarded: Cluster, mode: str
) -> None:
    proxy = make_proxy(mode)
    with face.open(proxy, app(guarded, "right"), autocommit=True) as conn:
        conn.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError, match="password"):
            face.open(proxy, app(guarded, "wrong"))
    assert proxy.stats()["connections"] == 0


def test_a_callable_is_asked_for_each_login(make_proxy: Any, guarded: Cluster) -> None:
    asked: list[str] = []

    def current() -> str:
        asked.append(app(guarded, "right"))
        return asked[-1]

    proxy = make_proxy("transaction")
    with proxy.connect(current) as one, proxy.connect(current) as two:
        one.execute("SELECT 1")
        before = len(asked)
        two.execute("SELECT 1")
        assert len(asked) == before + 1
        one.rollback()
        two.rollback()


@pytest.mark.usefixtures("shut_down")
@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_psycopg_pool_pools_our_connections(dsn: str, mode: str) -> None:
    with ConnectionPool(
        dsn,
        connection_class=heliosproxy.dbapi.Connection,
        kwargs={"helios_mode": mode},
        min_size=1,
        max_size=2,
        open=True,
    ) as pool:
        with pool.connection() as conn:
            assert type(conn) is heliosproxy.dbapi.Connection
            assert conn.execute("SELECT 1").fetchone() == (1,)
        got = pool.getconn()
        got.execute("SELECT 2")
        pool.putconn(got)
        with pool.connection() as again:
            assert again.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
            again.execute("SELECT 3")


@pytest.mark.usefixtures("shut_down")
def test_psycopg_pool_pools_our_asyncio_connections(face: Any, dsn: str) -> None:
    if not face.is_async:
        pytest.skip("the blocking one has its own test")

    async def main() -> None:
        async with (
            AsyncConnectionPool(
                f"{keyword_form(dsn)} helios_mode=transaction",
                connection_class=heliosproxy.dbapi.AsyncConnection,
                min_size=1,
                open=False,
            ) as pool,
            pool.connection() as conn,
        ):
            assert await (await conn.execute("SELECT 1")).fetchone() == (1,)

    face.loop.run_until_complete(main())


def test_a_closed_proxy_refuses_and_closes_what_comes_back(room: Any) -> None:
    here = room("transaction")
    conn = here.connect()
    conn.execute("SELECT 1")
    here.proxy.close()
    with pytest.raises(heliosproxy.PoolClosed):
        here.connect()
    assert conn.execute("SELECT 2").fetchone() == (2,)
    conn.commit()
    assert here.leased == 0
    with pytest.raises(heliosproxy.PoolClosed):
        conn.execute("SELECT 3")


LEAVES_NOTHING = """
import os, sys, threading, heliosproxy
sockets = lambda: [f for f in os.listdir("/proc/self/fd") if (
    os.path.exists(f"/proc/self/fd/{f}") or True) and _target(f).startswith("socket:")]
def _target(f):
    try: return os.readlink(f"/proc/self/fd/{f}")
    except OSError: return ""
before = len(sockets())
with heliosproxy.Proxy(helios_mode=sys.argv[2]) as proxy:
    with proxy.connect(sys.argv[1]) as conn:
        conn.execute("SELECT 1")
    assert threading.active_count() == 1, threading.enumerate()
del conn, proxy
import gc; gc.collect()
assert len(sockets()) == before, (before, sockets())
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs Linux's /proc")
@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_proxy_leaves_no_thread_and_no_socket(dsn: str, mode: str) -> None:
    done = subprocess.run([sys.executable, "-c", LEAVES_NOTHING, dsn, mode], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_async_with_closes_a_proxy(face: Any, dsn: str) -> None:
    threads = threading.active_count()
    proxy = heliosproxy.Proxy(helios_mode="transaction")

    async def main() -> None:
        async with proxy, await proxy.connect_async(dsn) as conn:
            await conn.execute("SELECT 1")

    if face.is_async:
        face.loop.run_until_complete(main())
    else:
        with proxy, proxy.connect(dsn) as conn:
            conn.execute("SELECT 1")
    assert proxy.closed
    assert threading.active_count() == threads


def test_pools_that_differ_in_a_password_alone_share_what_the_server_told(dsn: str, make_proxy: Any) -> None:
    proxy = make_proxy("transaction")
    homes = []
    for password in ("one", "two"):
        with proxy.connect(dsn, password=password) as conn:
            homes.append(conn._home)
    first, second = homes
    assert first is not second
    assert first.harmless
    assert first.harmless is second.harmless
