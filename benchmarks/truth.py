"""Is every answer true, under load? Readers, writers, rollbacks, savepoints and DDL through one Proxy; a checker.

    python -m benchmarks.truth [--json] [--quick] [--seconds 60]

20 tables of 50 statements each, asked for by Zipf's law with exponent 1.1; 8 reader and 3 writer threads; writes
go to 4 of the tables, one DDL every 5 seconds; of all statements 90 % read.

The checker: each row's version only rises, and only one writer at a time writes it (its row lock). A writer that
was told of its commit raises ``acked[row]``; a reader looks at that before it asks, and an answer below it is
stale. Of two answers to one reader the later is not older: else non-monotonic. Neither can accuse falsely: what is
acknowledged is visible, and so is what another answer has shown. At the end, with nobody writing, each entry that
would be served is compared with the database: at rest.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import threading
import time
from bisect import bisect
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psycopg

import heliosproxy

from .common import server, show

TABLES, STATEMENTS, WRITTEN = 20, 50, 4
ROWS = 40
ZIPF = 1.1
READERS, WRITERS = 8, 3
READ_SHARE = 0.9
DDL_EVERY = 5.0
SLACK, PAUSE = 200, 0.0005  # statements that one side may be ahead of its share; seconds until it looks again

Row = tuple[int, int]  # table, id

# Ways to ask for one row (40 of a table's 50 statements), for a range, and through a join.
_SHAPES = (
    "SELECT {number}, id, version FROM truth_{table} WHERE id = {row}",
    "SELECT {number}, id, version FROM truth_{table} WHERE id BETWEEN {row} AND {row} + 4 ORDER BY id",
    "SELECT {number}, id, version FROM truth_view_{table} WHERE id = {row}",
)


class Workload:
    """The statements, and what each asks for."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        self.statements: list[tuple[str, int]] = []
        for table in range(TABLES):
            for number in range(STATEMENTS):
                shape = _SHAPES[0] if number < ROWS else _SHAPES[1 + number % 2]
                row = number % ROWS
                self.statements.append((shape.format(number=number, table=table, row=row), table))
        chance.shuffle(self.statements)
        weights = (1 / rank**ZIPF for rank in range(1, len(self.statements) + 1))
        self._cumulated = list(itertools.accumulate(weights))

    def choose(self, chance: random.Random) -> tuple[str, int]:
        """A statement, and its table."""
        return self.statements[bisect(self._cumulated, chance.random() * self._cumulated[-1])]


