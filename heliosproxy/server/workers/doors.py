"""Limits on clients that hold over all workers: the supervisor counts, the workers ask it at each login."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ...errors import TooManyRequests
from ..limits import Limits, Place

if TYPE_CHECKING:
    from .child import Child
    from .peers import Alone, Peers

Name = list[int]
"""What a place is called between processes: the worker that took it, and its number there."""


class Taken(Protocol):
    """What one client takes up."""

    def free(self) -> None:
        """The client is gone, or was not let in. Harmless when repeated."""


class Doors:
    """Where clients take their places, in a server of one process."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits

    async def arrive(self, address: str) -> Any:
        """As `Limits.arrive`."""
        return self.limits.arrive(address)

    async def enter(self, place: Any, user: str, database: str) -> None:
        """As `Limits.enter`."""
        self.limits.enter(place, user, database)


class Away:
    """A place that the supervisor knows.

    Attributes:
        name: what it is called there.
    """

    __slots__ = ("_peers", "name")

    def __init__(self, peers: Peers | Alone, name: Name) -> None:
        self._peers: Peers | Alone | None = peers
        self.name = name

    def free(self) -> None:
        """The client is gone, or was not let in."""
        if self._peers is not None:
            self._peers.tell("supervisor", "free", self.name)
            self._peers = None

    def leave_it(self) -> None:
        """The client goes on in another process, and its place with it."""
        if self._peers is not None:
            self._peers.tell("supervisor", "moving", self.name)
            self._peers = None


def taken(peers: Peers | Alone, name: Name) -> Away:
    """The place of a client that comes from another worker; also while nothing is limited, for it may be again."""
    peers.tell("supervisor", "moved", name)
    return Away(peers, name)


class FarDoors:
    """Where the clients of a worker take their places."""

    def __init__(self, peers: Peers, serial: int) -> None:
        self._peers = peers
        self._serial = serial
        self._last = 0

    async def arrive(self, address: str) -> Away:
        """As `Limits.arrive`, over all workers."""
        self._last += 1
        place = Away(self._peers, [self._serial, self._last])
        try:
            await self._ask("arrive", place.name, address)
        except BaseException:  # also of who has gone while we asked
            place.free()
            raise
        return place

    async def enter(self, place: Any, user: str, database: str) -> None:
        """As `Limits.enter`, over all workers."""
        await self._ask("enter", place.name, user, database)

    async def _ask(self, do: str, *args: object) -> None:
        for answer in await self._peers.ask("supervisor", do, *args):
            if answer.error:
                raise TooManyRequests(answer.error)


_UNDERWAY = -1  # less the slot: instead of a worker


class Entry:
    """What the supervisor knows of one client."""

    __slots__ = ("address", "database", "place", "serial", "user")

    def __init__(self, place: Place, serial: int, address: str) -> None:
        self.place = place
        self.serial = serial
        self.address = address
        self.user = self.database = ""


class Register:
    """The supervisor's book of places."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._entries: dict[tuple[int, int], Entry] = {}

    def change(self, limits: Limits) -> None:
        """Other limits hold from now on; those who are in stay in, and count."""
        self._limits = limits
        for entry in self._entries.values():
            entry.place.free()  # the limits from before may hold again, if nobody can serve these
            entry.place = limits.keep(entry.address, entry.user, entry.database)

    def arrive(self, child: Child, name: Name, address: str) -> None:
        """A client has come to *child*."""
        self._entries[name[0], name[1]] = Entry(self._limits.arrive(address), child.serial, address)

    def enter(self, _: Child, name: Name, user: str, database: str) -> None:
        """It has proven who it is."""
        entry = self._entries[name[0], name[1]]
        self._limits.enter(entry.place, user, database)
        entry.user, entry.database = user, database

    def moving(self, child: Child, name: Name) -> None:
        """It is on its way to a newer worker in the place of *child*."""
        if (entry := self._entries.get((name[0], name[1]))) is not None and entry.serial == child.serial:
            entry.serial = _UNDERWAY - child.slot

    def moved(self, child: Child, name: Name) -> None:
        """It goes on in *child*."""
        if (entry := self._entries.get((name[0], name[1]))) is not None:
            entry.serial = child.serial

    def free(self, _: Child, name: Name) -> None:
        """It is gone."""
        if (entry := self._entries.pop((name[0], name[1]), None)) is not None:
            entry.place.free()

    def died(self, child: Child) -> None:
        """*child* is gone, and its clients with it."""
        for name, entry in list(self._entries.items()):
            if entry.serial == child.serial or (child.serving and entry.serial == _UNDERWAY - child.slot):
                self.free(child, list(name))
