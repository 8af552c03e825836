"""A TCP relay that loses the reply to a message, or the message itself, at the worst moment."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

_CHUNK = 1 << 16


class Relay:
    """Listens, and relays each connection to the server of *dsn*.

    Attributes:
        dsn: through the relay.
        trap: the message in which a client's connection is to be cut; b"" = none. Springs once.
        deliver: whether the server still gets that message.
    """

    def __init__(self, dsn: str) -> None:
        parts = urlsplit(dsn)
        self._server = (parts.hostname or "", parts.port or 0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.dsn = dsn.replace(f":{parts.port}/", f":{self._listener.getsockname()[1]}/")
        self.trap = b""
        self.deliver = True
        self._held: tuple[socket.socket, bytes] | None = None
        self._sockets: list[socket.socket] = [self._listener]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def release(self) -> None:
        """Let the server have the message it did not get; its connection stays open."""
        assert self._held is not None
        server, message = self._held
        server.sendall(message)

    def hang_up(self) -> None:
        """Close the server's side of the connection that was cut."""
        assert self._held is not None
        _close(self._held[0])

    def close(self) -> None:
        for one in self._sockets:
            _close(one)
        for thread in self._threads:
            thread.join()

    def _start(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                self._sockets += [client, server]
                self._start(self._upstream, client, server)
                self._start(self._downstream, server, client)

    def _upstream(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(_CHUNK):
                if self.trap and self.trap in data:
                    self.trap = b""
                    self._held = (server, data)
                    _close(client)  # first: the reply must find nobody
                    if self.deliver:
                        server.sendall(data)
                    return
                server.sendall(data)
        _close(server)

    def _downstream(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(_CHUNK):
                client.sendall(data)
        _close(client)


def _close(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


@contextmanager
def relay(dsn: str) -> Iterator[Relay]:
    """A relay for the time of a test."""
    made = Relay(dsn)
    try:
        yield made
    finally:
        made.close()
