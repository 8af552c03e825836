"""A worker, as its supervisor sees it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Any

from .lines import Lines, Message, line
from .quota import Holder

logger = logging.getLogger("heliosproxy.server")

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def fork(serve: Callable[[], None]) -> int:
    """A new process that runs *serve* and ends; returns its number."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # else both would write what is in it
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for which in SIGNALS:
            signal.signal(which, signal.SIG_DFL)
        serve()
        status = 0
    except BaseException:
        logger.exception("a worker ends by an error")
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)  # what the supervisor wants done at its exit is not ours to do


class Child:
    """One worker process.

    Attributes:
        slot: its place among the workers; a newer one of the same place takes over from it.
        serial: its number among all that ever were; its name in messages and in the console.
        pid: of the process.
        generation: of the configuration it serves.
        line: to it.
        holder: its part of the server connections; None = there is no cap.
        since: when it was started, on the monotonic clock.
        heard: when it last reported.
        serving: it accepts clients, and nobody has told it to stop.
        finishing: it was told to end.
        deadline: when it is killed.
        deaf: its end of the line is closed; nothing more is said to it, nor heard of it.
    """

    def __init__(
        self, slot: int, serial: int, pid: int, generation: int, line_: socket.socket, holder: Holder | None
    ) -> None:
        self.slot = slot
        self.serial = self.number = serial
        self.pid = pid
        self.generation = generation
        self.line = line_
        self.holder = holder
        self.since = self.heard = time.monotonic()
        self.serving = self.finishing = self.deaf = False
        self.deadline = inf
        self.unsent = bytearray()
        self._lines = Lines()

    def hear(self) -> list[Message] | None:
        """What it has sent; None when its end of the line is closed."""
        try:
            data = self.line.recv(1 << 16)
        except BlockingIOError:
            return []
        except OSError:
            return None
        return self._lines.feed(data) if data else None

    def send(self, message: Message) -> None:
        """Send *message*, as soon as it takes it; one that is stopped stops nobody, one that is deaf hears nothing."""
        if not self.deaf:
            self.unsent += line(message)
            self.flush()

    def flush(self) -> None:
        """Send what it has not taken yet."""
        with suppress(OSError):  # full, or gone: `hear` and `wait` find out
            while self.unsent:
                del self.unsent[: self.line.send(self.unsent)]

    def finish(self, do: str, *args: object, within: float) -> None:
        """Let it end by *do*; it is killed after *within* seconds."""
        self.serving, self.finishing = False, True
        deadline = time.monotonic() + within
        self.deadline = min(self.deadline, deadline) if self.deaf else deadline
        self.send({"do": do, "args": args})

    def lose(self, within: float) -> None:
        """It has closed its end of the line: it ends by itself, or is killed after *within* seconds."""
        self.deaf = True
        self.deadline = min(self.deadline, time.monotonic() + within)
        self.unsent.clear()

    def report(self, size: int, leased: int, waiting: int) -> None:
        """It says how many server connections it has, how many of them are leased, and how many clients wait."""
        self.heard = time.monotonic()
        if self.holder is not None:
            self.holder.report(size, leased, waiting)

    def numbers(self, now: float) -> dict[str, Any]:
        """What the console says of it, *now* being the monotonic clock."""
        return {
            "number": self.number,
            "pid": self.pid,
            "generation": self.generation,
            "state": self._state,
            "age": now - self.since,
            "silent": now - self.heard,
            "quota": None if self.holder is None else self.holder.quota,
        }

    @property
    def _state(self) -> str:
        if self.finishing or self.deaf:
            return "ending"
        return "serving" if self.serving else "starting"

    def kill(self) -> None:
        """Kill it, as the last resort."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def ended(self) -> str:
        """How it ended; "" while it runs."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return ""
        code = os.waitstatus_to_exitcode(status)
        return f"killed by signal {-code}" if code < 0 else f"exit status {code}"
