"""Importing starts nothing and loads little (H8): in a fresh process, because this one has long since begun."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

# What only features need that are not on yet. The analysis of SQL (pglast) and the configuration (pydantic) are
# loaded by the first connect(), not by the import.
HEAVY = ("sklearn", "strawberry", "wasmtime", "redis", "pglast", "pydantic", "starlette", "typer", "rich")

CODE = """
import json, os, sys, threading
happened = []

def watch(event, arguments):
    if event.startswith(("socket.", "_thread.", "subprocess.", "os.fork", "os.posix_spawn")):
        happened.append(event)

sys.addaudithook(watch)
start = threading.Thread.start
threading.Thread.start = lambda self: (happened.append("Thread.start"), start(self))
import {module}
threads, sockets = threading.active_count(), 0
if sys.platform == "linux":
    threads = len(os.listdir("/proc/self/task"))  # those that C code starts, too
    for number in os.listdir("/proc/self/fd"):
        try:
            sockets += os.readlink("/proc/self/fd/" + number).startswith("socket:")
        except FileNotFoundError:  # the descriptor that listed the folder
            pass
heavy = sorted(set({heavy!r}) & set(sys.modules))
print(json.dumps({{"happened": happened, "threads": threads, "sockets": sockets, "heavy": heavy}}))
"""


def _imported(module: str) -> dict[str, Any]:
    code = CODE.format(module=module, heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_importing_is_quiet_and_light() -> None:
    assert _imported("heliosproxy") == {"happened": [], "threads": 1, "sockets": 0, "heavy": []}


@pytest.mark.parametrize("module", ["heliosproxy.dbapi", "heliosproxy.proxy", "heliosproxy.cache.service"])
def test_importing_its_parts_is_quiet(module: str) -> None:
    found = _imported(module)
    assert (found["happened"], found["threads"], found["sockets"]) == ([], 1, 0)


def test_the_watch_sees_what_it_watches_for() -> None:
    found = _imported(
        "threading, socket, time; kept = socket.socket();"
        " threading.Thread(target=time.sleep, args=(5,), daemon=True).start()"
    )
    assert "Thread.start" in found["happened"]
    assert any(event.startswith("socket.") for event in found["happened"])
    assert found["threads"] == 2
    if sys.platform == "linux":
        assert found["sockets"] == 1
