"""What ``import heliosproxy`` does to a process: threads, sockets, modules, CPU time.

    python -m benchmarks.imports [--json] [--quick]

Each import happens in a process of its own, psycopg's and ours in turns: what we cost more than psycopg, which
is imported anyway, is what the ratio tells.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import Any

from .common import ROOT, bar, command

HEAVY = ("sklearn", "strawberry", "wasmtime", "redis", "pglast", "pydantic")
CODE = """
import json, os, sys, time
before = set(sys.modules)
start = time.process_time()
import {module}
cpu = time.process_time() - start
found = {{"cpu_ms": cpu * 1000, "modules": len(set(sys.modules) - before)}}
found["loaded"] = sorted({heavy!r} & set(sys.modules))
found["threads"] = len(os.listdir("/proc/self/task"))
sockets = 0
for number in os.listdir("/proc/self/fd"):
    try:
        sockets += os.readlink("/proc/self/fd/" + number).startswith("socket:")
    except FileNotFoundError:  # the descriptor that listed the folder
        pass
print(json.dumps({{**found, "sockets": sockets}}))
"""


def imported(module: str) -> dict[str, Any]:
    """What importing *module* did to a new process."""
    code = CODE.format(module=module, heavy=set(HEAVY))
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=ROOT,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def run(dsn: str | None = None, *, quick: bool = False) -> dict[str, Any]:
    """Measure; *dsn* is not used: importing needs no server."""
    names = ("psycopg", "heliosproxy", "heliosproxy.dbapi", "heliosproxy.proxy")
    rounds: list[dict[str, dict[str, Any]]] = []
    for number in range((2 if quick else 41) + 1):
        found = {name: imported(name) for name in names}
        if number:  # the first one writes .pyc files
            rounds.append(found)
    rows = {}
    for name in names:
        costs = [found[name]["cpu_ms"] for found in rounds]
        pairs = [found[name]["cpu_ms"] / found["psycopg"]["cpu_ms"] for found in rounds]
        last = rounds[-1][name]
        rows[name] = {
            "cpu_ms": statistics.median(costs),
            "x psycopg": statistics.median(pairs),
            "modules": last["modules"],
            "threads": max(found[name]["threads"] for found in rounds),
            "sockets": max(found[name]["sockets"] for found in rounds),
            "heavy": " ".join(last["loaded"]) or "-",
        }
    ours = rows["heliosproxy"]
    bars = {
        "import heliosproxy: threads": bar(ours["threads"], 1),
        "import heliosproxy: sockets": bar(ours["sockets"], 0),
        f"import heliosproxy: of {', '.join(HEAVY)}": bar(len(rounds[-1]["heliosproxy"]["loaded"]), 0),
    }
    return {"import": rows, "bars": bars}


def main() -> None:
    """Print a table, or with --json one object."""
    command(__doc__, run)


if __name__ == "__main__":
    main()
