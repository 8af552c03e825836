"""Running a suite once, in a process of its own against a cluster of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from heliosproxy.embedded import Cluster
from heliosproxy.proxy import Proxy
from heliosproxy.server.running import Serving

from .suites import PSYCOPG, Suite, cache_dir, environment
from .verdict import Result, Run

# A suite that dies on one test goes on behind it. One that dies on so many is better looked at by hand.
MAX_DEATHS = 10

WIRE = "wire-"
"""Begins the variants that put our server between a stock driver and the database."""

_HERE = Path(__file__).parent


def run_suite(suite: Suite, folder: Path, variant: str, arguments: Sequence[str] = ()) -> Run:
    """Runs the suite in *folder* with *variant* in the place of the stock driver and a direct connection.

    Args:
        arguments: for pytest, to run a part; its output then goes to the terminal, otherwise to a log file.
    """
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster(replicas=0, settings=suite.settings))
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        dsn = cluster.primary.dsn.removesuffix("postgres") + suite.database
        if suite.database != "postgres":
            cluster.primary.sql(f"CREATE DATABASE {suite.database}")
        if suite.setup:
            with psycopg.connect(dsn, autocommit=True) as conn:
                conn.execute(suite.setup)
        if variant.startswith(WIRE):
            dsn = stack.enter_context(_served(dsn, variant.removeprefix(WIRE)))
        report, began, label = scratch / "report.jsonl", time.monotonic(), suite.label(variant)
        for attempt in range(MAX_DEATHS):
            command = _command(suite, dsn, variant, scratch / f"cache{attempt}", arguments)
            env = _environment(suite, variant, report) | environment(suite, dsn)
            status = _pytest(command, folder, env, None if arguments else log_file(label))
            events = list(_events(report))
            if any("end" in event for event in events) or not _bury(report, events, status):
                break
        return _collect(label, time.monotonic() - began, not arguments, list(_events(report)), status)


@contextmanager
def _served(dsn: str, mode: str) -> Iterator[str]:
    """The DSN of our server in front of *dsn*."""
    given = conninfo_to_dict(dsn)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = {
        "pool": {"mode": mode, "server_connections": 80},
        "node": [{"name": "primary", "dsn": dsn}],
    }
    with Serving(Proxy(config), own=True, addresses=[f"127.0.0.1:{port}"]):
        yield f"postgresql://{given['user']}@127.0.0.1:{port}/{given['dbname']}"


def log_file(label: str) -> Path:
    return cache_dir() / f"{label}.log"


def _command(suite: Suite, dsn: str, variant: str, cache: Path, arguments: Sequence[str]) -> list[str]:
    command = [sys.executable, *suite.flags, "-m", "pytest", "-p", "psycopg_plugin"]
    command += [part for plugin in suite.plugins for part in ("-p", plugin)]
    command += ["-p", "no:randomly", "-p", "no:xdist", "-o", f"cache_dir={cache}"]
    command += [argument.format(dsn=dsn, url=suite.url(dsn, variant)) for argument in suite.arguments]
    if not arguments:
        return [*command, "-q", "-rN", "--no-header", "--durations=15", *suite.paths]
    top = suite.paths[0].partition("/")[0]
    paths = [argument for argument in arguments if argument.startswith(top)]
    return [*command, *arguments, *([] if paths else suite.paths)]


def _environment(suite: Suite, variant: str, report: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "PSYCOPG"))}
    return kept | {
        "PYTHONPATH": str(_HERE),
        "PYTHONPYCACHEPREFIX": str(cache_dir() / "pycache"),  # the suite's folder is not ours
        # But for psycopg's own suite its psycopg is stock: what is under test is a server, or a dialect.
        "HELIOSPROXY_CONFORMANCE_MODE": "stock"
        if suite is not PSYCOPG or variant.startswith(WIRE)
        else variant,
        "HELIOSPROXY_CONFORMANCE_REPORT": str(report),
    }


def _pytest(command: list[str], folder: Path, env: dict[str, str], log: Path | None) -> int:
    if log is None:
        # Standard output is the verdict's, or --json's.
        return subprocess.run(command, cwd=folder, env=env, stdout=sys.stderr).returncode
    # The report of an earlier attempt is there: its log goes on.
    mode = "ab" if Path(env["HELIOSPROXY_CONFORMANCE_REPORT"]).exists() else "wb"
    with log.open(mode) as file:
        return subprocess.run(command, cwd=folder, env=env, stdout=file, stderr=file).returncode


def _events(report: Path) -> Iterator[dict[str, Any]]:
    if report.exists():
        for line in report.read_text().splitlines():
            yield json.loads(line)


def _bury(report: Path, events: list[dict[str, Any]], status: int) -> bool:
    """Records the test on which the process ended; False when it was not on a test."""
    finished = {event.get("id") for event in events}
    dead = [event["start"] for event in events if "start" in event and event["start"] not in finished]
    with report.open("a") as file:
        for test in dead:
            event = {"id": test, "outcome": "crashed", "line": f"the process ended with status {status}"}
            file.write(json.dumps(event) + "\n")
    return bool(dead)


def _collect(variant: str, seconds: float, whole: bool, events: list[dict[str, Any]], status: int) -> Run:
    results = {event["id"]: Result(event["outcome"], event["line"]) for event in events if "id" in event}
    ends = [event["end"] for event in events if "end" in event]
    # pytest: 0 is all passed, 1 some failed, 5 none selected. Anything else is no result, or no end.
    if not ends or status not in (0, 1, 5):
        results["(the run)"] = Result("crashed", f"pytest ended with status {status}")
    elif not any("exit" in event for event in events):
        results["(the end)"] = Result(
            "hang", "the interpreter did not end by itself; the log has its threads"
        )
    return Run(variant, round(seconds, 1), whole, results, ends[-1] if ends else None)
