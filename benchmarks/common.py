"""What the benchmarks share: a server, measuring in turns, fresh processes, tables and bars."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

_WIDTH = 16
ROOT = Path(__file__).resolve().parent.parent


class Cost(NamedTuple):
    """Microseconds per call: CPU of the calling thread, CPU of the process with all its threads, time gone by."""

    cpu: float
    process: float
    wall: float


class Turns:
    """What calls cost that were measured in turns: A B C A B C …

    Whatever disturbs the machine disturbs neighbours alike, so what is compared is each round's own pair, and
    the median of these over all rounds.
    """

    def __init__(self, calls: Mapping[str, Callable[[], object]], times: int, rounds: int) -> None:
        """Measure *rounds* rounds of *times* calls of each of *calls*, after one round that does not count."""
        self.costs: dict[str, list[Cost]] = {name: [] for name in calls}
        for call in calls.values():
            _block(call, times)
        for _ in range(rounds):
            for name, call in calls.items():
                self.costs[name].append(_block(call, times))

    def median(self, name: str) -> Cost:
        """The median of *name*, of each measure for itself."""
        return Cost(*(statistics.median(column) for column in zip(*self.costs[name], strict=True)))

    def above(self, name: str, base: str) -> float:
        """Microseconds of CPU that *name* takes more than *base*."""
        pairs = zip(self.costs[name], self.costs[base], strict=True)
        return statistics.median(mine.cpu - its.cpu for mine, its in pairs)

    def ratio(self, name: str, base: str, measure: str = "cpu") -> float:
        """How many times as much *name* takes as *base*."""
        pairs = zip(self.costs[name], self.costs[base], strict=True)
        return statistics.median(getattr(mine, measure) / getattr(its, measure) for mine, its in pairs)

    def table(self, base: str | None = None) -> dict[str, dict[str, float]]:
        """A row per call; with *base*, what it costs more than that."""
        rows = {}
        for name in self.costs:
            cost = self.median(name)
            rows[name] = {"cpu_us": cost.cpu, "process_us": cost.process, "wall_us": cost.wall}
            if base is not None:
                rows[name]["cpu_above_us"] = self.above(name, base)
        return rows


def _block(call: Callable[[], object], times: int) -> Cost:
    wall, process, cpu = time.perf_counter_ns(), time.process_time_ns(), time.thread_time_ns()
    for _ in repeat(None, times):
        call()
    cpu, process = time.thread_time_ns() - cpu, time.process_time_ns() - process
    wall = time.perf_counter_ns() - wall
    return Cost(*(spent / times / 1000 for spent in (cpu, process, wall)))


def bar(value: float, at_most: float) -> dict[str, float]:
    """A figure that a budget of the design limits."""
    return {"value": value, "at_most": at_most}


def quantile(values: list[float], share: float) -> float:
    """The value that *share* of *values* do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def rss() -> int:
    """Bytes of memory this process holds now."""
    fields = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in fields if line.startswith("VmRSS:"))


def fresh(module: str, **arguments: Any) -> Any:
    """What ``module.inside(**arguments)`` returns, called in a new process of its own."""
    code = (
        "import importlib, json, sys\n"
        "name, arguments = sys.argv[1], json.loads(sys.argv[2])\n"
        "print(json.dumps(importlib.import_module(name).inside(**arguments)))"
    )
    command = [sys.executable, "-c", code, module, json.dumps(arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    return json.loads(done.stdout)


@contextlib.contextmanager
def apart() -> Iterator[Callable[[], None]]:
    """Servers on one half of the processors, the client on the other: call the yielded function in between.

    Left to itself the scheduler puts a backend beside its client or on top of it, for as long as a connection
    lives, which decides more about its figures than what is measured. Does nothing where there is one processor,
    or no way to choose.
    """
    choose = getattr(os, "sched_setaffinity", None)
    mine = sorted(os.sched_getaffinity(0)) if choose else []
    if choose is None or len(mine) < 2:
        yield lambda: None
        return
    half = len(mine) // 2
    choose(0, mine[half:])
    try:
        yield lambda: choose(0, mine[:half])
    finally:
        choose(0, mine)


@contextlib.contextmanager
def server(dsn: str | None, settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """A PostgreSQL server's *dsn*; None starts an embedded one."""
    if dsn is not None:
        yield dsn
        return
    from heliosproxy.embedded import Cluster

    with Cluster(replicas=0, settings=settings) as cluster:
        yield cluster.primary.dsn


def command(doc: str | None, run: Callable[..., dict[str, Any]]) -> None:
    """``main()`` of a benchmark: print what *run* found, as tables or as one JSON object."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument("--dsn", help="a PostgreSQL server; default: an embedded one")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes: does it work? The figures mean little"
    )
    arguments = parser.parse_args()
    found = run(arguments.dsn, quick=arguments.quick)
    if arguments.json:
        print(json.dumps(found))
    else:
        show(found)


def show(found: Mapping[str, Any]) -> None:
    """Print a table per section of *found*, then the bars."""
    for title, rows in found.items():
        if title == "bars":
            continue
        tables = all(isinstance(row, dict) for row in rows.values())
        columns = list(dict.fromkeys(key for row in rows.values() for key in row)) if tables else [""]
        print(f"\n{title:44}" + "".join(f"{column:>{_WIDTH}}" for column in columns))
        for name, row in rows.items():
            cells = [row.get(column) for column in columns] if tables else [row]
            print(f"  {name:42}" + "".join(f"{_cell(cell):>{_WIDTH}}" for cell in cells))
    print()
    for name, figure in found.get("bars", {}).items():
        verdict = "ok  " if figure["value"] <= figure["at_most"] else "OVER"
        print(f"{verdict} {name:60} {_cell(figure['value']):>10}  at most {_cell(figure['at_most'])}")


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "" if value is None else str(value)
