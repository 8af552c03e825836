"""What a statement costs: CPU time per statement, ours and others', measured in turns in one run.

    python -m benchmarks.statement [--json] [--dsn DSN] [--quick]

hit           the answer is in memory (L1)
pass-through  it comes from the server: what do we add to psycopg?
transaction   BEGIN, one SELECT, COMMIT
lease         a server connection taken from the pool and given back

``cpu`` is the calling thread's, in user and kernel; ``process`` adds the contestants' other threads; ``wall``
includes the server. Client and server have processors of their own, where there are two. Others run with
psycopg's defaults, so the statement is prepared by then, as ours is.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import psycopg

import heliosproxy

from . import rivals
from .calls import by_key, from_pool, in_transaction, on_connection, outcome, same, users
from .common import Turns, apart, bar, command, server

RAW = "psycopg, cursor"
RAW_EXECUTE = "psycopg, conn.execute"
REGION = "dogpile, memory region get"
# What that took where the budgets were set: they are microseconds of that machine. It is asked for in each section
# anew, because the speed of a shared machine changes within minutes.
REFERENCE = 0.9


class Bench:
    """One run of one size."""

    def __init__(self, stack: ExitStack, dsn: str, quick: bool) -> None:
        self.stack = stack
        self.dsn = dsn
        self.rounds = 3 if quick else 41
        self.times = 20 if quick else 400
        self.raw = stack.enter_context(psycopg.connect(dsn, autocommit=True))
        self.pool = rivals.pool(stack, dsn)
        self.wrapped = rivals.wrapped(stack, dsn)

    def ours(self, **options: Any) -> Any:
        """A connection of ours with ``helios_…`` *options*, or with a configuration."""
        if "config" in options:
            proxy = self.stack.enter_context(heliosproxy.Proxy(options["config"]))
            return self.stack.enter_context(proxy.connect(self.dsn, autocommit=True))
        return self.stack.enter_context(heliosproxy.connect(self.dsn, autocommit=True, **options))

    def turns(self, calls: dict[str, Any]) -> tuple[Turns, float]:
        """What *calls* cost, and how many times as slow as for the budgets the machine is meanwhile (1 or more)."""
        turns = Turns({**calls, REGION: rivals.region()}, self.times, self.rounds)
        return turns, max(1.0, turns.median(REGION).cpu / REFERENCE)

    def hit(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """A result that is in memory already."""
        session = self.ours(helios_cache=True)
        transaction = self.ours(helios_cache=True, helios_mode="transaction")
        calls = {
            "ours, cursor": same(outcome(session.cursor(), "hit")),
            "ours, conn.execute": on_connection(session),
            "ours, cursor, transaction mode": same(outcome(transaction.cursor(), "hit")),
            RAW: same(self.raw.cursor()),
            RAW_EXECUTE: on_connection(self.raw),
            "psycopg_pool, conn.execute": from_pool(self.pool),
            **{name: same(conn.cursor()) for name, conn in self.wrapped.items()},
        }
        turns, slow = self.turns(calls)
        bars = {
            "hit, cursor: µs": bar(turns.median("ours, cursor").cpu / slow, 5.0),
            "hit, conn.execute: µs": bar(turns.median("ours, conn.execute").cpu / slow, 10.0),
        }
        return turns.table(), bars

    def pass_through(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """A result that the server must give."""
        excluded = {"pool": {"mode": "transaction"}, "cache": {"enabled": True}}
        excluded["cache"]["table"] = [{"name": "bench_users", "enabled": False}]
        off = {"cache": False}
        cached = self.ours(helios_cache=True, helios_mode="transaction").cursor()
        kept = self.ours(helios_cache=True).cursor()
        ours = {
            "ours, session mode, no stage": (by_key(self.ours().cursor()), 5.0),
            "ours, transaction mode": (by_key(self.ours(helios_mode="transaction").cursor()), 12.0),
            "ours, transaction, cache, option off": (
                by_key(outcome(cached, "bypass", off), helios=off),
                12.0,
            ),
            "ours, transaction, cache, table excluded": (
                by_key(outcome(self.ours(config=excluded).cursor(), "bypass")),
                12.0,
            ),
            "ours, session, cache, option off": (by_key(outcome(kept, "bypass", off), helios=off), 12.0),
        }
        others = {name: by_key(conn.cursor()) for name, conn in self.wrapped.items()}
        others["psycopg_pool, conn.execute"] = from_pool(self.pool)
        calls = {RAW: by_key(self.raw.cursor()), **{name: call for name, (call, _) in ours.items()}, **others}
        turns, slow = self.turns(calls)
        bars = {
            f"pass-through, {name}: µs above psycopg": bar(turns.above(name, RAW) / slow, most)
            for name, (_, most) in ours.items()
        }
        return turns.table(RAW), bars

    def transaction(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """A statement in a transaction of its own."""
        ours = self.ours(helios_mode="transaction")
        session = self.ours()
        calls = {
            RAW: in_transaction(self.raw, self.raw.cursor().execute),
            "ours, cursor, transaction mode": in_transaction(ours, ours.cursor().execute),
            "ours, cursor, session mode": in_transaction(session, session.cursor().execute),
            RAW_EXECUTE: in_transaction(self.raw, self.raw.execute),
            "ours, conn.execute, transaction mode": in_transaction(ours, ours.execute),
            **{name: in_transaction(conn, conn.cursor().execute) for name, conn in self.wrapped.items()},
        }
        turns, slow = self.turns(calls)
        above = turns.above("ours, cursor, transaction mode", RAW) / slow
        return turns.table(RAW), {"transaction, transaction mode: µs above psycopg": bar(above, 35.0)}

    def lease(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """A server connection, and back."""
        ours = self.ours(helios_mode="transaction")
        ours.execute("SELECT 1")
        take, give = ours._home.pool.try_lease, ours._home.pool.release
        theirs = self.pool
        calls = {
            "ours, try_lease and release": lambda: give(take()),
            "psycopg_pool, getconn and putconn": lambda: theirs.putconn(theirs.getconn()),
        }
        turns, slow = self.turns(calls)
        return turns.table(), {
            "lease and return: µs": bar(turns.median("ours, try_lease and release").cpu / slow, 5.0)
        }


def run(dsn: str | None = None, *, quick: bool = False) -> dict[str, Any]:
    """Measure; returns a section per kind, and the bars."""
    found: dict[str, Any] = {}
    bars: dict[str, Any] = {}
    with ExitStack() as stack:
        client = stack.enter_context(apart())
        dsn = stack.enter_context(server(dsn))
        client()
        users(dsn)
        stack.callback(heliosproxy.shutdown)
        bench = Bench(stack, dsn, quick)
        for kind in (bench.hit, bench.pass_through, bench.transaction, bench.lease):
            found[kind.__name__], more = kind()
            bars |= more
    found["times as slow as where the bars were set, by which they are divided"] = {
        kind: max(1.0, rows[REGION]["cpu_us"] / REFERENCE) for kind, rows in found.items()
    }
    return {**found, "bars": bars}


def main() -> None:
    """Print tables, or with --json one object."""
    command(__doc__, run)


if __name__ == "__main__":
    main()
