"""Many logical connections over few server connections: errors, backends, waiting, memory.

    python -m benchmarks.clients [--json] [--dsn DSN] [--quick]

5,000 logical connections over 50 server connections in transaction mode: once from 200 threads, each with 25
connections that it uses in turns, once as 5,000 asyncio tasks with a connection each. All connections are open
before the first transaction begins, and each runs 10. An outside process counts the backends, and the server's
own counter tells how many there ever were. Each kind runs in a process of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import threading
import time
from contextlib import ExitStack
from typing import Any

import psycopg

import heliosproxy

from .common import bar, command, fresh, quantile, rss, server

SERVERS = 50
THREADS = 200
TRANSACTIONS = 10
NAME = "heliosproxy-clients"
READ = "SELECT total FROM bench_clients WHERE id = %s"
WRITE = "UPDATE bench_clients SET total = total + 1 WHERE id = %s"
BACKENDS = (
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND backend_type = 'client backend'"
)


class _Tally:
    """What happened, from all threads or tasks: appending is atomic."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.errors: list[str] = []


def _sample(dsn: str, most: Any, stop: Any) -> None:
    with psycopg.connect(dsn, autocommit=True, application_name="watching") as conn:
        while not stop.wait(0.01):
            row = conn.execute(BACKENDS, (NAME,)).fetchone()
            most.value = max(most.value, row[0] if row else 0)


@contextlib.contextmanager
def _watched(dsn: str) -> Any:
    """Count the backends from outside; the value is the most there were."""
    spawn = multiprocessing.get_context("spawn")
    most, stop = spawn.Value("i", 0), spawn.Event()
    watcher = spawn.Process(target=_sample, args=(dsn, most, stop), daemon=True)
    watcher.start()
    try:
        yield most
    finally:
        stop.set()
        watcher.join(10)
        watcher.kill()


def _transaction(conn: Any, number: int, tally: _Tally) -> None:
    started = time.perf_counter()
    try:
        with conn.transaction():
            conn.execute(READ, (number,)).fetchall()
            conn.execute(WRITE, (number,))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
        tally.errors.append(repr(error))
    tally.seconds.append(time.perf_counter() - started)


async def _transaction_async(conn: Any, number: int, tally: _Tally) -> None:
    started = time.perf_counter()
    try:
        async with conn.transaction():
            await (await conn.execute(READ, (number,))).fetchall()
            await conn.execute(WRITE, (number,))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
        tally.errors.append(repr(error))
    tally.seconds.append(time.perf_counter() - started)


def _threads(proxy: Any, dsn: str, clients: int, tally: _Tally) -> tuple[float, int]:
    proxy.connect(dsn, application_name=NAME).close()  # the first one loads what all share
    before = rss()
    conns = [proxy.connect(dsn, application_name=NAME, autocommit=True) for _ in range(clients)]
    held = rss() - before
    share = -(-clients // THREADS)

    def work(first: int) -> None:
        for _ in range(TRANSACTIONS):
            for number in range(first, min(first + share, clients)):
                _transaction(conns[number], number, tally)

    crew = [threading.Thread(target=work, args=(first,)) for first in range(0, clients, share)]
    started = time.perf_counter()
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    seconds = time.perf_counter() - started
    for conn in conns:
        conn.close()
    return seconds, held


async def _tasks(proxy: Any, dsn: str, clients: int, tally: _Tally) -> tuple[float, int]:
    await (await proxy.connect_async(dsn, application_name=NAME)).close()
    before = rss()
    conns = [await proxy.connect_async(dsn, application_name=NAME, autocommit=True) for _ in range(clients)]
    held = rss() - before

    async def work(number: int) -> None:
        for _ in range(TRANSACTIONS):
            await _transaction_async(conns[number], number, tally)

    started = time.perf_counter()
    await asyncio.gather(*(work(number) for number in range(clients)))
    seconds = time.perf_counter() - started
    for conn in conns:
        await conn.close()
    return seconds, held


def inside(dsn: str, kind: str, clients: int) -> dict[str, Any]:
    """One kind of clients, in this process."""
    tally = _Tally()
    config = {"pool": {"mode": "transaction", "server_connections": SERVERS, "timeout": 600.0}}
    with heliosproxy.Proxy(config) as proxy, _watched(dsn) as most:
        if kind == "threads":
            seconds, held = _threads(proxy, dsn, clients, tally)
        else:
            seconds, held = asyncio.run(_tasks(proxy, dsn, clients, tally))
        pools = proxy.stats()["pools"]
        backends = most.value
    (pool,) = pools.values() if isinstance(pools, dict) else pools
    return {
        "clients": clients,
        "transactions": len(tally.seconds) - len(tally.errors),
        "errors": len(tally.errors),
        "first error": tally.errors[0] if tally.errors else None,
        "backends, at most": backends,
        "logins": pool["connections_num"],
        "seconds": seconds,
        "transactions per second": len(tally.seconds) / seconds,
        "transaction p50, ms": quantile(tally.seconds, 0.5) * 1000,
        "transaction p99, ms": quantile(tally.seconds, 0.99) * 1000,
        "waits": pool["requests_queued"],
        "wait p50, ms": pool["requests_wait_p50_ms"],
        "wait p99, ms": pool["requests_wait_p99_ms"],
        "kB per idle connection": held / clients / 1000,
    }


def run(dsn: str | None = None, *, quick: bool = False) -> dict[str, Any]:
    """Measure; returns a section per kind, and the bars."""
    clients = 500 if quick else 5000
    found: dict[str, Any] = {}
    bars = {}
    with ExitStack() as stack:
        dsn = stack.enter_context(server(dsn))
        for kind in ("threads", "tasks"):
            with psycopg.connect(dsn, autocommit=True) as conn:
                conn.execute("DROP TABLE IF EXISTS bench_clients")
                conn.execute(
                    "CREATE TABLE bench_clients WITH (fillfactor = 50) AS"
                    f" SELECT i AS id, 0 AS total FROM generate_series(0, {clients - 1}) AS i"
                )
                conn.execute("ALTER TABLE bench_clients ADD PRIMARY KEY (id)")
            rows = found[kind] = fresh(__spec__.name, dsn=dsn, kind=kind, clients=clients)
            with psycopg.connect(dsn, autocommit=True) as conn:
                total = conn.execute("SELECT sum(total) FROM bench_clients").fetchone()
            rows["writes found"] = int(total[0]) if total else 0
            bars[f"{kind}: errors"] = bar(rows["errors"], 0)
            bars[f"{kind}: writes missing"] = bar(clients * TRANSACTIONS - rows["writes found"], 0)
            bars[f"{kind}: backends"] = bar(max(rows["backends, at most"], rows["logins"]), SERVERS)
    return {**found, "bars": bars}


def main() -> None:
    """Print a table per kind, or with --json one object."""
    command(__doc__, run)


if __name__ == "__main__":
    main()
