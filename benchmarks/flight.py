"""What one flight for BEGIN and the first statement saves, where the network has latency.

    python -m benchmarks.flight [--json] [--dsn DSN] [--quick]

A read-only transaction of one statement (BEGIN, SELECT, COMMIT) through a relay that delays 5 ms each way:
psycopg goes three times to the server and back, we twice. Wall time; the relay's own few tens of microseconds
are in both.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import psycopg

import heliosproxy

from .common import Turns, bar, command, server
from .relay import relay

DELAY = 0.005
SQL = "SELECT %s::int + 1"
RAW, OURS = "psycopg", "ours, transaction mode"


def _transaction(conn: Any) -> Callable[[], object]:
    def call() -> object:
        with conn.transaction():
            return conn.execute(SQL, (1,)).fetchall()

    return call


def _statement(conn: Any) -> Callable[[], object]:
    return lambda: conn.execute(SQL, (1,)).fetchall()


def _implicit(conn: Any) -> Callable[[], object]:
    def call() -> object:
        rows = conn.execute(SQL, (1,)).fetchall()
        conn.commit()
        return rows

    return call


def run(dsn: str | None = None, *, quick: bool = False) -> dict[str, Any]:
    """Measure; returns milliseconds, and the bar."""
    found: dict[str, Any] = {}
    bars = {}
    with ExitStack() as stack:
        far = stack.enter_context(relay(stack.enter_context(server(dsn)), DELAY))
        stack.callback(heliosproxy.shutdown)
        conns = {RAW: stack.enter_context(psycopg.connect(far))}
        for name, mode in {OURS: "transaction", "ours, session mode": "session"}.items():
            conns[name] = stack.enter_context(heliosproxy.connect(far, helios_mode=mode))
        # The round that does not count is long enough for psycopg to have prepared the statement.
        times, rounds = (6, 2) if quick else (10, 15)
        turns = Turns({name: _implicit(conn) for name, conn in conns.items()}, times, rounds)
        found["execute, commit"] = _rows(turns)
        bars["execute, commit: x psycopg's time"] = bar(turns.ratio(OURS, RAW, "wall"), 0.72)
        for conn in conns.values():
            conn.autocommit = True
        turns = Turns({name: _transaction(conn) for name, conn in conns.items()}, times, rounds)
        found["with conn.transaction()"] = _rows(turns)
        bars["with conn.transaction(): x psycopg's time"] = bar(turns.ratio(OURS, RAW, "wall"), 0.72)
        turns = Turns({name: _statement(conn) for name, conn in conns.items()}, times, rounds)
        found["one statement in autocommit (one round trip)"] = _rows(turns)
    return {**found, "bars": bars}


def _rows(turns: Turns) -> dict[str, dict[str, float]]:
    return {
        name: {"wall_ms": turns.median(name).wall / 1000, "x psycopg": turns.ratio(name, RAW, "wall")}
        for name in turns.costs
    }


def main() -> None:
    """Print tables, or with --json one object."""
    command(__doc__, run)


if __name__ == "__main__":
    main()
