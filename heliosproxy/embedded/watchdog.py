"""Process trees, and the program that ends them when their owner has died.

Run as a script (``python -I -S watchdog.py FOLDER``) it reads lines from its standard input: ``+PID`` a
server was started, ``-PID`` it has ended, ``done`` everything is cleaned up. When the input ends without
``done``, the owner died without cleaning up (``kill -9``): every server still listed is killed and FOLDER is
removed. A pipe is used and not ``PR_SET_PDEATHSIG``, because the latter exists on Linux only and follows the
thread that started the child.

Only the standard library is imported: the script runs without site-packages, to start fast.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

_POLL = 0.005  # seconds between two looks at the process table


def process_table() -> dict[int, int]:
    """Every running process: its id to its parent's id. Zombies, which hold no resource, are left out."""
    table: dict[int, int] = {}
    if sys.platform == "linux":
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                stat = Path("/proc", entry, "stat").read_bytes()
            except OSError:
                continue  # ended since the listing
            # The second field is the name in parentheses and may itself contain spaces and parentheses.
            state, parent = stat[stat.rindex(b")") + 2 :].split(b" ", 2)[:2]
            if state not in (b"Z", b"X"):
                table[int(entry)] = int(parent)
    else:
        listing = subprocess.run(
            ["/bin/ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, check=True, text=True
        ).stdout
        for line in listing.splitlines():
            pid, parent, state = line.split(None, 2)
            if not state.startswith("Z"):
                table[int(pid)] = int(parent)
    return table


def descendants(pid: int) -> set[int]:
    """The ids of the children of *pid*, their children, and so on; without *pid*. Zombies are left out."""
    table = process_table()
    found: set[int] = set()
    generation = {pid}
    while generation:
        generation = {child for child, parent in table.items() if parent in generation} - found
        found |= generation
    return found


def send(pid: int, number: signal.Signals) -> None:
    """Sends a signal; a process that has ended already is no error."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def freeze(pid: int) -> set[int]:
    """Stops *pid* and its descendants (SIGSTOP), the parent first so that it cannot start further ones.

    Returns:
        The ids of the descendants.
    """
    send(pid, signal.SIGSTOP)
    stopped: set[int] = set()
    # A stopped process may still have been in fork() when it was listed: look until nothing new appears.
    while fresh := descendants(pid) - stopped:
        for child in fresh:
            send(child, signal.SIGSTOP)
        stopped |= fresh
    return stopped


def thaw(pid: int) -> None:
    """Lets *pid* and its descendants run again (SIGCONT), the children first: the parent may need them."""
    for child in descendants(pid):
        send(child, signal.SIGCONT)
    send(pid, signal.SIGCONT)


def kill(pid: int, timeout: float = 10.0) -> None:
    """Ends *pid* and its descendants with SIGKILL and waits until they are gone.

    PostgreSQL's server processes each lead a session of their own, so a signal to a process group would miss
    them.

    Args:
        timeout: seconds to wait at most.

    Raises:
        TimeoutError: a process is still there after *timeout* (it hangs in the kernel).
    """
    children = freeze(pid)
    for process in (*children, pid):
        send(process, signal.SIGKILL)
    deadline = time.monotonic() + timeout
    while left := (children | {pid}) & process_table().keys():
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes {sorted(left)} did not end within {timeout} s of SIGKILL")
        time.sleep(_POLL)


def drop_shared_memory(data_dir: Path) -> None:
    """Removes the System V segment that a killed PostgreSQL left behind.

    The kernel keeps such segments for ever and grants few of them (32 on macOS, 4096 on Linux).
    """
    try:
        lines = (data_dir / "postmaster.pid").read_text().splitlines()
        segment = int(lines[6].split()[1])  # the seventh line is "key id"
    except (OSError, IndexError, ValueError):
        return  # ended cleanly, or so early that there was no segment yet
    ctypes.CDLL(None).shmctl(segment, 0, None)  # 0 is IPC_RMID; failure means that it is gone already


def main(folder: Path) -> None:
    """Reads the owner's lines until the end of the input; see the module's text."""
    servers: dict[int, None] = {}
    for line in sys.stdin:
        word = line.strip()
        if word == "done":
            return
        if word.startswith("+"):
            servers[int(word[1:])] = None
        else:
            servers.pop(int(word[1:]), None)
    for pid in servers:
        with contextlib.suppress(TimeoutError):
            kill(pid)
    for data_dir in folder.glob("*"):
        drop_shared_memory(data_dir)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
