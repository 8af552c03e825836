"""The memo: bounded in bytes (H5), one object per text, safe between threads."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from heliosproxy.errors import StatementRejected
from heliosproxy.sql.memo import Memo

# In a process of its own: what pytest and other tests hold or free would blur the figure.
GROWTH = """
import gc, os, sys
from heliosproxy.sql.memo import Memo

def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def text(i):
    where = f"WHERE o.id = {i} AND lower(c.name) = 'n{i}'"
    return f"SELECT o.id, o.total FROM orders_{i % DISTINCT} o JOIN c ON c.id = o.c_id {where}"

size = 8 * 1024 * 1024
memo = Memo(size)
for i in range(1, 500):
    memo.get(text(-i))
before = resident()
for i in range(50_000):
    memo.get(text(i))
growth = resident() - before
assert memo.size <= size, memo.size
print(growth / size, len(memo))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("distinct", [50, 50_000], ids=["sets shared", "no set shared"])
def test_50000_texts_stay_within_the_budget(distinct: int) -> None:
    code = GROWTH.replace("DISTINCT", str(distinct))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    growth, texts = done.stdout.split()
    assert float(growth) <= 1.3
    assert int(texts) > 3_000


def test_a_text_seen_is_the_same_object() -> None:
    memo = Memo()
    assert memo.get("SELECT 1") is memo.get("SELECT " + "1")
    assert len(memo) == 1


def test_what_is_used_survives_what_is_not() -> None:
    memo = Memo(100_000)
    hot = memo.get("SELECT 'hot'")
    for i in range(1_000):
        memo.get(f"SELECT {i}")
        assert memo.get("SELECT 'hot'") is hot
        assert 0 < memo.size <= 100_000
    cold = memo.get("SELECT 5")
    assert cold is memo.get("SELECT 5")


def test_big_texts_are_not_remembered() -> None:
    memo = Memo(64_000)
    assert memo.get(f"SELECT '{'x' * 2_000}'").writes == frozenset()
    assert len(memo) == 0


def test_refused_texts_are_not_remembered() -> None:
    memo = Memo()
    with pytest.raises(StatementRejected):
        memo.get("SELECT '\0'")
    assert len(memo) == 0


def test_clear() -> None:
    memo = Memo()
    memo.get("SELECT 1")
    memo.clear()
    assert (len(memo), memo.size) == (0, 0)


def test_threads_agree_and_the_count_stays_right() -> None:
    memo = Memo(60_000)
    wrong: list[str] = []

    def work(seed: int) -> None:
        for i in range(2_000):
            text = f"SELECT {(i * seed) % 300}"
            if memo.get(text).text != text:
                wrong.append(text)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 3, 7, 11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert memo.size <= 60_000
    entries = [*memo._young.values(), *memo._old.values()]
    assert memo.size == sum(entry.cost for entry in entries)


def test_importing_heliosproxy_does_not_import_the_parser() -> None:
    code = "import sys, heliosproxy, heliosproxy.sql.memo; assert 'pglast' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
