"""One administrator after the login: commands come in by either query protocol, tables and tags go out."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from ..client import replies
from ..protocol import backend, frontend
from ..protocol.errors import ProtocolViolation
from ..protocol.frames import PARTIAL, Piece
from .command import READING, Command, parse
from .commands import columns, perform

if TYPE_CHECKING:
    from ..client.link import Link
    from ..service import Service

logger = logging.getLogger("heliosproxy.server")

DATABASES = frozenset({"heliosproxy", "pgbouncer"})
"""Names of the database that is none; the second one for what expects to find PgBouncer."""

QUERY, PARSE, BIND, DESCRIBE, EXECUTE, CLOSE, SYNC, FLUSH, TERMINATE = b"QPBDECSHX"
_OIDS = {"text": 25, "int4": 23, "int8": 20}
_SIZES = {"text": -1, "int4": 4, "int8": 8}
_READY = backend.ready_for_query(b"I")
_IMPLICIT = ("SET", "RESET", "DISCARD", "BEGIN", "COMMIT", "ROLLBACK", "DEALLOCATE")
"""Drivers and tools say this on their own: it is answered, and means nothing here."""


class Console:
    """What a `Link` has in place of a conversation with a server.

    Args:
        acts: it may do more than look.
    """

    waits, running = False, None

    def __init__(self, link: Link, service: Service, *, acts: bool) -> None:
        self.inbox: deque[Piece] = deque()
        self._link = link
        self._service = service
        self.acts = acts
        self._statements: dict[bytes, Command] = {}
        self._portals: dict[bytes, Command] = {}
        self._skipping = False
        self._task: asyncio.Task[None] | None = None

    @property
    def at_rest(self) -> bool:
        """Whether nothing is under way."""
        return self._task is None

    @property
    def movable(self) -> bool:
        """Whether another process could take it over."""
        return not self._statements

    def swiftly(self, data: bytes) -> bool:
        """Nothing here is in a hurry."""
        return False

    whole = swiftly

    def numbers(self) -> dict[str, Any]:
        """What the console says of it."""
        return {
            "state": "active",
            "server": 0,
            "pins": [],
            "prepared": len(self._statements),
            "application_name": "",
        }

    def close(self) -> None:
        """The client is gone."""
        self.inbox.clear()
        if self._task is not None:
            self._task.cancel()

    def pump(self) -> None:
        """Go on with what waits in `inbox`."""
        if self.inbox and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        try:
            while self.inbox:
                await self._take(*self.inbox.popleft())
            self._link.drained()
        except ProtocolViolation as violation:
            self._link.refuse(violation)
        except Exception:
            logger.exception("serving the console to %s failed", self._link.peer)
            self._link.refuse(ProtocolViolation("internal error: see the log of the proxy", sqlstate="XX000"))
        finally:
            self._task = None

    async def _take(self, kind: int, buffer: bytes, start: int, end: int) -> None:
        if kind & PARTIAL or kind not in b"QPBDECSHX":
            raise ProtocolViolation(f"invalid frontend message type {kind & 0xFF}")
        write = self._link.write
        if kind == TERMINATE:
            self._link.close()
        elif kind == SYNC:
            self._skipping = False
            write(_READY)
        elif kind == QUERY:
            try:
                command = self._allowed(_text(frontend.parse_query(buffer, start, end)))
                write(_described(command, only_rows=True) + await self._performed(command))
            except ProtocolViolation as violation:
                write(replies.error(violation))
            write(_READY)
        elif kind != FLUSH and not self._skipping:
            try:
                write(await self._extended(kind, buffer, start, end))
            except ProtocolViolation as violation:
                self._skipping = True
                write(replies.error(violation))

    async def _extended(self, kind: int, buffer: bytes, start: int, end: int) -> bytes:
        if kind == PARSE:
            name, text, _ = frontend.split_parse(buffer, start, end)
            self._statements[name] = self._allowed(_text(text))
            return replies.PARSE_COMPLETE
        if kind == BIND:
            bind = frontend.parse_bind(buffer, start, end)
            if any(bind.result_formats):
                raise _refused("0A000", "the console has text only: ask for results in text format")
            if bind.statement not in self._statements:
                raise _refused("26000", f"prepared statement {_text(bind.statement)!r} does not exist")
            self._portals[bind.portal] = self._statements[bind.statement]
            return frontend.message(b"2", b"")
        if kind == DESCRIBE:
            what, name = frontend.parse_describe(buffer, start, end)
            known = self._statements if what == ord("S") else self._portals
            if name not in known:
                raise _refused("26000" if what == ord("S") else "34000", f"{_text(name)!r} does not exist")
            parameters = frontend.message(b"t", b"\0\0") if what == ord("S") else b""
            return parameters + _described(known[name])
        if kind == CLOSE:
            what, name = frontend.parse_describe(buffer, start, end)
            (self._statements if what == ord("S") else self._portals).pop(name, None)
            return replies.CLOSE_COMPLETE
        name, _ = frontend.parse_execute(buffer, start, end)
        if name not in self._portals:
            raise _refused("34000", f"portal {_text(name)!r} does not exist")
        return await self._performed(self._portals[name])

    def _allowed(self, text: str) -> Command:
        first = text.split(None, 1)[0].upper().rstrip(";") if text.strip(" ;\n\t") else ""
        command = Command("EMPTY", first) if first in _IMPLICIT else parse(text)
        columns(command)  # is there such a table?
        if command.verb not in READING and not self.acts:
            raise _refused("42501", f"{command.verb} is for server.admin_users: this user may SHOW")
        return command

    async def _performed(self, command: Command) -> bytes:
        if command.verb not in READING:
            who = self._link.greeting
            logger.info("%s, says %s", " ".join(command).rstrip(), "" if who is None else who.user)
        if command.verb == "EMPTY":
            tag = command.argument.encode()
            return backend.command_complete(tag) if tag else frontend.message(b"I", b"")
        result = await perform(self._service, command)
        out = [replies.notice(result.notice)] if result.notice else []
        for row in result.rows or ():
            out.append(backend.data_row([None if value is None else _shown(value) for value in row]))
        out.append(backend.command_complete(result.tag.encode()))
        return b"".join(out)


def _described(command: Command, *, only_rows: bool = False) -> bytes:
    found = columns(command)
    if found is None:
        return b"" if only_rows else frontend.message(b"n", b"")
    parts = [len(found).to_bytes(2, "big")]
    for name, kind in found:
        size = _SIZES[kind].to_bytes(2, "big", signed=True)
        parts.append(
            name.encode() + b"\0" + bytes(6) + _OIDS[kind].to_bytes(4, "big") + size + b"\xff" * 4 + bytes(2)
        )
    return frontend.message(b"T", b"".join(parts))


def _shown(value: Any) -> bytes:
    return str(value).encode()


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _refused(sqlstate: str, text: str) -> ProtocolViolation:
    return ProtocolViolation(text, sqlstate=sqlstate, fatal=False)
