"""Many logical connections over few server connections: no error, nothing lost, never more backends.

benchmarks/clients.py does the same in large, and tells how long it takes.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

import heliosproxy

CLIENTS = 500
THREADS = 50
SERVERS = 10
TRANSACTIONS = 5
NAME = "many-clients"
READ = "SELECT total FROM counters WHERE id = %s"
WRITE = "UPDATE counters SET total = total + 1 WHERE id = %s"
BACKENDS = (
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND backend_type = 'client backend'"
)


class Watch:
    """Counts the backends from outside while the clients run; `most` is the most there were."""

    def __init__(self, dsn: str) -> None:
        self.most = 0
        self._dsn = dsn
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True, application_name="watching") as conn:
            while True:
                last = self._stop.is_set()  # looks once more behind the end
                row = conn.execute(BACKENDS, (NAME,)).fetchone()
                assert row is not None
                self.most = max(self.most, row[0])
                if last:
                    return
                self._stop.wait(0.005)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def counters(dsn: str) -> Iterator[str]:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("CREATE TABLE counters (id int PRIMARY KEY, total int NOT NULL)")
        conn.execute("INSERT INTO counters SELECT i, 0 FROM generate_series(0, %s) AS i", (CLIENTS - 1,))
    yield dsn
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("DROP TABLE counters")


@pytest.fixture
def proxy(counters: str) -> Iterator[heliosproxy.Proxy]:
    # The time to wait for a server connection is no part of this: a slow machine is to pass, too.
    config = {
        "pool": {"mode": "transaction", "server_connections": SERVERS, "timeout": 600},
        "node": [{"name": "primary", "dsn": f"{counters}?application_name={NAME}"}],
    }
    with heliosproxy.Proxy(config) as proxy:
        yield proxy


def check(dsn: str, proxy: heliosproxy.Proxy, watch: Watch) -> None:
    """Each client's transactions have all happened, and the server never saw more backends than allowed."""
    with psycopg.connect(dsn) as conn:
        assert conn.execute("SELECT DISTINCT total FROM counters").fetchall() == [(TRANSACTIONS,)]
    stats = proxy.stats()
    (pool,) = stats["pools"].values()
    assert 1 <= watch.most <= SERVERS
    # Whoever looks now and then may miss one: none was ever replaced, so this is how many there were.
    assert pool["connections_num"] <= SERVERS
    assert (pool["connections_lost"], pool["requests_errors"], pool["returns_bad"]) == (0, 0, 0)
    assert pool["requests_queued"] > 0, "nobody had to wait: this tested nothing"
    assert (pool["requests_waiting"], pool["pool_available"]) == (0, pool["pool_size"])
    assert stats["connections"] == 0


def test_threads(counters: str, proxy: heliosproxy.Proxy) -> None:
    conns = [proxy.connect(autocommit=True) for _ in range(CLIENTS)]
    together = threading.Barrier(THREADS)

    def work(first: int) -> None:
        together.wait()
        for _ in range(TRANSACTIONS):
            for number in range(first, CLIENTS, THREADS):
                conn = conns[number]
                with conn.transaction():
                    before = conn.execute(READ, (number,)).fetchone()
                    conn.execute(WRITE, (number,))
                    assert conn.execute(READ, (number,)).fetchone() == (before[0] + 1,)

    with Watch(counters) as watch, ThreadPoolExecutor(THREADS) as crew:
        list(crew.map(work, range(THREADS)))
    for conn in conns:
        conn.close()
    check(counters, proxy, watch)


def test_tasks(counters: str, proxy: heliosproxy.Proxy) -> None:
    async def work(number: int, together: asyncio.Barrier) -> None:
        async with await proxy.connect_async(autocommit=True) as conn:
            await together.wait()
            for _ in range(TRANSACTIONS):
                async with conn.transaction():
                    before = await (await conn.execute(READ, (number,))).fetchone()
                    await conn.execute(WRITE, (number,))
                    after = await (await conn.execute(READ, (number,))).fetchone()
                    assert after == (before[0] + 1,)

    async def crew() -> None:
        together = asyncio.Barrier(CLIENTS)
        await asyncio.gather(*(work(number, together) for number in range(CLIENTS)))

    with Watch(counters) as watch:
        asyncio.run(crew())
    check(counters, proxy, watch)
