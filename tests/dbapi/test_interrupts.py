"""Ctrl-C, cancelled tasks and cancel(): no lease leaks, and nobody else's statement is hit or answered."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import warnings
from typing import Any

import psycopg
import pytest

import heliosproxy

RUNNING = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE %s AND pid <> pg_backend_pid()"


def wait_until_running(dsn: str, mark: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as admin:
        while admin.execute(RUNNING, (f"%{mark}%",)).fetchone() == (0,):
            pass


@pytest.fixture(params=["transaction", "session", "session_on_path"])
def proxy(request: pytest.FixtureRequest, make_proxy: Any) -> heliosproxy.Proxy:
    made: heliosproxy.Proxy = make_proxy(request.param, helios_server_connections=1)
    return made


def leased(proxy: heliosproxy.Proxy) -> int:
    return sum(p["pool_size"] - p["pool_available"] for p in proxy.stats()["pools"].values())


@pytest.mark.parametrize("inside", [False, True])
def test_ctrl_c_ends_the_statement_and_the_connection_lives_on(
    proxy: heliosproxy.Proxy, dsn: str, inside: bool
) -> None:
    with proxy.connect(dsn, autocommit=not inside) as conn:

        def press() -> None:
            wait_until_running(dsn, "ctrl_c")
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=press)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            conn.execute("SELECT pg_sleep(60) AS ctrl_c")
        thread.join()
        if inside:
            assert conn.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
            conn.rollback()
        assert conn.execute("SELECT 'mine'").fetchone() == ("mine",)
    assert leased(proxy) == 0


def test_a_cancelled_task_leaves_a_clean_connection_behind(proxy: heliosproxy.Proxy, dsn: str) -> None:
    async def main() -> None:
        async with await proxy.connect_async(dsn, autocommit=True) as conn:
            task = asyncio.create_task(conn.execute("SELECT pg_sleep(60) AS cancelled_task"))
            await asyncio.to_thread(wait_until_running, dsn, "cancelled_task")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await (await conn.execute("SELECT 'mine'")).fetchone() == ("mine",)

    asyncio.run(main())
    assert leased(proxy) == 0
    with proxy.connect(dsn) as conn:
        assert conn.execute("SELECT 'next'").fetchone() == ("next",)


def test_a_task_cancelled_while_it_waits_for_a_lease_takes_none(make_proxy: Any, dsn: str) -> None:
    proxy = make_proxy("transaction", helios_server_connections=1)

    async def main() -> None:
        async with await proxy.connect_async(dsn) as holder, await proxy.connect_async(dsn) as waiter:
            await holder.execute("SELECT 1")
            task = asyncio.create_task(waiter.execute("SELECT 2"))
            while not proxy.stats()["waiting"]:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert proxy.stats()["waiting"] == 0
            await holder.rollback()
            assert leased(proxy) == 0
            assert await (await waiter.execute("SELECT 3")).fetchone() == (3,)

    asyncio.run(main())


@pytest.mark.parametrize("safe", [False, True])
def test_cancel_from_another_thread_hits_the_running_statement(
    proxy: heliosproxy.Proxy, dsn: str, safe: bool
) -> None:
    with proxy.connect(dsn, autocommit=True) as conn:

        def cancel() -> None:
            wait_until_running(dsn, "to_be_cancelled")
            (conn.cancel_safe if safe else conn.cancel)()

        thread = threading.Thread(target=cancel)
        thread.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            conn.execute("SELECT pg_sleep(60) AS to_be_cancelled")
        thread.join()
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_cancel_of_a_connection_that_holds_nothing_hits_nobody(make_proxy: Any, dsn: str) -> None:
    proxy = make_proxy("transaction", helios_server_connections=1)
    with proxy.connect(dsn, autocommit=True) as idle, proxy.connect(dsn) as busy:
        idle.execute("SELECT 1")
        busy.execute("SELECT 1")
        idle.cancel()
        idle.cancel_safe()
        assert busy.execute("SELECT pg_sleep(0), 2").fetchone() == ("", 2)
        busy.rollback()


def test_the_lease_is_kept_until_a_cancel_request_is_delivered(make_proxy: Any, dsn: str) -> None:
    """A cancel request names a server process: delivered late, it would hit whoever uses it then."""
    proxy = make_proxy("transaction", helios_server_connections=1)
    asked, answered = threading.Event(), threading.Event()
    with proxy.connect(dsn) as conn:
        conn.execute("SELECT 1")

        def late_cancel() -> None:
            with conn._cancelling_now() as running:
                assert running
                asked.set()
                answered.wait()

        canceller = threading.Thread(target=late_cancel)
        canceller.start()
        asked.wait()
        committer = threading.Thread(target=conn.commit)
        committer.start()
        committer.join(0.05)
        assert committer.is_alive()
        assert leased(proxy) == 1
        answered.set()
        committer.join()
        canceller.join()
        assert leased(proxy) == 0


@pytest.mark.parametrize("state", ["idle", "transaction", "pinned"])
def test_an_unclosed_connection_warns_when_collected_and_leaks_nothing(
    proxy: heliosproxy.Proxy, dsn: str, state: str
) -> None:
    conn = proxy.connect(dsn, autocommit=state == "idle")
    if state == "pinned":
        conn.execute("SET application_name = 'collected'; CREATE TEMP TABLE t (x int)")
    elif state == "transaction":
        conn.execute("SELECT 1")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del conn
        gc.collect()
    assert [w.category for w in caught] == [ResourceWarning]
    assert leased(proxy) == 0
    assert proxy.stats()["connections"] == 0
    with proxy.connect(dsn) as other:
        assert other.execute("SELECT current_setting('application_name')").fetchone() == ("",)
