"""The in-process store: what it keeps, what it forgets first, and that its bytes are real bytes."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliosproxy.cache.store import OVERHEAD, Entry, Store, key_size
from heliosproxy.sql.statement import Kind, Statement

SELECT = Statement("SELECT 1", Kind.SELECT)
ORDERS: tuple[Literal["lru", "lfu"], ...] = ("lru", "lfu")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def entry(size: int = 1000, **facts: Any) -> Entry:
    return Entry(
        slots=(1,), token=0, statement=SELECT, payload=None, size=size, relations=frozenset(), **facts
    )


def room(entries: int, size: int = 1000) -> int:
    return entries * (size + key_size("a") + OVERHEAD)


def keys(store: Store, among: str) -> str:
    return "".join(key for key in among if store.get(key))


@pytest.mark.parametrize("eviction", ORDERS)
def test_put_get_remove(eviction: Literal["lru", "lfu"]) -> None:
    store = Store(room(3), None, eviction, 1000, Clock())
    one, two = entry(), entry()
    assert store.put("a", one)
    assert store.get("a") is one
    assert store.get("b") is None
    assert store.put("a", two)
    assert store.get("a") is two
    assert not store.remove("a", one)
    assert store.remove("a", two)
    assert not store.remove("a")
    assert store.stats() == {"entries": 0, "bytes": 0, "evictions": 0, "expired": 0}


def test_lru_forgets_what_was_not_used_longest() -> None:
    store = Store(room(3), None, "lru", 1000, Clock())
    for key in "abc":
        store.put(key, entry())
    store.get("a")
    store.put("d", entry())
    assert store.stats()["evictions"] == 1
    assert keys(store, "abcd") == "acd"


def test_lfu_forgets_what_was_used_least() -> None:
    store = Store(room(3), None, "lfu", 1000, Clock())
    for key in "abc":
        store.put(key, entry())
    for key in "aaabbcb":
        store.get(key)
    store.put("d", entry())
    assert store.get("c") is None
    assert store.get("d")
    store.get("d")
    store.put("e", entry())
    assert keys(store, "abcde") == "abe"


def test_lfu_remembers_uses_over_a_refill() -> None:
    store = Store(room(2), None, "lfu", 1000, Clock())
    store.put("a", entry())
    store.get("a")
    store.get("a")
    store.put("a", entry())
    store.put("b", entry())
    store.get("b")
    store.put("c", entry())
    assert keys(store, "abc") == "ac"


@pytest.mark.parametrize("eviction", ORDERS)
def test_too_large_is_refused_and_replaces_nothing_old(eviction: Literal["lru", "lfu"]) -> None:
    store = Store(room(3), None, eviction, 1000, Clock())
    store.put("a", entry())
    store.put("b", entry())
    assert not store.put("a", entry(1001))
    assert keys(store, "ab") == "b"
    tiny = Store(room(1) - 1, None, eviction, 1000, Clock())
    assert not tiny.put("a", entry())
    assert tiny.stats()["bytes"] == 0


@pytest.mark.parametrize("eviction", ORDERS)
def test_ttl(eviction: Literal["lru", "lfu"]) -> None:
    clock = Clock()
    store = Store(room(3), 10, eviction, 1000, clock)
    sooner, later = entry(expires=105.0), entry(expires=1000.0)
    store.put("a", sooner)
    store.put("b", later)
    assert (sooner.created, sooner.expires, later.expires) == (100.0, 105.0, 110.0)
    clock.now = 105.0
    assert keys(store, "ab") == "b"
    clock.now = 110.0
    assert keys(store, "ab") == ""
    assert store.stats() == {"entries": 0, "bytes": 0, "evictions": 0, "expired": 2}


def test_clear() -> None:
    store = Store(room(3), None, "lfu", 1000, Clock())
    store.put("a", entry())
    store.get("a")
    store.clear()
    assert store.get("a") is None
    assert store.put("a", entry())
    assert store.stats()["entries"] == 1


steps = st.lists(
    st.tuples(st.sampled_from(("get", "put", "remove")), st.sampled_from("abcdef"), st.integers(0, 2000)),
    max_size=60,
)


@pytest.mark.parametrize("eviction", ORDERS)
@given(steps=steps)
@settings(max_examples=150, deadline=None)
def test_against_a_model(eviction: Literal["lru", "lfu"], steps: list[tuple[str, str, int]]) -> None:
    """Bytes are the sum of what is there, never above the limit; out goes what the order says."""
    store = Store(6000, None, eviction, 1500, Clock())
    model: dict[str, Entry] = {}
    uses: dict[str, int] = {}

    def least() -> int:
        return min(uses[key] for key in model)

    for step, key, size in steps:
        if step == "get":
            assert store.get(key) is model.get(key)
            if key in model:
                model[key] = model.pop(key)
                uses[key] += 1
        elif step == "remove":
            assert store.remove(key) == (model.pop(key, None) is not None)
        else:
            new = entry(size)
            again = uses[key] + 1 if model.pop(key, None) else 0
            stored = store.put(key, new)
            assert stored == (size <= 1500)
            if stored:
                while sum(e.charge for e in model.values()) + new.charge > 6000:
                    if eviction == "lru":
                        out = next(iter(model))
                    else:
                        # Among equals the order is the store's own.
                        kept = store._entries
                        out = next(k for k in model if k not in kept)
                        assert uses[out] == least()
                    del model[out]
                model[key] = new
                uses[key] = again
        stats = store.stats()
        assert stats["entries"] == len(model)
        assert stats["bytes"] == sum(e.charge for e in model.values()) <= 6000


def test_key_size() -> None:
    text = "x" * 1000
    assert key_size((b"kind", text, (text, None))) > 2000
    assert key_size((text,)) - key_size(("",)) == 1000


def run(code: str, *args: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *args],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


RSS = """
import gc, resource, sys

