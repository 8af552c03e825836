"""Clients that speak the protocol by hand: one for asyncio, light enough for thousands, and one that blocks."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from heliosproxy.server.protocol import frontend

HEAD = struct.Struct("!ci")
Messages = list[tuple[bytes, bytes]]
"""Kinds and bodies, in order."""

Answer = dict[bytes, bytes]
"""The last message of each kind."""


def messages(data: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Kind and body of the whole messages in *data*, and what is left."""
    found: list[tuple[bytes, bytes]] = []
    at = 0
    while len(data) - at >= 5:
        kind, size = HEAD.unpack_from(data, at)
        if len(data) - at < 1 + size:
            break
        found.append((kind, data[at + 5 : at + 1 + size]))
        at += 1 + size
    return found, data[at:]


def sqlstate(error: bytes) -> str:
    """That of the body of an ErrorResponse."""
    return next((field[1:].decode() for field in error.split(b"\0") if field[:1] == b"C"), "")


def names(dsn: str, **more: str) -> dict[bytes, bytes]:
    """What a startup packet says, for the user and the database of *dsn*."""
    from psycopg.conninfo import conninfo_to_dict

    given = conninfo_to_dict(dsn)
    said = {"user": str(given["user"]), "database": str(given["dbname"]), **more}
    return {name.encode(): value.encode() for name, value in said.items()}


class Client(asyncio.Protocol):
    """A client that reads whole answers.

    Attributes:
        begun: called once when the next byte of an answer comes; None = nobody wants to know.
    """

    def __init__(self) -> None:
        self.pid = 0
        self.key = b""
        self.begun: Any = None
        self.transport: Any = None
        self._data = b""
        self._found: Answer = {}
        self._answer: asyncio.Future[Answer] | None = None
        self._lost = False

    @classmethod
    async def connect(cls, where: str | tuple[str, int], startup: Mapping[bytes, bytes]) -> Client:
        """Log in by a Unix socket, or by TCP."""
        loop = asyncio.get_running_loop()
        if isinstance(where, str):
            _, client = await loop.create_unix_connection(cls, where)
        else:
            _, client = await loop.create_connection(cls, *where)
        found = await client.send(frontend.startup(startup))
        if b"K" not in found:
            raise ConnectionError(repr(found))
        client.pid, client.key = int.from_bytes(found[b"K"][:4], "big"), found[b"K"][4:]
        return client

    def connection_made(self, transport: Any) -> None:
        """It is connected."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer."""
        if self.begun is not None:
            begun, self.begun = self.begun, None
            begun()
        found, self._data = messages(self._data + data)
        self._found.update(found)
        if found and found[-1][0] == b"Z" and self._answer is not None:
            answer, self._answer = self._answer, None
            answer.set_result(self._found)

    def connection_lost(self, error: Exception | None) -> None:
        """Whoever waits learns that nothing will come."""
        self._lost = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(f"hung up on: {self._found.get(b'E', b'')!r}"))

    def send(self, data: bytes) -> asyncio.Future[Answer]:
        """Send *data*; what comes up to ReadyForQuery."""
        if self._lost:
            raise ConnectionError("hung up on")
        self._found = {}
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(data)
        return self._answer

    def ask(self, text: str) -> asyncio.Future[Answer]:
        """The answer to a Query."""
        return self.send(frontend.query(text.encode()))

    def close(self) -> None:
        """Hang up."""
        self.transport.close()


class Stuck(AssertionError):
    """Nothing came for a client within a time that is ample."""


class Peer:
    """A client that blocks, and that may say anything."""

    PATIENCE = 30.0

    def __init__(
        self,
        where: str | tuple[str, int],
        startup: Mapping[bytes, bytes] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Connect, and log in where *startup* is given."""
        self.sock = socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET)
        self.sock.settimeout(self.PATIENCE)
        self.sock.connect(where)
        if not isinstance(where, str):
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pid = 0
        self.key = b""
        self._data = b""
        if tls is not None:
            self.sock.sendall(frontend.ssl_request())
            if self.sock.recv(1) != b"S":
                raise ConnectionError("it does not speak TLS")
            self.sock = tls.wrap_socket(self.sock)
        if startup is not None:
            self.send(frontend.startup(startup))
            for kind, body in self.answer():
                if kind == b"K":
                    self.pid, self.key = int.from_bytes(body[:4], "big"), body[4:]

    def send(self, data: bytes) -> None:
        """Send *data*."""
        self.sock.sendall(data)

    def ask(self, text: str) -> Messages:
        """The answer to a Query."""
        self.send(frontend.query(text.encode()))
        return self.answer()

    def message(self) -> tuple[bytes, bytes] | None:
        """The next message, kind and body; None where it was hung up on.

        Raises:
            Stuck: it does not come.
        """
        while len(self._data) < 5 or len(self._data) < 1 + int.from_bytes(self._data[1:5], "big"):
            try:
                data = self.sock.recv(1 << 16)
            except TimeoutError:
                raise Stuck("waited in vain for a message") from None
            except ConnectionError:
                return None
            if not data:
                return None
            self._data += data
        size = 1 + int.from_bytes(self._data[1:5], "big")
        whole, self._data = self._data[:size], self._data[size:]
        return whole[:1], whole[5:]

    def until(self, *kinds: bytes) -> Messages:
        """What comes up to a message of one of *kinds*.

        Raises:
            Stuck: it does not come.
            ConnectionError: it was hung up on.
        """
        found: Messages = []
        while True:
            try:
                message = self.message()
            except Stuck as stuck:
                stuck.add_note(f"for one of {kinds} behind {found}")
                raise
            if message is None:
                raise ConnectionError(f"hung up on: {found}")
            found.append(message)
            if message[0] in kinds:
                return found

    def answer(self) -> Messages:
        """What comes up to ReadyForQuery."""
        return self.until(b"Z")

    @property
    def silent(self) -> bool:
        """Whether nothing of it is there to be read."""
        if self._data:
            return False
        self.sock.setblocking(False)
        try:
            self._data = self.sock.recv(1 << 16)
        except BlockingIOError:
            return True
        finally:
            self.sock.settimeout(self.PATIENCE)
        return False

    def leaves(self) -> None:
        """Say that nothing more comes, and see that the other side hangs up, too.

        Raises:
            Stuck: it does not.
        """
        try:
            self.sock.shutdown(socket.SHUT_WR)
            while self.sock.recv(1 << 16):
                pass
        except TimeoutError:
            raise Stuck("hung up, and the other side does not") from None
        except OSError:
            pass  # it has done so before
        finally:
            self.sock.close()

    def close(self) -> None:
        """Hang up at once."""
        self.sock.close()


@contextlib.contextmanager
def closing_all(peers: list[Peer]) -> Iterator[list[Peer]]:
    """Hang up for all of *peers* behind the block."""
    try:
        yield peers
    finally:
        for each in peers:
            each.close()


def cancel(where: str | tuple[str, int], pid: int, key: bytes) -> None:
    """Cancel what the client *pid* runs; returns when the request is delivered."""
    peer = Peer(where)
    peer.send(frontend.cancel_request(pid, key))
    with contextlib.suppress(ConnectionError):
        peer.until(b"")
    peer.close()
