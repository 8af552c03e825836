"""`heliosproxy serve` in processes of its own: its memory, its console, and whether it has come to rest."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from ..common import ROOT

SOON = 30.0
"""Seconds within which what has been asked for has happened, however busy the machine is."""

BUSY = """
    SELECT pid, state, query FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND backend_type = 'client backend' AND state NOT IN ('idle', 'disabled')
"""
BACKENDS = """
    SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND backend_type = 'client backend'
"""


def compiled() -> bool:
    """Whether the hot modules are."""
    from heliosproxy.server.client import express

    return not str(express.__file__).endswith(".py")


def soon(true: Callable[[], bool]) -> bool:
    """Whether *true* becomes so."""
    end = time.monotonic() + SOON
    while not (result := true()) and time.monotonic() < end:
        time.sleep(0.02)  # what is waited for is in other processes, and has no bell
    return result


class Server:
    """A server, as it is seen from outside.

    Attributes:
        dsn: the database behind it.
        where: its address on TCP.
        path: that of its Unix socket.
        pid: of the supervisor.
        pool: server connections it may have.
    """

    def __init__(self, process: subprocess.Popen[str], dsn: str, folder: Path, pool: int) -> None:
        self.process, self.pid = process, process.pid
        self.dsn, self.pool = dsn, pool
        self.folder = folder
        self.path = str(folder / ".s.PGSQL.5432")
        if process.stdout is None or not (line := process.stdout.readline()).startswith("listening on "):
            raise RuntimeError(f"it did not start: {self.errors}")
        host, _, port = line.removeprefix("listening on ").split(", ")[0].rpartition(":")
        self.where = (host, int(port))

    @property
    def errors(self) -> str:
        """What it has logged."""
        return (self.folder / "errors").read_text(errors="replace")

    @property
    def failures(self) -> int:
        """Tracebacks in it."""
        return self.errors.count("Traceback")

    # -- memory --------------------------------------------------------------------------------------

    @property
    def _processes(self) -> list[int]:
        workers = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [self.pid, *map(int, workers)]

    def memory(self, field: str = "VmRSS") -> int:
        """Bytes that the supervisor and its workers hold now; with ``VmHWM`` the most since `forget_peak`."""
        total = 0
        for pid in self._processes:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            total += next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
        return total

    def forget_peak(self) -> None:
        """Begin anew with the most memory held."""
        for pid in self._processes:
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    # -- its console ---------------------------------------------------------------------------------

    def console(self, command: str) -> list[dict[str, Any]]:
        """What the console says, on a connection of its own."""
        user = conninfo_to_dict(self.dsn)["user"]
        with psycopg.connect(
            host=str(self.folder), port=5432, user=user, dbname="heliosproxy", autocommit=True
        ) as conn:
            cursor = conn.cursor(row_factory=dict_row).execute(command)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def counts(self) -> dict[str, int]:
        """What is under way by what it says of itself: waiting, leased, logging in, clients."""
        pools = self.console("SHOW POOLS")
        clients = [row for row in self.console("SHOW CLIENTS") if row["database"] != "heliosproxy"]
        return {
            "waiting": sum(row["cl_waiting"] for row in pools),
            "active": sum(row["sv_active"] for row in pools),
            "login": sum(row["sv_login"] for row in pools),
            "counted": sum(row["cl_active"] + row["cl_waiting"] for row in pools),
            "clients": len(clients),
        }

    def faults(self, clients: int = 0) -> list[str]:
        """What is not as it must be when nobody asks for anything and *clients* are connected; waits a while for it."""
        quiet = {"waiting": 0, "active": 0, "login": 0, "counted": clients, "clients": clients}
        with psycopg.connect(self.dsn, autocommit=True) as direct:

            def busy() -> list[Any]:
                return direct.execute(BUSY).fetchall()

            found = []
            if not soon(lambda: self.counts() == quiet):
                found.append(f"it says {self.counts()}, and should {quiet}")
            if not soon(lambda: not busy()):
                found.append(f"backends that are not idle: {busy()}")
            known = {row["id"] for row in self.console("SHOW SERVERS")}
            if len(known) > self.pool:
                found.append(f"{len(known)} server connections, of {self.pool}")
            if self.failures:
                found.append(f"tracebacks: {self.errors[-4000:]}")
        return found

    def beside_the_pool(self) -> int:
        """Backends that are none of its pool's: those it asks the catalogue by, if no connection was lost sight of."""
        with psycopg.connect(self.dsn, autocommit=True) as direct:
            backends = {pid for (pid,) in direct.execute(BACKENDS)}
            return len(backends - {row["id"] for row in self.console("SHOW SERVERS")})


@contextlib.contextmanager
def serving(
    dsn: str,
    mode: str = "transaction",
    *arguments: str,
    pool: int = 50,
    tls: tuple[Path, Path] | None = None,
    **environment: str,
) -> Iterator[Server]:
    """A server for *dsn* on TCP and on a Unix socket; *environment*: keys of its configuration, ``POOL__TIMEOUT="5"``.

    Raises:
        AssertionError: it has logged a traceback.
    """
    settings = {"POOL__SERVER_CONNECTIONS": str(pool), **environment}
    if tls is not None:
        settings["SERVER__TLS_CERT"], settings["SERVER__TLS_KEY"] = map(str, tls)
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    env |= {f"HELIOSPROXY_{name}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "heliosproxy", "serve", dsn, "--mode", mode, *arguments]
    with tempfile.TemporaryDirectory(prefix="helios") as name:
        folder = Path(name)
        command += ["--listen", "127.0.0.1:0", "--listen", name]
        with (folder / "errors").open("w") as errors:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, text=True, env=env, cwd=ROOT
            )
        try:
            server = Server(process, dsn, folder, pool)
            yield server
        finally:
            process.terminate()
            try:
                process.communicate(timeout=SOON)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
        if server.failures:
            raise AssertionError(server.errors[-4000:])


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key, made with openssl."""
    cert, key = folder / "server.crt", folder / "server.key"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    subprocess.run(
        [*command.split(), "-keyout", str(key), "-out", str(cert)],
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    key.chmod(0o600)
    return cert, key
