"""What the parts of the cache cost: CPU time per operation, and whether it grows with the number of entries.

    python -m benchmarks.cache_parts [--json]

The budgets are 0.15 µs for `Versions.valid` and 0.5 for `Store.get`. An empty method, called the same way, is
measured along: it is part of each figure, and machines differ by more than the parts do.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from itertools import count
from typing import Literal

from heliosproxy.cache.flight import Flights
from heliosproxy.cache.stats import Stats
from heliosproxy.cache.store import Entry, Store
from heliosproxy.cache.versions import Versions
from heliosproxy.sql.statement import Kind, Statement

_ROUNDS = 11
_SELECT = Statement("SELECT", Kind.SELECT)
_TEXT = "SELECT * FROM users WHERE id = $1"


class _Empty:
    def method(self, slots: tuple[int, ...], token: int) -> bool:
        return True


def _median(call: Callable[..., object], *args: object, times: int = 20_000) -> float:
    """Median over rounds of the CPU time of one *call*, in microseconds."""
    rounds = []
    for _ in range(_ROUNDS):
        start = time.thread_time_ns()
        for _ in range(times):
            call(*args)
        rounds.append((time.thread_time_ns() - start) / times / 1000)
    return statistics.median(rounds)


def _key(number: int) -> tuple[object, ...]:
    return ("result", _TEXT, (b"%d" % number,), (20,), "role")


def _store(entries: int, eviction: Literal["lru", "lfu"]) -> dict[str, float]:
    """A store full with *entries*: a hit, and a put that must evict."""
    numbers = count()

    def entry() -> Entry:
        return Entry(
            slots=(1,), token=0, statement=_SELECT, payload=None, size=3400, relations=frozenset((1,))
        )

    probe = Store(10**9, None, eviction, 10_000)
    probe.put(_key(10**6), entry())
    store = Store(probe.stats()["bytes"] * entries, None, eviction, 10_000)
    while not store.stats()["evictions"]:
        store.put(_key(10**6 + next(numbers)), entry())
    hit = _key(10**6 + entries // 2 + 1)

    puts = []
    for _ in range(_ROUNDS):
        fresh = [(_key(10**6 + next(numbers)), entry()) for _ in range(2000)]
        start = time.thread_time_ns()
        for key, new in fresh:
            store.put(key, new)
        puts.append((time.thread_time_ns() - start) / len(fresh) / 1000)
    store.put(hit, entry())
    name = f"{eviction}, {entries:,} entries"
    return {
        f"store.get, hit ({name})": _median(store.get, hit),
        f"store.put, evicts ({name})": statistics.median(puts),
    }


def run() -> dict[str, float]:
    """CPU microseconds per operation, by name."""
    versions = Versions()
    versions.touch((1, 2, 3))

    def write(slots: tuple[int, ...]) -> None:
        versions.begin(slots)
        versions.end(slots)

    empty = _Empty()
    found = {"an empty method": _median(empty.method, (1,), 0)}
    for slots in ((1,), (1, 2), (1, 2, 3)):
        found[f"valid, slots: {len(slots)}"] = _median(versions.valid, slots, versions.token(slots))
    found["token, slots: 1"] = _median(versions.token, (1,))
    found["begin + end, slots: 1"] = _median(write, (1,))
    Versions(memory=versions.rows).touch((1,))
    found["valid, slots: 1, two processes write"] = _median(versions.valid, (1,), versions.token((1,)))
    for eviction in ("lru", "lfu"):
        for entries in (10, 1000, 100_000):
            found |= _store(entries, eviction)
    flights = Flights()
    found["join + done"] = _median(lambda: flights.join("key", 0).done(None))
    found["stats.hit"] = _median(Stats(Store(1, None, "lru", 1)).hit)
    return found


def main() -> None:
    """Print a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = run()
    if arguments.json:
        print(json.dumps(found))
        return
    for name, microseconds in found.items():
        print(f"{name:<45} {microseconds:8.3f} µs")


if __name__ == "__main__":
    main()
