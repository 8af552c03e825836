"""What it costs to lease a server connection and give it back: CPU time per pair, beside psycopg_pool.

    python -m benchmarks.lease [--json] [--dsn DSN]

Without ``--dsn`` an embedded cluster is started for psycopg_pool, which wants real connections. Ours are then the
same kind of connection with the same liveness check, besides the bare pool over a server that is none. The budget
of the product for a lease and return is 5 µs with everything; ratios do not depend on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import select
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool

from heliosproxy.pool import Pool, PoolKey, PoolOptions, Pools, Server

_ROUNDS = 15
_KEY = PoolKey("primary", "", "shop", "app")


class _Socket(Server):
    """A real connection, tested as the edge does it: is there anything to read where nothing should be?"""

    __slots__ = ("connection", "poll")

    def __init__(self, dsn: str) -> None:
        super().__init__()
        self.connection = psycopg.connect(dsn, autocommit=True)
        poll = select.poll()
        poll.register(self.connection.fileno(), select.POLLIN)
        self.poll = poll.poll

    def alive(self) -> bool:
        return not self.poll(0)

    def close(self) -> None:
        self.connection.close()


async def _never(pool: Pool[Any]) -> Any:
    raise NotImplementedError("nothing here connects with asyncio but the fake")


def _median(call: Callable[[], object], times: int) -> float:
    """Median over rounds of the CPU time of one *call*, in microseconds."""
    call()
    rounds = []
    for _ in range(_ROUNDS):
        start = time.process_time_ns()
        for _ in range(times):
            call()
        rounds.append((time.process_time_ns() - start) / times / 1000)
    return statistics.median(rounds)


def _pair(pool: Pool[Any], signature: object = None) -> Callable[[], object]:
    pool.release(pool.lease())
    return lambda: pool.release(pool.try_lease(signature))


def _handed_over_to_threads(pool: Pool[Any], turns: int = 500, threads: int = 4) -> float:
    """CPU of a lease that must wait for another thread: *threads* on one connection."""

    def work() -> None:
        for _ in range(turns):
            server = pool.lease()
            time.sleep(0)  # lets the others queue
            pool.release(server)

    crew = [threading.Thread(target=work) for _ in range(threads)]
    start = time.process_time_ns()
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    return (time.process_time_ns() - start) / turns / threads / 1000


def _handed_over_to_tasks(pool: Pool[Any], turns: int = 500, tasks: int = 4) -> float:
    """CPU of a lease that must wait for another task of the same loop."""

    async def work() -> None:
        for _ in range(turns):
            server = await pool.lease_async()
            await asyncio.sleep(0)
            pool.release(server)

    async def crew() -> float:
        start = time.process_time_ns()
        await asyncio.gather(*(work() for _ in range(tasks)))
        return (time.process_time_ns() - start) / turns / tasks / 1000

    return asyncio.run(crew())


def run(dsn: str | None = None) -> dict[str, float]:
    """Measure; return microseconds of CPU by name. *dsn* None (default) leaves out what needs a server."""
    one, many = Pools(1), Pools(50)
    pool = many.pool(_KEY, PoolOptions(), lambda pool: Server(), _never)
    figures = {"pair_us": _median(_pair(pool), 20_000)}
    for number, server in enumerate([pool.lease() for _ in range(50)]):
        server.signature = number
        pool.release(server)
    figures["pair_of_50_no_signature_matches_us"] = _median(_pair(pool, "another"), 20_000)
    single = one.pool(_KEY, PoolOptions(), lambda pool: Server(), _never)
    single.release(single.lease())
    figures["queued_thread_us"] = _handed_over_to_threads(single)
    figures["queued_task_us"] = _handed_over_to_tasks(single)
    if dsn is not None:
        real = Pools(None).pool(_KEY, PoolOptions(), lambda pool: _Socket(dsn), _never)
        figures["pair_real_us"] = _median(_pair(real), 20_000)
        real.close()
        with ConnectionPool(dsn, min_size=1, kwargs={"autocommit": True}) as theirs:
            theirs.wait()
            figures["psycopg_pool_us"] = _median(lambda: theirs.putconn(theirs.getconn()), 1000)

            def block() -> None:
                with theirs.connection():
                    pass

            figures["psycopg_pool_connection_us"] = _median(block, 1000)
        figures["psycopg_pool_over_ours"] = figures["psycopg_pool_us"] / figures["pair_real_us"]
    for pools in (one, many):
        pools.close(0)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU cost of a lease")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--dsn", help="a PostgreSQL server; default: an embedded one")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        dsn = arguments.dsn
        if dsn is None:
            from heliosproxy.embedded import Cluster

            dsn = stack.enter_context(Cluster(replicas=0)).primary.dsn
        figures = run(dsn)
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name:40} {figure:8.2f}")


if __name__ == "__main__":
    main()
