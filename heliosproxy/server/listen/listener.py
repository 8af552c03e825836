"""The listening connection of one pool: opened with the first LISTEN of a client, closed when nobody listens.

It is beside the pool's server connections, and does not count among them. A channel is listened to as long as a
client wants it; each new one is confirmed by the server before any client is told so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING

from .audience import Audience
from .line import Line

if TYPE_CHECKING:
    from ..upstream.connection import Upstream
    from .ears import Ears

logger = logging.getLogger("heliosproxy.server")


class Listener:
    """Who listens to what, and the connection that does it for them.

    Args:
        connect: opens a server connection.
    """

    def __init__(self, connect: Callable[[], Awaitable[Upstream]]) -> None:
        self._connect = connect
        self._audience: Audience[Ears] = Audience()
        self._heard: dict[bytes, asyncio.Future[bool]] = {}  # by channel: whether the server listens to it
        self._line: Line | None = None
        self._opening: asyncio.Task[None] | None = None

    def reach(self, ears: Ears, channel: bytes) -> asyncio.Future[bool]:
        """*ears* want to hear *channel*, from now on; True once the server listens to it, False if it does not."""
        if self._audience.add(ears, channel):
            self._heard[channel] = asyncio.get_running_loop().create_future()
            if self._line is not None:
                self._ask(self._line, channel)
            elif self._opening is None:
                self._opening = asyncio.get_running_loop().create_task(self._open())
        return self._heard[channel]

    def keep(self, ears: Ears, channels: Collection[bytes]) -> None:
        """*ears* want no other *channels* any more."""
        for channel in self._audience.keep(ears, channels):
            future = self._heard.pop(channel)
            if not future.done():
                future.set_result(False)
            if self._line is not None:
                self._line.ask(b"UNLISTEN " + _quoted(channel))
        if not self._audience and self._line is not None:
            line, self._line = self._line, None
            line.close()

    def heard(self, message: bytes) -> None:
        """The server sent a NotificationResponse."""
        for ears in self._audience.of(message[9 : message.index(0, 9)]):
            ears.hear(message)

    def lost(self) -> None:
        """The connection is gone. Who listened may have missed something; who was about to has not."""
        self._line = None
        for future in self._heard.values():
            if not future.done():
                future.set_result(False)
        self._heard.clear()
        for ears in self._audience.leave():
            ears.lost()

    def close(self) -> None:
        """Everybody goes."""
        if self._opening is not None:
            self._opening.cancel()
        if self._line is not None:
            self._line.close()
            self._line = None

    async def _open(self) -> None:
        try:
            upstream = await self._connect()
        except Exception as error:  # noqa: BLE001 - whatever it is, the clients go on without
            logger.warning("a listening connection could not be opened: %s", error)
            self._opening = None
            self.lost()
            return
        self._opening = None
        line = Line(self, upstream)
        if not self._audience:  # they have gone meanwhile
            line.close()
            return
        self._line = line
        for channel in self._heard:
            self._ask(line, channel)

    def _ask(self, line: Line, channel: bytes) -> None:
        line.ask(b"LISTEN " + _quoted(channel), self._heard[channel])


def _quoted(channel: bytes) -> bytes:
    return b'"' + channel.replace(b'"', b'""') + b'"'
