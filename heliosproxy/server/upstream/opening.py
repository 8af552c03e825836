"""Opening a server connection: socket, TLS, login, and what a first one is asked."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import psycopg

from ...errors import UnsupportedError
from ...sql.harmless import HARMLESS
from ..keepalive import keep_alive
from ..login import tls
from ..login.certificates import end_point_hash
from ..login.errors import LoginRefused
from ..login.login import ServerLogin
from ..login.targets import Destination, Target
from ..login.tls import UpstreamTls
from ..protocol import backend, frontend
from ..protocol.errors import ProtocolViolation
from ..protocol.frames import Frames, Piece
from .connection import Upstream

if TYPE_CHECKING:
    from ..home import Home

AUTHENTICATION, KEY, PARAMETER, READY, ERROR, NOTICE, ROW = b"RKSZEND"


class Dialogue(asyncio.Protocol):
    """A connection that is read message by message, before its `Upstream` takes over."""

    def __init__(self) -> None:
        self.transport: Any = None
        self._frames = Frames(backend=True)
        self._pieces: deque[Piece] = deque()
        self._raw = b""
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self.plain = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.plain:
            self._raw += data
        else:
            try:
                self._pieces.extend(self._frames.feed(data))
            except ProtocolViolation as error:
                self._error = error
        self._wake()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._error = self._error or error or EOFError()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        if isinstance(self._error, ProtocolViolation):
            raise ConnectionError(
                f"what answers there does not speak PostgreSQL's protocol ({self._error}): are host and port right?"
            )
        if self._error is not None:
            raise ConnectionError(_words(self._error) or "the server closed the connection unexpectedly")
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    async def byte(self) -> bytes:
        """One byte that is no message: the answer to SSLRequest."""
        while not self._raw:
            await self._wait()
        first, self._raw = self._raw[:1], self._raw[1:]
        return first

    async def message(self) -> tuple[int, bytes]:
        """The next message: kind, and the whole of it."""
        while not self._pieces:
            await self._wait()
        kind, buffer, start, end = self._pieces.popleft()
        return kind, buffer[start:end]

    async def rows(self, query: bytes) -> list[list[bytes | None]]:
        """The rows of one *query*."""
        self.transport.write(frontend.query(query))
        found: list[bytes] = []  # runs of rows: one may begin or end within a row
        refused = b""
        while True:
            kind, data = await self.message()
            if kind & 0xFF == ROW:  # a run may end within a row
                found.append(data)
            elif kind == ERROR:
                refused = data
            elif kind == READY:
                if refused:
                    raise refusal(refused)
                return list(_rows(b"".join(found)))

    def into(self, upstream: Upstream) -> None:
        """Everything further goes to *upstream*."""
        self.transport.set_protocol(upstream)


def _rows(data: bytes) -> Iterator[list[bytes | None]]:
    at = 0
    while at < len(data):
        end = at + 1 + int.from_bytes(data[at + 1 : at + 5], "big")
        count = int.from_bytes(data[at + 5 : at + 7], "big")
        place, row = at + 7, []
        for _ in range(count):
            size = int.from_bytes(data[place : place + 4], "big", signed=True)
            place += 4
            row.append(None if size < 0 else data[place : place + size])
            place += max(size, 0)
        yield row
        at = end


def refusal(data: bytes) -> psycopg.Error:
    """The error that an ErrorResponse stands for, of psycopg's class."""
    fields = backend.parse_error(data)
    try:
        kind = psycopg.errors.lookup(fields.get("C", ""))
    except KeyError:
        kind = psycopg.OperationalError
    error = kind(fields.get("M", "the server refused"))
    error.sqlstate = fields.get("C")
    return error


class Reach:
    """How a server connection was reached: for cancel requests, and for people.

    Attributes:
        target: the server.
        destination: the connection string it is from.
    """

    __slots__ = ("destination", "target")

    def __init__(self, destination: Destination, target: Target) -> None:
        self.destination = destination
        self.target = target

    def __str__(self) -> str:
        return str(self.target)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection by itself, for a cancel request: libpq's, too, go unencrypted where a server lets them."""
        if self.target.path:
            return await asyncio.open_unix_connection(_socket(self.target))
        return await asyncio.open_connection(self.target.hostaddr or self.target.host, self.target.port)


async def open_upstream(home: Home, destination: Destination) -> Upstream:
    """Connect to the first server of *destination* that lets us in.

    Raises:
        psycopg.OperationalError: none can be reached, or none speaks the protocol (08006).
        psycopg.Error: the last one refused the login, with its own sqlstate.
        ConfigError: what the connection string says of TLS cannot be done.
        UnsupportedError: it asks for what this version does not do.
    """
    refuse_unavailable(destination)
    targets = list(destination.targets)
    if destination.shuffle:
        random.shuffle(targets)
    words: dict[str, Any] = dict(destination.tls)
    how = tls.upstream(**words)
    failed: psycopg.Error | None = None
    for target in targets:
        attempts = (False,) if target.path else how.attempts
        for encrypted in attempts:
            try:
                async with asyncio.timeout(destination.connect_timeout):
                    opened = await _attempt(home, destination, target, how if encrypted else None)
                home.outage.over()
                return opened
            except (OSError, LoginRefused) as error:
                text = _words(error) or "timed out"
                failed = psycopg.OperationalError(f"connection to server at {target} failed: {text}")
                failed.sqlstate = "08006"
            except psycopg.Error as error:
                failed = error
    failed = failed or psycopg.OperationalError("there is no server to connect to")
    home.outage.failed(failed)
    raise failed