class Course:
    """One run: the clients, and what they found.

    Attributes:
        acked: the version of each row whose commit was acknowledged.
        counts: reads, writes, stale, non_monotonic, ddl, and outcomes by reason.
    """

    def __init__(self, proxy: heliosproxy.Proxy, dsn: str, seed: int) -> None:
        self.proxy = proxy
        self.dsn = dsn
        self.workload = Workload(seed)
        self.acked: dict[Row, int] = {}
        self.counts: Counter[str] = Counter()
        self.errors: list[str] = []
        self.stop = threading.Event()
        self._seed = seed
        self._lock = threading.Lock()
        self._reads, self._others = itertools.count(1), itertools.count(1)
        self._read = self._other = 0  # about, without a lock: clients pace themselves by it

    def run(self, seconds: float) -> float:
        """Let all clients work for *seconds*; returns how long it was."""
        clients = [threading.Thread(target=self._guarded, args=(self._reader, n)) for n in range(READERS)]
        clients += [threading.Thread(target=self._guarded, args=(self._writer, n)) for n in range(WRITERS)]
        clients.append(threading.Thread(target=self._guarded, args=(self._architect, 0)))
        started = time.perf_counter()
        for client in clients:
            client.start()
        self.stop.wait(seconds)
        self.stop.set()
        for client in clients:
            client.join()
        return time.perf_counter() - started

    def _guarded(self, work: Any, number: int) -> None:
        counts: Counter[str] = Counter()
        try:
            work(number, counts)
        except Exception as error:  # noqa: BLE001 - a client that died is a result
            self.errors.append(f"{work.__name__}: {error!r}")
            self.stop.set()
        finally:
            with self._lock:
                self.counts += counts

    def _reader(self, number: int, counts: Counter[str]) -> None:
        chance = random.Random(f"{self._seed} reader {number}")
        seen: dict[Row, int] = {}
        in_transaction = False
        with self.proxy.connect(self.dsn, autocommit=True) as conn, conn.cursor() as cursor:
            while not self.stop.is_set():
                # Now and then a few reads in a transaction.
                if chance.random() < 0.02:
                    cursor.execute("COMMIT" if in_transaction else "BEGIN")
                    in_transaction = not in_transaction
                    self._count(counts, "control")
                # Not in a transaction: DDL would wait for its locks, writers for the DDL, and it for the writers.
                while not in_transaction and self._ahead():
                    if self.stop.wait(PAUSE):
                        break
                query, table = self.workload.choose(chance)
                acked = self.acked.copy() if table < WRITTEN else None
                cursor.execute(query)
                rows = cursor.fetchall()
                counts["reads"] += 1
                counts[cursor.helios.reason or cursor.helios.outcome] += 1
                self._read = next(self._reads)
                if acked is not None:
                    self._check(table, rows, acked, seen, counts)
            if in_transaction:
                cursor.execute("ROLLBACK")

    def _ahead(self) -> bool:
        """Whether the readers are ahead of their share."""
        return self._read * (1 - READ_SHARE) > (self._other + SLACK) * READ_SHARE

    def _check(
        self, table: int, rows: list[Any], acked: dict[Row, int], seen: dict[Row, int], counts: Counter[str]
    ) -> None:
        for _, row, version in rows:
            place = table, row
            if version < acked.get(place, 0):
                counts["stale"] += 1
            before = seen.get(place, 0)
            if version < before:
                counts["non_monotonic"] += 1
            else:
                seen[place] = version

    def _writer(self, number: int, counts: Counter[str]) -> None:
        chance = random.Random(f"{self._seed} writer {number}")
        with self.proxy.connect(self.dsn) as conn:
            while not self.stop.is_set():
                while self._other * READ_SHARE > (self._read + SLACK) * (1 - READ_SHARE):
                    if self.stop.wait(PAUSE):
                        break
                table = chance.randrange(WRITTEN)
                rows = sorted(chance.sample(range(ROWS), chance.choice((1, 1, 2))))
                changed = self._change(conn, table, rows, chance, counts)
                with self._lock:
                    for place, version in changed.items():
                        self.acked[place] = max(version, self.acked.get(place, 0))

    def _change(
        self, conn: Any, table: int, rows: list[int], chance: random.Random, counts: Counter[str]
    ) -> dict[Row, int]:
        """One transaction; returns the versions whose commit was acknowledged."""
        update = f"UPDATE truth_{table} SET version = version + 1 WHERE id = %s RETURNING version"
        changed: dict[Row, int] = {}
        kind = chance.random()
        for row in rows:
            if kind < 0.3:
                conn.execute("SAVEPOINT here")
                conn.execute(update, (row,))
                conn.execute("ROLLBACK TO here")
                self._count(counts, "savepoints", "writes", "control")
            if kind >= 0.1:
                changed[table, row] = conn.execute(update, (row,)).fetchone()[0]
                self._count(counts, "writes")
        if kind > 0.85:
            conn.rollback()
            self._count(counts, "rollbacks")
            return {}
        conn.commit()
        self._count(counts, "commits")
        return changed

    def _count(self, counts: Counter[str], *names: str) -> None:
        for name in names:
            counts[name] += 1
            self._other = next(self._others)

    def _architect(self, _: int, counts: Counter[str]) -> None:
        with self.proxy.connect(self.dsn, autocommit=True) as conn:
            pause = (
                DDL_EVERY / 2
            )  # so that the last one is not at the very end: there must be entries at rest
            for table, (name, kind) in _changes():
                if self.stop.wait(pause):
                    return
                pause = DDL_EVERY
                conn.execute(f"ALTER TABLE truth_{table} {kind} COLUMN {name}")
                self._count(counts, "ddl")

    def at_rest(self) -> int:
        """Entries that would be served and are not what the database says."""
        wrong = 0
        with self.proxy.connect(self.dsn, autocommit=True) as conn, psycopg.connect(self.dsn) as raw:
            for query, _ in self.workload.statements:
                with conn.cursor() as cursor:
                    cursor.execute(query)
                    self.counts["served at rest"] += cursor.helios.outcome == "hit"
                    wrong += cursor.fetchall() != raw.execute(query).fetchall()
        return wrong


