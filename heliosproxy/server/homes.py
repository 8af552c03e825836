"""The pools of one process, as their clients see them: made for the first client of a database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..pool.key import PoolKey
from ..pool.pool import Pool
from .home import Home
from .login.targets import resolve
from .upstream.opening import open_upstream

if TYPE_CHECKING:
    from ..proxy import Proxy
    from .client.startup import Greeting
    from .upstream.connection import Upstream


class Homes(dict[PoolKey, Home]):
    """All homes, by the keys of their pools.

    Args:
        proxy: whose pools they are.
        is_paused: whether statements for a database are to wait.

    Attributes:
        share: part of the names of pools, where each of several workers has pools of its own.
    """

    def __init__(self, proxy: Proxy, is_paused: Callable[[str], bool]) -> None:
        super().__init__()
        self._proxy = proxy
        self._is_paused = is_paused
        self.share = ""

    async def of(self, who: Greeting) -> Home:
        """The pool for *who*; raises what connecting for the first time does."""
        home = self._home(who)
        await self._ready(home)
        return home

    def key_of(self, database: str) -> PoolKey:
        """The key of the pool of *database*, whether there is one or not."""
        node = self._proxy.config.node[0]
        return PoolKey.of(node.name, node.dsn.get_secret_value(), dbname=database)._replace(face="wire")

    def _home(self, who: Greeting) -> Home:
        dsn = self._proxy.config.node[0].dsn.get_secret_value()
        parameters: dict[str, Any] = {"dbname": who.database}
        key = self.key_of(who.database)
        home = self.get(key)
        if home is None:

            async def connect(_: Pool[Upstream]) -> Upstream:
                # Resolved each time: passwords and addresses change.
                return await open_upstream(self[key], resolve(dsn, parameters))

            pool = self._proxy.wire_pool(key, connect, f"{key}{self.share}")
            home = self[key] = Home(self._proxy, pool, (dsn, parameters))
            if self._is_paused(who.database):
                home.pause()
        return home

    async def _ready(self, home: Home) -> None:
        """The first login tells what servers of this pool report."""
        if home.harmless is None:
            try:
                server = home.pool.try_lease() or await home.pool.lease_async()
            except BaseException:
                if home.harmless is None and not home.pool.stock.size:
                    # A database that is not there: any client can ask for any number of these.
                    self.pop(home.pool.key, None)
                    self._proxy.pools.forget(home.pool)
                raise
            home.pool.release(server)

    def vacate(self, text: str, again: Sequence[float] = (0.2, 0.8, 2.0)) -> None:
        """Close what is idle in the databases that *text* names: it is about to want one without sessions.

        PostgreSQL waits five seconds for those that are leaving, so clients of ours may leave a little later, too.
        """
        if again:
            asyncio.get_running_loop().call_later(again[0], self.vacate, text, again[1:])
        for home in self.values():
            if home.pool.key.database in text:
                while (server := home.pool.try_lease()) is not None:
                    home.pool.discard(server)