def _words(error: Exception) -> str:
    """What *error* says, without the system's number."""
    if isinstance(error, ssl.SSLError) or not isinstance(error, OSError) or error.errno is None:
        return str(error)
    return os.strerror(error.errno) if error.errno > 0 else error.strerror or str(error)


def refuse_unavailable(destination: Destination) -> None:
    """What a connection string asks for and this version does not do is refused by name, never ignored.

    Raises:
        UnsupportedError: it asks for such a thing.
    """
    asked = {
        "target_session_attrs": destination.session_attrs != "any",
        "requirepeer": bool(destination.require_peer),
        "min_protocol_version": destination.login.protocol[0] > (3, 0),
    }
    for name, wanted in asked.items():
        if wanted:
            raise UnsupportedError(f"{name} in a [[node]]'s dsn: not supported by this version: leave it out")


async def _attempt(home: Home, destination: Destination, target: Target, how: UpstreamTls | None) -> Upstream:
    dialogue = await _connected(destination, target)
    try:
        encrypted = await _encrypted(dialogue, target, how)
        return await _logged_in(home, destination, target, dialogue, encrypted)
    except BaseException:
        dialogue.transport.abort()
        raise


async def _encrypted(dialogue: Dialogue, target: Target, how: UpstreamTls | None) -> Any:
    """The SSLObject of the line; None = it is not encrypted."""
    if how is None or how.context is None:
        return None
    if not how.direct:
        dialogue.plain = True
        dialogue.transport.write(frontend.ssl_request())
        answer = await dialogue.byte()
        dialogue.plain = False
        if answer != b"S":
            if len(how.attempts) > 1:
                return None  # sslmode=prefer: without, then, on the same connection
            raise LoginRefused("the server does not support SSL, but sslmode asks for it")
    loop = asyncio.get_running_loop()
    name = how.server_hostname(target.host)
    transport = await loop.start_tls(dialogue.transport, dialogue, how.context, server_hostname=name or "")
    dialogue.transport = transport
    found: Any = transport.get_extra_info("ssl_object") if transport is not None else None
    how.check(found)
    return found


async def _logged_in(
    home: Home, destination: Destination, target: Target, dialogue: Dialogue, encrypted: Any
) -> Upstream:
    who, transport = destination.login, dialogue.transport
    startup = {name.encode(): value.encode(errors="surrogateescape") for name, value in who.startup.items()}
    transport.write(frontend.startup(startup))
    certificate = encrypted.getpeercert(binary_form=True) if encrypted is not None else None
    login = ServerLogin(
        who.user,
        target.password,
        keys=who.keys,
        tls=encrypted is not None,
        binding=end_point_hash(certificate) if certificate else None,
        channel_binding=who.channel_binding,
        methods=who.methods,
    )
    reported: dict[bytes, bytes] = {}
    pid, key = 0, b""
    while True:
        kind, data = await dialogue.message()
        if kind == AUTHENTICATION:
            answer = login.answer(int.from_bytes(data[5:9], "big"), data[9:])
            if answer is not None:
                transport.write(frontend.password(answer))
        elif kind == PARAMETER:
            name, value = backend.parse_parameter_status(data, 0, len(data))
            reported[name] = value
        elif kind == KEY:
            pid, key = int.from_bytes(data[5:9], "big"), data[9:]
        elif kind == ERROR:
            raise refusal(data)
        elif kind == READY:
            break
    if not login.done:
        raise LoginRefused("the server did not complete the login")
    if home.harmless is None:
        rows = await dialogue.rows(HARMLESS)
        home.harmless = frozenset(row[0].decode("utf-8", "replace") for row in rows if row[0])
    home.reported = dict(reported)
    reach = Reach(destination, target)
    upstream = Upstream(transport, reported, pid, key, reach, home.upstreams.discard)
    home.upstreams.add(upstream)
    dialogue.into(upstream)
    return upstream


def _socket(target: Target) -> str:
    return "\0" + target.path[1:] if target.path.startswith("@") else target.path


async def _connected(destination: Destination, target: Target) -> Dialogue:
    loop = asyncio.get_running_loop()
    if target.path:
        _, dialogue = await loop.create_unix_connection(Dialogue, _socket(target))
        return dialogue
    transport, dialogue = await loop.create_connection(Dialogue, target.hostaddr or target.host, target.port)
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    keep_alive(sock, destination.keepalive)
    return dialogue