def _changes() -> Iterator[tuple[int, tuple[str, str]]]:
    for number in itertools.count():
        table = number // 2 % TABLES
        yield table, ("extra int", "ADD") if number % 2 == 0 else ("extra", "DROP")


def prepare(dsn: str) -> None:
    """Make the tables anew."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        for table in range(TABLES):
            conn.execute(f"DROP TABLE IF EXISTS truth_{table} CASCADE")
            conn.execute(f"CREATE TABLE truth_{table} (id int PRIMARY KEY, version int NOT NULL)")
            conn.execute(f"INSERT INTO truth_{table} SELECT id, 1 FROM generate_series(0, {ROWS + 4}) AS id")
            conn.execute(f"CREATE VIEW truth_view_{table} AS SELECT id, version FROM truth_{table}")


def run(
    dsn: str | None = None,
    *,
    seconds: float = 60.0,
    seed: int = 1,
    mode: str = "transaction",
    quick: bool = False,
) -> dict[str, Any]:
    """Measure; see the head of this file.

    Args:
        quick: 3 seconds instead of *seconds*.
        mode: of the pool.
    """
    with ExitStack() as stack:
        dsn = stack.enter_context(server(dsn))
        prepare(dsn)
        proxy = stack.enter_context(heliosproxy.Proxy(helios_mode=mode, helios_cache=True))
        course = Course(proxy, dsn, seed)
        took = course.run(3.0 if quick else seconds)
        stats = proxy.stats()["cache"]
        wrong = course.at_rest()
    counts = course.counts
    others = ("writes", "control", "savepoints", "commits", "rollbacks", "ddl")
    statements = counts["reads"] + sum(counts[name] for name in others)
    hits = counts["hit"]
    return {
        "checker": {
            "stale": counts["stale"],
            "non-monotonic": counts["non_monotonic"],
            "stale at rest": wrong,
            "entries served at rest": counts["served at rest"],
            "clients that failed": len(course.errors),
        },
        "load": {
            "seconds": took,
            "reads": counts["reads"],
            "writes": counts["writes"],
            "share of reads": counts["reads"] / max(1, statements),
            "savepoints": counts["savepoints"],
            "commits": counts["commits"],
            "rollbacks": counts["rollbacks"],
            "DDL": counts["ddl"],
            "statements/s": statements / took,
            "hit rate of reads": hits / max(1, counts["reads"]),
            "hit rate of all statements": hits / max(1, statements),
        },
        "how reads were answered": {
            reason: counts[reason]
            for reason in sorted(
                {"hit", "miss", *stats["bypasses"]} & counts.keys(), key=lambda r: -counts[r]
            )
        },
        "refused to store": stats["refused"],
        "errors": dict.fromkeys(course.errors, 1),
        "bars": {
            "stale reads after an acknowledged write": {"value": counts["stale"], "at_most": 0},
            "non-monotonic reads": {"value": counts["non_monotonic"], "at_most": 0},
            "entries stale at rest": {"value": wrong, "at_most": 0},
            "clients that failed": {"value": len(course.errors), "at_most": 0},
            "share of statements not answered from the cache": {
                "value": 1 - hits / max(1, statements),
                "at_most": 0.4,
            },
        },
    }


def main() -> None:
    """Print tables, or one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument("--dsn", help="a PostgreSQL server; default: an embedded one")
    parser.add_argument("--quick", action="store_true", help="3 seconds")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mode", choices=("session", "transaction"), default="transaction")
    options = parser.parse_args()
    found = run(
        options.dsn, seconds=options.seconds, seed=options.seed, mode=options.mode, quick=options.quick
    )
    if options.json:
        print(json.dumps(found))
    else:
        show(found)


if __name__ == "__main__":
    main()
