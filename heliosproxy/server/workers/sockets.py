"""Sockets of the supervisor, which keeps them: a worker may die, what waits to be accepted, or to move, stays."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Sequence
from typing import Any

from ...errors import ConfigError

BACKLOG = 4096
"""Clients that may wait to be accepted: more than 2,000 come within a second of a failover (hazards/wire.md, 16)."""

_ADVICE = {
    errno.EADDRINUSE: ": end the program that listens there, or choose another port",
    errno.ENOENT: ": make the folder first, for the account that this server runs as",
    errno.EACCES: ": this account may not listen there; ports below 1024 are the system's",
    errno.EADDRNOTAVAIL: ": it is no address of this machine",
}


class Listening:
    """The sockets of all addresses.

    Attributes:
        addresses: as they were given, with the port that port 0 became.
    """

    def __init__(self, addresses: Sequence[str], workers: int = 1) -> None:
        """Bind them.

        Args:
            addresses: ``host:port``, or a folder for a Unix socket of port 5432, ``folder:port`` of another.
            workers: on Linux each has sockets of its own for a TCP address, among which the kernel spreads the
                clients; elsewhere, and on Unix sockets, all accept from the same one.

        Raises:
            ConfigError: an address cannot be listened on.
        """
        self.addresses: list[str] = []
        self._sockets: list[list[socket.socket]] = [[] for _ in range(workers)]
        self._paths: list[str] = []
        try:
            for address in addresses:
                self._bind(address)
        except (OSError, ValueError) as error:
            self.close()
            advice = _ADVICE.get(getattr(error, "errno", 0) or 0, "")
            raise ConfigError(f"server.listen: {address}: {error}{advice}", key="server.listen") from None

    def of(self, worker: int) -> list[socket.socket]:
        """Those of one worker."""
        return self._sockets[worker]

    def close(self) -> None:
        """Close them, and remove the files of Unix sockets."""
        for sockets in self._sockets:
            for each in sockets:
                each.close()
        for path in self._paths:
            with contextlib.suppress(OSError):
                os.unlink(path)

    def _bind(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        if address.startswith("/"):
            path = os.path.join(host or address, f".s.PGSQL.{port if host else '5432'}")
            self._share(_unix(path))
            self._paths.append(path)
            self.addresses.append(address)
            return
        number = int(port)
        spread = sys.platform == "linux" and len(self._sockets) > 1
        infos: Any = socket.getaddrinfo(
            host.strip("[]") or None, number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, _, _, _, name in dict.fromkeys(infos):
            if spread and number:
                _tcp(family, name, False).close()  # else the kernel would let us share another server's port
            for at in range(len(self._sockets) if spread else 1):
                # Port 0: the first one chooses for all.
                each = _tcp(family, (name[0], number, *name[2:]), spread)
                number = number or each.getsockname()[1]
                if spread:
                    self._sockets[at].append(each)
                else:
                    self._share(each)
        self.addresses.append(f"{host}:{number}")

    def _share(self, one: socket.socket) -> None:
        for sockets in self._sockets:
            sockets.append(one)


def _tcp(family: int, name: tuple[object, ...], spread: bool) -> socket.socket:
    options = [(socket.SOL_SOCKET, socket.SO_REUSEADDR)]
    if spread:
        options.append((socket.SOL_SOCKET, socket.SO_REUSEPORT))
    if family == socket.AF_INET6:
        options.append((socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
    return _listening(family, name, options)


def _unix(path: str) -> socket.socket:
    _remove_stale(path)
    return _listening(socket.AF_UNIX, path, ())


def _listening(family: int, name: Any, options: Sequence[tuple[int, int]]) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        for level, option in options:
            made.setsockopt(level, option, 1)
        made.bind(name)
        made.listen(BACKLOG)
        made.setblocking(False)
    except BaseException:
        made.close()
        raise
    return made


def _remove_stale(path: str) -> None:
    """Remove the socket file of a server that is gone; one that somebody listens on stays, and bind says so."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        except OSError:
            return


def moving_line() -> tuple[socket.socket, socket.socket]:
    """Both ends of a line on which clients move; what is sent waits there for whoever reads next."""
    kind = getattr(socket, "SOCK_SEQPACKET", socket.SOCK_DGRAM)
    ends = socket.socketpair(socket.AF_UNIX, kind)
    for each in ends:
        each.setblocking(False)
        with contextlib.suppress(OSError):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    return ends
