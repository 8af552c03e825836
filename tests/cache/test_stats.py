"""Counters of the cache lose nothing between threads."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from heliosproxy.cache.stats import Stats
from heliosproxy.cache.store import Store


@pytest.fixture
def eager_switches() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_snapshot() -> None:
    stats = Stats(Store(1000, None, "lru", 1000))
    assert stats.snapshot() == {
        "hits": 0,
        "misses": 0,
        "stores": 0,
        "invalidations": 0,
        "bypasses": {},
        "refused": {},
        "entries": 0,
        "bytes": 0,
        "evictions": 0,
        "expired": 0,
    }
    stats.hit()
    stats.hit()
    stats.miss()
    stats.bypass("volatile_function")
    stats.refuse("too_large")
    stats.stored()
    stats.invalidated(3)
    for _ in range(2):
        counters = stats.snapshot()
        assert (counters["hits"], counters["misses"], counters["stores"]) == (2, 1, 1)
        assert counters["invalidations"] == 3
        assert (counters["bypasses"], counters["refused"]) == ({"volatile_function": 1}, {"too_large": 1})


@pytest.mark.usefixtures("eager_switches")
def test_threads() -> None:
    stats = Stats(Store(1000, None, "lru", 1000))

    def count() -> None:
        for _ in range(5000):
            stats.hit()
            stats.miss()
            stats.bypass("clock")
            stats.invalidated()

    def look() -> None:
        for _ in range(500):
            stats.snapshot()

    with ThreadPoolExecutor(5) as threads:
        for done in [threads.submit(count) for _ in range(4)] + [threads.submit(look)]:
            done.result()
    counters = stats.snapshot()
    assert {counters["hits"], counters["misses"], counters["invalidations"]} == {20_000}
    assert counters["bypasses"] == {"clock": 20_000}
