"""Does cost or memory grow with the number of distinct statements?

    python -m benchmarks.growth [--json] [--dsn DSN] [--quick]

100,000 statements, each with a text of its own (inlined keys, as Django and psycopg2 send them), through one
connection with a cache of 64 MB, in a fresh process. Memory is what the process holds above its start, what
malloc keeps included; cost is the CPU time of the calling thread per statement, the last thousand beside
the first thousand after the warm-up. In both, psycopg asks the same in turns: what changes for it, too, is the
machine's doing, or the server's.
"""

from __future__ import annotations

import gc
import statistics
import time
from array import array
from contextlib import ExitStack
from typing import Any

import psycopg

import heliosproxy

from .calls import ROWS, users
from .common import bar, command, fresh, rss, server

MB = 1 << 20
CACHE, MEMO = 64 * MB, 32 * MB
WARM_UP = 1000


def _text(number: int) -> str:
    return f"SELECT id, name, price FROM bench_users WHERE id = {number % ROWS} AND id <> {number + ROWS}"


def _cost(cursor: Any, text: str) -> int:
    """Nanoseconds of CPU for one statement."""
    started = time.thread_time_ns()
    cursor.execute(text).fetchall()
    return time.thread_time_ns() - started


def inside(dsn: str, statements: int) -> dict[str, Any]:
    """Ask *statements* distinct statements in this process."""
    first, last = range(WARM_UP, 2 * WARM_UP), range(statements - WARM_UP, statements)
    config = {
        "pool": {"mode": "transaction"},
        "cache": {"enabled": True, "l1": {"size": CACHE, "ttl": 3600}},
        "sql": {"memo_size": MEMO},
    }
    with (
        heliosproxy.Proxy(config) as proxy,
        proxy.connect(dsn, autocommit=True) as conn,
        psycopg.connect(dsn, autocommit=True) as plain,
    ):
        ours, theirs = conn.cursor(), plain.cursor()
        for _ in range(2):
            ours.execute("SELECT id, name, price FROM bench_users WHERE id = 1").fetchall()
            theirs.execute("SELECT id, name, price FROM bench_users WHERE id = 1").fetchall()
        costs = array("q", bytes(8 * statements))
        reference = array("q", bytes(8 * statements))
        gc.collect()
        start = most = rss()
        for number in range(statements):
            text = _text(number)
            costs[number] = _cost(ours, text)
            if number in first or number in last:
                reference[number] = _cost(theirs, text)
            if number % 500 == 0:
                most = max(most, rss())
        most = max(most, rss())
        stats = proxy.cache.stats()
        memo = proxy.memo.size
    before, after = (statistics.median(costs[part.start : part.stop]) / 1000 for part in (first, last))
    drift = statistics.median(reference[last.start : last.stop]) / statistics.median(
        reference[first.start : first.stop]
    )
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
        "first thousand, µs": before,
        "last thousand, µs": after,
        "last to first": after / before,
        "last to first, psycopg": drift,
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
        "… with psycopg's own change taken out": bar(
            found["last to first"] / found["last to first, psycopg"], 1.2
        ),
    }
    return {"growth": found, "bars": bars}


def main() -> None:
    """Print a table, or with --json one object."""
    command(__doc__, run)


if __name__ == "__main__":
    main()
