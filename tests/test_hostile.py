"""Hostile input over every face: answered exactly as plain psycopg is, and the connection is usable behind it.

What differs from plain psycopg stands in `OURS`, and nowhere else.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.hostile.scenarios import EVIL, SCENARIOS

ROOT = Path(__file__).parent.parent

REFUSED = ["error", "StatementRejected", "22021"]

# Where we say it otherwise, and why. Plain psycopg hands libpq a C string, which ends at the NUL: the server
# would run another statement than the one that was asked for.
OURS: dict[str, Any] = {"nul in text": REFUSED, "nul in bytes": REFUSED}


@cache
def answers(dsn: str, face: str, mode: str) -> tuple[dict[str, Any], str]:
    """What a process that ran all scenarios over *face* said; and how it ended."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.hostile.program", dsn, face, mode],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    found: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        name, outcomes = json.loads(line)
        found[name] = outcomes
    return found, f"exit status {done.returncode}: {done.stderr[-2000:]}"


@pytest.fixture(scope="module")
def hostile_dsn(dsn: str) -> Iterator[str]:
    yield dsn
    answers.cache_clear()
    with psycopg.connect(dsn, autocommit=True) as conn:
        evil = sql.Identifier(EVIL)
        conn.execute(sql.SQL("DROP OWNED BY {}").format(evil))
        conn.execute(sql.SQL("DROP ROLE {}").format(evil))


CASES = [
    ("sync session", "transactions"),
    ("sync transaction", "transactions"),
    ("sync transaction", "autocommit"),
    ("sync statement", "autocommit"),
    ("async session", "autocommit"),
    ("async transaction", "transactions"),
]


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize(("face", "mode"), CASES, ids=map(", ".join, CASES))
def test_as_plain_psycopg(hostile_dsn: str, face: str, mode: str, name: str) -> None:
    if SCENARIOS[name].block and "statement" in face:
        return  # it has no transactions
    plain, end = answers(hostile_dsn, "plain", mode)
    assert name in plain, end
    ours, end = answers(hostile_dsn, face, mode)
    assert ours.get(name, "never begun") != "begun", f"it killed the process: {end}"
    if name in OURS:
        given = [answer for answer in ours[name][:-2:2] if answer != "no block"]
        assert given == [OURS[name]] * len(given)
        assert ours[name][-2:] == plain[name][-2:]
        return
    steps = SCENARIOS[name].steps()
    for number, (expected, answer) in enumerate(zip(plain[name], ours[name], strict=True)):
        step = steps[number] if number < len(steps) else "usable"
        assert answer == expected, f"step {number}: {str(step)[:300]}"


@pytest.mark.parametrize(("face", "mode"), CASES, ids=map(", ".join, CASES))
def test_the_process_ends_well(hostile_dsn: str, face: str, mode: str) -> None:
    _, end = answers(hostile_dsn, face, mode)
    assert end == "exit status 0: "
