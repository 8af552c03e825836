"""Who listens to what, and what waits for a client: bookkeeping, without I/O."""

from __future__ import annotations

from collections.abc import Collection
from typing import Generic, TypeVar

Who = TypeVar("Who")

ROOM = 8 << 20
"""Bytes of notifications that wait for one client: the payload of one is at most 8,000."""
_OVERHEAD = 64


class Audience(Generic[Who]):
    """Who listens to what."""

    __slots__ = ("_channels", "_listeners")

    def __init__(self) -> None:
        self._listeners: dict[bytes, dict[Who, None]] = {}
        self._channels: dict[Who, set[bytes]] = {}

    def __bool__(self) -> bool:
        return bool(self._channels)

    def add(self, who: Who, channel: bytes) -> bool:
        """*who* wants to hear *channel*; whether nobody did before."""
        self._channels.setdefault(who, set()).add(channel)
        listeners = self._listeners.setdefault(channel, {})
        first = not listeners
        listeners[who] = None
        return first

    def keep(self, who: Who, channels: Collection[bytes]) -> list[bytes]:
        """*who* wants none but *channels* any more; returns those that nobody wants now."""
        had = self._channels.get(who)
        if had is None:
            return []
        silent = []
        for channel in had.difference(channels):
            had.discard(channel)
            listeners = self._listeners[channel]
            del listeners[who]
            if not listeners:
                del self._listeners[channel]
                silent.append(channel)
        if not had:
            del self._channels[who]
        return silent

    def of(self, channel: bytes) -> list[Who]:
        """Who wants to hear *channel*, in the order they came."""
        return list(self._listeners.get(channel, ()))

    def leave(self) -> list[Who]:
        """Everybody goes; returns who that was."""
        everybody = list(self._channels)
        self._channels.clear()
        self._listeners.clear()
        return everybody


class Held:
    """Notifications that wait for a client, in order, in a bounded room."""

    __slots__ = ("_messages", "_size", "full")

    def __init__(self) -> None:
        self._messages: list[bytes] = []
        self._size = 0
        self.full = False

    def __bool__(self) -> bool:
        return bool(self._messages)

    def put(self, message: bytes) -> None:
        """One more. When the room does not do, it is `full` for good, and nothing is kept: some are lost anyway."""
        if self.full:
            return
        self._size += len(message) + _OVERHEAD
        if self._size > ROOM:
            self.full = True
            self._messages = []
        else:
            self._messages.append(message)

    def take(self) -> list[bytes]:
        """All of them; none waits any more."""
        messages, self._messages, self._size = self._messages, [], 0
        return messages
