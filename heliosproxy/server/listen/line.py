"""The connection that listens: commands out, their outcomes and notifications in."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from ..protocol import backend, frontend
from ..protocol.errors import ProtocolViolation
from ..protocol.frames import Frames

if TYPE_CHECKING:
    from ..upstream.connection import Upstream
    from .listener import Listener

logger = logging.getLogger("heliosproxy.server")

READY, ERROR, NOTIFICATION = b"ZEA"


class Line(asyncio.Protocol):
    """Takes over the socket of *upstream*, whose login is complete."""

    def __init__(self, listener: Listener, upstream: Upstream) -> None:
        self._listener: Listener | None = listener
        self._upstream = upstream
        self._transport: Any = upstream.transport
        self._frames = Frames(backend=True)
        self._outcomes: deque[asyncio.Future[bool] | None] = deque()
        self._error = b""
        self._transport.set_protocol(self)

    def ask(self, command: bytes, outcome: asyncio.Future[bool] | None = None) -> None:
        """Send *command*; whether the server has carried it out becomes the result of *outcome*."""
        self._outcomes.append(outcome)
        self._transport.write(frontend.query(command))

    def close(self) -> None:
        """Nobody listens any more."""
        self._listener = None
        self._transport.write(frontend.TERMINATE)
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Take what the server sent apart."""
        try:
            for kind, buffer, start, end in self._frames.feed(data):
                if kind == NOTIFICATION:
                    if self._listener is not None:
                        self._listener.heard(buffer[start:end])
                elif kind == ERROR:
                    self._error = buffer[start:end]
                elif kind == READY:
                    outcome, failed, self._error = self._outcomes.popleft(), self._error, b""
                    if outcome is not None and not outcome.done():
                        outcome.set_result(not failed)
        except ProtocolViolation as violation:
            logger.error("server %s broke the protocol: %s", self._upstream.address, violation)
            self._transport.abort()
        except Exception:  # a mistake of ours: nobody may wait for what will not come
            logger.exception("a notification of server %s could not be handled", self._upstream.address)
            self._transport.abort()

    def eof_received(self) -> bool:
        """The server has hung up; so do we."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Whoever listens learns that something may be lost."""
        self._upstream.closed(self._upstream)
        listener, self._listener = self._listener, None
        if listener is not None:
            said = backend.parse_error(self._error).get("M", "") if self._error else ""
            logger.warning(
                "the listening connection to %s was lost: %s", self._upstream.address, said or error
            )
            listener.lost()