def rss():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")


@linux
@pytest.mark.parametrize(
    ("query", "results"),
    [
        ("SELECT 1", 5000),
        ("SELECT g, g::text, now() FROM generate_series(1, 10) g", 5000),
        ("SELECT g, g * 2, g::text, 'name ' || g, NULL FROM generate_series(1, 1000) g", 300),
        ("SELECT repeat('x', 100000)", 500),
        ("SELECT repeat('x', 700), repeat('y', 1200) FROM generate_series(1, 20) g", 500),
    ],
    ids=["one", "few", "many", "large", "blocks"],
)
def test_size_of_results(dsn: str, query: str, results: int) -> None:
    """What libpq says is what the process grows by, within 20 %."""
    out = run(
        RSS
        + """
import psycopg
from heliosproxy.cache.store import result_size

with psycopg.connect(sys.argv[1]) as conn:
    query, number = sys.argv[2].encode(), int(sys.argv[3])
    conn.pgconn.exec_(query)
    kept = [None] * number
    before = rss()
    for i in range(number):
        kept[i] = conn.pgconn.exec_(query)
    print(sum(map(result_size, kept)) / (rss() - before))
""",
        dsn,
        query,
        str(results),
    )
    assert 0.8 < float(out) < 1.2


def test_size_of_a_cleared_result(dsn: str) -> None:
    out = run(
        """
import sys, psycopg
from heliosproxy.cache.store import result_size

with psycopg.connect(sys.argv[1]) as conn:
    result = conn.pgconn.exec_(b"SELECT 1")
    result.clear()
    print(result_size(result))
""",
        dsn,
    )
    assert int(out) < 200


@linux
@pytest.mark.slow
@pytest.mark.parametrize("eviction", ORDERS)
def test_size_holds(dsn: str, eviction: str) -> None:
    """100,000 distinct statements with a real result each: the process grows by at most 1.3 x size."""
    out = run(
        RSS
        + """
import psycopg
from heliosproxy.cache.store import Entry, Store, result_size
from heliosproxy.sql.analyse import analyse

analyse("SELECT 1")
with psycopg.connect(sys.argv[1]) as conn:
    size = 64_000_000
    store = Store(size, 60.0, sys.argv[2], 1_000_000)
    pgconn = conn.pgconn
    pgconn.send_query(b"SELECT g, 'name ' || g FROM generate_series(1, 100000) g")
    pgconn.set_single_row_mode()
    before = rss()
    for number in range(100_000):
        result = pgconn.get_result()
        text = f"SELECT id, name FROM users WHERE id = {number}"
        entry = Entry(slots=(number % 8191 + 1, 300 + number), token=number << 16, statement=analyse(text),
                      payload=result, size=result_size(result),
                      relations=frozenset((number, 1000 + number)))
        store.put(("result", text, (b"%d" % number,), (20,), "role"), entry)
        if number % 7 == 0:
            store.get(("result", text, (b"%d" % number,), (20,), "role"))
    while pgconn.get_result():
        pass
    print((rss() - before) / size, store.stats()["bytes"] / size)
""",
        dsn,
        eviction,
    )
    growth, filled = map(float, out.split())
    assert filled > 0.99
    assert growth < 1.3
    print(f"{eviction}: RSS {growth:.2f} x size")
