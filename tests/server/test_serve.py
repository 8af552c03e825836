"""``heliosproxy serve``, as a process of its own."""

from __future__ import annotations

import signal
from pathlib import Path

import psycopg
import pytest

from tests.server.processes import Start, connect, ready


def test_it_serves_a_database_and_ends_with_sigterm(start: Start, dsn: str, tmp_path: Path) -> None:
    process = start(dsn, "--listen", str(tmp_path), "--mode", "transaction", "--cache")
    ready(process)
    with connect(tmp_path, dsn, autocommit=True) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


def test_sigterm_waits_for_a_transaction(start: Start, dsn: str, tmp_path: Path) -> None:
    process = start(dsn, "--listen", str(tmp_path), "--mode", "transaction")
    ready(process)
    busy, idle = connect(tmp_path, dsn), connect(tmp_path, dsn, autocommit=True)
    with busy:
        busy.execute("SELECT 1")
        process.send_signal(signal.SIGTERM)
        with pytest.raises(psycopg.OperationalError):  # it had nothing to lose, and was told so
            while True:
                idle.execute("SELECT 1")
        idle.close()
        assert busy.execute("SELECT 2").fetchone() == (2,)
        busy.commit()
    assert process.wait(20) == 0


def test_ctrl_c_ends_it_at_once(start: Start, dsn: str, tmp_path: Path) -> None:
    process = start(dsn, "--listen", str(tmp_path))
    ready(process)
    with connect(tmp_path, dsn) as conn:
        conn.execute("SELECT 1")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        conn.close()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "no server"),
        (("postgresql://app@db/shop", "--listen", "0.0.0.0:6432"), "everybody would be let in"),
        (("postgresql://app@db/shop", "--listen", "127.0.0.1:6432", "--mode", "swift"), "pool.mode"),
        (("postgresql://app@db/shop", "--listen", "/nowhere/at/all"), "server.listen"),
        (("-c", "/nowhere.toml"), "/nowhere.toml"),
    ],
)
def test_what_cannot_be_started_says_why_and_exits_with_2(
    start: Start, arguments: tuple[str, ...], told: str
) -> None:
    process = start(*arguments)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert told in errors
    assert "Traceback" not in errors
