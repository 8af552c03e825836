"""Reloads that fail, clients that cannot move, restarts in a row: who is served is served on."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.server.test_workers import Served, soon, workers

__all__ = ["workers"]  # a fixture

Make = Callable[..., Served]


def where(served: Served) -> dict[int, int]:
    """The workers of clients, by process number."""
    rows = served.console("SHOW CLIENTS")
    return {row["id"]: row["worker"] for row in rows if row["database"] != "heliosproxy"}


def generations(served: Served) -> list[int]:
    """Of those that serve."""
    return [row["generation"] for row in served.workers() if row["state"] == "serving"]


def test_two_restarts_in_a_row_are_both_carried_out(workers: Make) -> None:
    served = workers(2)
    client = served.connect()
    served.console("RESTART")
    served.console("RESTART")
    assert soon(lambda: generations(served) == [3, 3] and len(served.workers()) == 2)
    assert client.execute("SELECT 7").fetchone() == (7,)


def test_a_client_whose_state_is_too_large_to_move_stays_and_goes_on_working(
    workers: Make, dsn: str, tmp_path: Path
) -> None:
    file = tmp_path / "heliosproxy.toml"
    text = f'[pool]\nmode = "transaction"\ntimeout = 7\n[[node]]\nname = "primary"\ndsn = "{dsn}"\n'
    file.write_text(text)
    served = workers(1, "--config", str(file))
    large, small = served.connect(), served.connect()
    large.pgconn.prepare(b"big", b"SELECT 1 /*" + b"x" * 200_000 + b"*/")
    file.write_text(text.replace("timeout = 7", "timeout = 8"))
    served.process.send_signal(signal.SIGHUP)
    assert soon(
        lambda: (
            generations(served) == [2]
            and where(served) == {large.info.backend_pid: 1, small.info.backend_pid: 2}
        )
    )
    assert large.pgconn.exec_prepared(b"big", None).get_value(0, 0) == b"1"


def test_who_is_cut_off_at_the_end_of_a_drain_is_told(workers: Make) -> None:
    served = workers(1, HELIOSPROXY_SERVER__DRAIN_TIMEOUT="0.2")
    busy = served.connect(autocommit=False)
    busy.execute("CREATE TABLE begun_in_vain (n int)")
    served.console("RESTART")
    assert soon(lambda: [row["worker"] for row in served.workers()] == [2])
    with pytest.raises(psycopg.errors.AdminShutdown):
        busy.execute("SELECT 1")


def test_a_reload_without_its_certificate_changes_nothing(
    workers: Make, certificates: Path, dsn: str, tmp_path: Path
) -> None:
    for name in ("server.crt", "server.key"):
        shutil.copy(certificates / name, tmp_path / name)
    (tmp_path / "server.key").chmod(0o600)
    file = tmp_path / "heliosproxy.toml"
    file.write_text(
        f'[pool]\nmode = "transaction"\n[server]\ntls_cert = "{tmp_path}/server.crt"\n'
        f'tls_key = "{tmp_path}/server.key"\n[[node]]\nname = "primary"\ndsn = "{dsn}"\n'
    )
    served = workers(2, "--config", str(file))
    client = served.connect(sslmode="disable")
    (tmp_path / "server.crt").unlink()
    served.process.send_signal(signal.SIGHUP)
    for command in ("RELOAD", "RESTART"):
        with pytest.raises(psycopg.Error, match=r"server\.crt"):
            served.console(command)
    assert generations(served) == [1, 1]
    assert client.execute("SELECT 7").fetchone() == (7,)
    client.close()
    served.process.terminate()
    _, errors = served.process.communicate(timeout=30)
    assert "SIGHUP: nothing was changed" in errors
    assert "server.crt" in errors
    assert "Traceback" not in errors
