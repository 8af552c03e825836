"""What an operator may do to the clients and servers of one process: under the console, signals and the supervisor.

Each method acts on this process; `handlers` are what other processes may ask of it. Values are such as JSON can say.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..errors import HeliosError
from .home import Home, whereabouts

if TYPE_CHECKING:
    from .client.link import Link
    from .service import Service

FIXED = ("server.listen", "server.workers", "cache.enabled", "cache.query.enabled")
"""Keys that no reload changes: old and new workers serve side by side for a while, so both must listen on the same
sockets, and tell each other of writes or not."""

UNREAD = 0.5
"""Seconds in which who is killed may read so."""

_LOOK_EVERY = 0.02
"""Seconds between two looks whether everybody has come to rest."""


class Control:
    """Pause, resume, kill, … and the numbers, of one process.

    Attributes:
        service: whose clients and servers.
        paused, disabled: databases; "" among them means all.
        handlers: by name.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.paused: set[str] = set()
        self.disabled: set[str] = set()
        self.handlers: dict[str, Callable[..., Any]] = {
            "cancel": service.cancelling.for_another,
            "clients": self.clients,
            "databases": self.databases,
            "ddl": self.ddl,
            "disable": self.disable,
            "enable": self.enable,
            "kill": self.kill,
            "numbers": self.numbers,
            "pause": self.pause,
            "pools": self.pools,
            "reconnect": self.reconnect,
            "resume": self.resume,
            "servers": self.servers,
            "stay_paused": self.stay_paused,
            "vacate": service.vacate,
        }

    def is_paused(self, database: str) -> bool:
        """Whether statements for *database* wait."""
        return "" in self.paused or database in self.paused

    def is_disabled(self, database: str) -> bool:
        """Whether nobody may log in to *database*."""
        return "" in self.disabled or database in self.disabled

    def _homes(self, database: str) -> Iterator[Home]:
        for home in list(self.service.homes.values()):
            if not database or home.pool.key.database == database:
                yield home

    def _links(self, database: str) -> Iterator[Link]:
        for link in list(self.service.links.values()):
            if not database or (link.greeting is not None and link.greeting.database == database):
                yield link

    # -- acting --------------------------------------------------------------------------------------

    async def pause(self, database: str = "") -> None:
        """Let transactions end, begin none, and close what server connections are free by that.

        Returns when no statement and no transaction is under way; statements that come wait for `resume`, as long
        as ``pool.timeout`` lets them. A client that keeps its server connection (session mode, a pin) keeps it.
        """
        self.stay_paused(database)
        # Looked at, because an event would have to be set by every statement.
        while self.is_paused(database) and not self._all_rest(database):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_EVERY)

    def stay_paused(self, database: str) -> None:
        """As `pause`, without waiting."""
        self.paused.add(database)
        for home in self._homes(database):
            home.pause()

    def _all_rest(self, database: str) -> bool:
        links = [link for link in self._links(database) if link.served]
        return all(link.conversation.at_rest or link.conversation.waits for link in links)

    def resume(self, database: str = "") -> None:
        """Serve again; those who wait are served in the order in which they came.

        Raises:
            HeliosError: it was not paused, or everything is: as in PgBouncer, that has no exceptions.
        """
        if database and "" in self.paused:
            raise HeliosError(
                f"everything is paused, and database {database} with it: RESUME without a name ends that for all",
                sqlstate="55000",
            )
        if database not in self.paused and database:
            raise HeliosError(f"database {database} is not paused", sqlstate="55000")
        self.paused = {name for name in self.paused if database and name != database}
        for home in self._homes(database):
            if not self.is_paused(home.pool.key.database):
                home.resume()

    def reconnect(self, database: str = "") -> None:
        """Replace server connections: idle ones now, the others when they come back."""
        for home in self._homes(database):
            home.pool.renew()

    def disable(self, database: str) -> None:
        """Let nobody new in to *database*."""
        self.disabled.add(database)

    def enable(self, database: str) -> None:
        """Let clients in again."""
        self.disabled.discard(database)

    def kill(self, whom: int | str) -> int:
        """Hang up on the client with the process number *whom*, or on all of a database, at once.

        Returns:
            How many there were.
        """
        if isinstance(whom, int):
            links = [link for link in [self.service.links.get(whom)] if link is not None]
        else:
            links = list(self._links(whom))
        for link in links:
            link.dismiss()
            link.not_for_long(UNREAD)
        return len(links)

    def ddl(self, database: str) -> None:
        """Another process saw DDL."""
        self.service.proxy.pools.saw_ddl(database, pass_on=False)

    # -- numbers -------------------------------------------------------------------------------------

    def pools(self) -> list[dict[str, Any]]:
        """A row per pool."""
        now = time.monotonic()
        links = [link for link in list(self.service.links.values()) if link.served]
        clients = Counter(link.conversation.home for link in links)
        received = Counter[Home]()
        for link in links:
            received[link.conversation.home] += link.received
        return [
            {
                **home.numbers(now),
                "clients": clients[home],
                "received": home.received + received[home],
                "disabled": self.is_disabled(home.pool.key.database),
                "age": now - self.service.since,
            }
            for home in self._homes("")
        ]

    def databases(self) -> list[dict[str, Any]]:
        """As `pools`, and a row for each database that an operator has named and nobody asked for yet."""
        pools, config = self.pools(), self.service.proxy.config.pool
        unasked = (self.paused | self.disabled) - {"", *(pool["database"] for pool in pools)}
        return pools + [
            {
                **whereabouts(self.service.homes.key_of(database)),
                "mode": config.mode,
                "paused": self.is_paused(database),
                "disabled": self.is_disabled(database),
                "pool_max": self.service.proxy.pools.server_connections or 0,
                "pool_min": config.min_size,
                "pool_size": 0,
            }
            for database in sorted(unasked)
        ]

    def clients(self) -> list[dict[str, Any]]:
        """A row per client."""
        return [link.numbers() for link in list(self.service.links.values())]

    def servers(self) -> list[dict[str, Any]]:
        """A row per server connection."""
        upstreams = [upstream for home in self._homes("") for upstream in list(home.upstreams)]
        return [upstream.numbers() for upstream in upstreams if upstream.created_at]

    def numbers(self) -> dict[str, Any]:
        """Counters of the process: pins by reason, the cache's, memory."""
        stats = self.service.proxy.stats()
        pins = dict(stats["pins"])
        for link in list(self.service.links.values()):
            if link.served:
                for reason, count in link.conversation.session.pinned.items():
                    pins[reason] = pins.get(reason, 0) + count
        return {"pins": pins, "cache": stats["cache"], "clients": len(self.service.links)}
