"""Does cost or memory grow with the number of distinct statements?

    python -m benchmarks.growth [--json] [--dsn DSN] [--quick]

100,000 statements, each with a text of its own (inlined keys, as Django and psycopg2 send them), through one
connection with a cache of 64 MB, in a fresh process. Memory is what the process holds above its start, what
malloc keeps included; cost is the CPU time of the calling thread per statement, the last thousand beside
the first thousand after the warm-up.
"""

from __future__ import annotations

import gc
import statistics
import time
from array import array
from contextlib import ExitStack
from typing import Any

import heliosproxy

from .calls import ROWS, users
from .common import bar, command, fresh, rss, server

MB = 1 << 20
CACHE, MEMO = 64 * MB, 32 * MB
WARM_UP = 1000


def _text(number: int) -> str:
    return f"SELECT id, name, price FROM bench_users WHERE id = {number % ROWS} AND id <> {number + ROWS}"


def inside(dsn: str, statements: int) -> dict[str, Any]:
    """Ask *statements* distinct statements in this process."""
    config = {
        "pool": {"mode": "transaction"},
        "cache": {"enabled": True, "l1": {"size": CACHE, "ttl": 3600}},
        "sql": {"memo_size": MEMO},
    }
    with heliosproxy.Proxy(config) as proxy, proxy.connect(dsn, autocommit=True) as conn:
        cursor = conn.cursor()
        for _ in range(2):
            cursor.execute("SELECT id, name, price FROM bench_users WHERE id = 1").fetchall()
        costs = array("q", bytes(8 * statements))
        clock = time.thread_time_ns
        gc.collect()
        start = most = rss()
        for number in range(statements):
            before = clock()
            cursor.execute(_text(number)).fetchall()
            costs[number] = clock() - before
            if number % 500 == 0:
                most = max(most, rss())
        most = max(most, rss())
        stats = proxy.cache.stats()
        memo = proxy.memo.size
    first = statistics.median(costs[WARM_UP : 2 * WARM_UP]) / 1000
    last = statistics.median(costs[-WARM_UP:]) / 1000
    return {
        "statements": statements,
        "stored": stats["stores"],
        "evicted": stats["evictions"],
        "entries": stats["entries"],
        "cache, MB": stats["bytes"] / MB,
        "memo, MB": memo / MB,
        "start, MB": start / MB,
        "above it at most, MB": (most - start) / MB,
        "above it at the end, MB": (rss() - start) / MB,
        "first thousand, µs": first,
        "last thousand, µs": last,
        "last to first": last / first,
    }


def run(dsn: str | None = None, *, quick: bool = False) -> dict[str, Any]:
    """Measure; returns one section, and the bars."""
    with ExitStack() as stack:
        dsn = stack.enter_context(server(dsn))
        users(dsn)
        found = fresh(__spec__.name, dsn=dsn, statements=5000 if quick else 100_000)
    limit = 1.3 * CACHE / MB + MEMO / MB + 32
    bars = {
        "memory above the start, MB": bar(found["above it at most, MB"], limit),
        "CPU of the last thousand to the first": bar(found["last to first"], 1.2),
    }
    return {"growth": found, "bars": bars}


def main() -> None:
    """Print a table, or with --json one object."""
    command(__doc__, run)


if __name__ == "__main__":
    main()
