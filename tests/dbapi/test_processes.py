"""Forked children, and threads."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

import heliosproxy


def in_child(work: Callable[[], None]) -> None:
    """Run *work* in a forked child; fails when it raises there."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            work()
        except BaseException:  # noqa: BLE001 - the parent tells
            os.write(writing, traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as report:
        said = report.read()
    os.waitpid(pid, 0)
    assert not said, said


PID = "SELECT pg_backend_pid()"


def test_a_child_uses_an_idle_connection_on_a_server_connection_of_its_own(make_proxy: Any, dsn: str) -> None:
    proxy = make_proxy("transaction")
    with proxy.connect(dsn, autocommit=True) as conn:
        conn.execute("SET application_name = 'inherited'")
        pid = conn.execute(PID).fetchone()

        def child() -> None:
            assert conn.execute(PID).fetchone() != pid
            assert conn.execute("SHOW application_name").fetchone() == ("inherited",)
            conn.close()
            proxy.close()

        in_child(child)
        assert conn.execute(PID).fetchone() == pid


@pytest.mark.parametrize("mode", ["transaction", "session", "session_on_path"])
def test_a_child_may_not_use_a_connection_that_its_parent_holds(make_proxy: Any, dsn: str, mode: str) -> None:
    proxy = make_proxy(mode)
    with proxy.connect(dsn) as conn:
        pid = conn.execute(PID).fetchone()

        def child() -> None:
            for _ in range(2):
                with pytest.raises(heliosproxy.ForkedError):
                    conn.execute("SELECT 1")
            with proxy.connect(dsn) as fresh:
                assert fresh.execute(PID).fetchone() != pid
            conn.close()
            proxy.close()

        in_child(child)
        assert conn.execute(PID).fetchone() == pid
        conn.rollback()


@pytest.mark.parametrize("mode", ["transaction", "session_on_path", "session"])
def test_threads_share_one_connection(make_proxy: Any, dsn: str, mode: str) -> None:
    with make_proxy(mode).connect(dsn, autocommit=True) as conn, ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda n: conn.execute("SELECT %s::int", (n,)).fetchone(), range(200))
        assert list(answers) == [(n,) for n in range(200)]


def test_fifty_threads_share_a_proxy_and_a_few_server_connections(make_proxy: Any, dsn: str) -> None:
    proxy = make_proxy("transaction", helios_server_connections=4)
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute("CREATE TABLE totals AS SELECT 0 AS n")
    start = threading.Barrier(50)

    def work(number: int) -> None:
        with proxy.connect(dsn) as conn:
            start.wait()
            conn.execute("SELECT set_config('application_name', %s, false)", (f"thread {number}",))
            conn.commit()
            for _ in range(3):
                with conn.transaction():
                    assert conn.execute("SHOW application_name").fetchone() == (f"thread {number}",)
                    conn.execute("UPDATE totals SET n = n + 1")

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(work, range(50)))
    with proxy.connect(dsn) as conn:
        assert conn.execute("SELECT n FROM totals").fetchone() == (150,)
    (stats,) = proxy.stats()["pools"].values()
    assert stats["pool_size"] <= 4
