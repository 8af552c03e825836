"""One server program: starting it, and every way of ending or stopping it."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from heliosproxy.embedded import watchdog
from heliosproxy.embedded.home import EmbeddedError, Home, tail, wait_until


class Server:
    """The process of a server, which may be started and ended any number of times.

    Args:
        home: where it lives; its watchdog ends it if this process dies.
        name: unique in *home*; names the log.
    """

    def __init__(self, home: Home, name: str) -> None:
        self.name = name
        self.log = home.path / f"{name}.log"
        self._home = home
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        """Whether the process exists; a frozen one does."""
        return self._running() is not None

    def launch(
        self, arguments: Sequence[str | Path], ready: Callable[[], bool], timeout: float = 60.0
    ) -> None:
        """Starts the program and waits until *ready*.

        Args:
            timeout: seconds.

        Raises:
            EmbeddedError: it ended, or was not ready in time; the message ends with the tail of the log.
        """
        self._popen = popen = self._home.popen(arguments, self.log)
        self._home.tell(f"+{popen.pid}")
        try:
            wait_until(lambda: not self.alive or ready(), timeout, f"{self.name} accepts connections")
        except EmbeddedError as error:
            self.kill()
            raise EmbeddedError(f"{error}\n{tail(self.log)}") from None
        if not self.alive:
            raise EmbeddedError(f"{self.name} did not start: {arguments[0]} ended\n{tail(self.log)}")

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the main process; nothing happens when it is not alive."""
        if popen := self._running():
            popen.send_signal(number)

    def freeze(self) -> None:
        """Stops every process of the server (SIGSTOP): its sockets stay open and silent."""
        if popen := self._running():
            watchdog.freeze(popen.pid)

    def thaw(self) -> None:
        """Lets a frozen server go on; nothing happens to one that runs."""
        if popen := self._running():
            watchdog.thaw(popen.pid)

    def kill(self) -> None:
        """``kill -9`` of every process of the server, frozen or not; returns when they are gone."""
        if popen := self._running():
            watchdog.kill(popen.pid)
            popen.wait()
            self._running()

    def _running(self) -> subprocess.Popen[bytes] | None:
        # Several threads may ask (one kills, another waits): none may rely on what self._popen was a moment
        # ago.
        popen = self._popen
        if popen is None or popen.poll() is None:
            return popen
        self._popen = None
        self._home.tell(f"-{popen.pid}")
        return None
