"""Opening a server connection: socket, TLS, login, and what a first one is asked."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import psycopg

from ...sql.harmless import HARMLESS
from ..login.errors import LoginRefused
from ..protocol import backend, frontend
from ..protocol.errors import ProtocolViolation
from ..protocol.frames import Frames, Piece
from .connection import Upstream

if TYPE_CHECKING:
    from ..home import Home
    from .target import Target

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
        if self._error is not None:
            raise psycopg.OperationalError(
                f"connection to server failed: {self._error or 'server closed the connection unexpectedly'}"
            )
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
            if kind == ROW:
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


async def open_upstream(home: Home, target: Target) -> Upstream:
    """Connect to *target* and log in.

    Raises:
        psycopg.OperationalError: it cannot be reached, or it does not speak the protocol.
        psycopg.Error: it refused the login, with its own sqlstate.
    """
    dialogue = await _connected(target)
    transport = dialogue.transport
    try:
        transport.write(frontend.startup(target.startup))
        reported: dict[bytes, bytes] = {}
        pid, key = 0, b""
        login = target.login()
        while True:
            kind, data = await dialogue.message()
            if kind == AUTHENTICATION:
                code = int.from_bytes(data[5:9], "big")
                answer = login.answer(code, data[9:])
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
        if home.harmless is None:
            rows = await dialogue.rows(HARMLESS)
            home.harmless = frozenset(row[0].decode("utf-8", "replace") for row in rows if row[0])
        home.reported = dict(reported)
        upstream = Upstream(dialogue.transport, reported, pid, key, target, home.upstreams.discard)
        home.upstreams.add(upstream)
        dialogue.into(upstream)
    except LoginRefused as error:
        transport.abort()
        raise psycopg.OperationalError(f"connection to server at {target} failed: {error}") from None
    except BaseException:
        transport.abort()
        raise
    return upstream


async def _connected(target: Target) -> Dialogue:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(target.connect_timeout):
            if target.path:
                _, dialogue = await loop.create_unix_connection(Dialogue, target.path)
            else:
                _, dialogue = await loop.create_connection(Dialogue, target.host, target.port)
            return dialogue
    except (OSError, TimeoutError) as error:
        raise psycopg.OperationalError(
            f"connection to server at {target} failed: {error or 'timed out'}"
        ) from None
