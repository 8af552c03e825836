"""A replication client (PostgreSQL, 55.4): a server connection of its own, whose bytes pass as they are.

What it says is no SQL, and nothing it does could be shared. In session mode only: such a connection is held for as
long as its client lives. It has a place under the cap like any other, and is closed behind its client.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from ...pool.key import PoolKey
from ...pool.pool import Pool
from ..login.targets import resolve
from ..upstream.opening import open_upstream
from ..upstream.outage import Outage

if TYPE_CHECKING:
    from ...proxy import Proxy
    from ..home import Home
    from ..upstream.connection import Upstream
    from .link import Link
    from .startup import Greeting


class _Apart:
    """What opening a server connection wants to know and to tell; nobody else does."""

    harmless = frozenset[str]()

    def __init__(self, name: str) -> None:
        self.reported: dict[bytes, bytes] = {}
        self.upstreams: set[Upstream] = set()
        self.outage = Outage(name)


class Replication(asyncio.Protocol):
    """What a `Link` has in place of a conversation; for its server connection, the protocol.

    Attributes:
        server: its server connection.
    """

    def __init__(self, link: Link, proxy: Proxy, pool: Pool[Upstream], server: Upstream) -> None:
        self._link = link
        self._proxy = proxy
        self._pool = pool
        self._closed = False
        self.server = server
        server.transport.set_protocol(self)

    @classmethod
    async def open(cls, link: Link, proxy: Proxy, who: Greeting) -> Replication:
        """Connect to a server as *who* wants it; raises what that does."""
        node = proxy.config.node[0]
        dsn, parameters = node.dsn.get_secret_value(), dict(who.replication)
        if parameters["replication"] == "database":
            parameters["dbname"] = who.database  # else it is about the whole server, and names no database
        key = PoolKey.of(node.name, dsn, **cast(Any, parameters))._replace(face="replication")

        async def connect(pool: Pool[Upstream]) -> Upstream:
            return await open_upstream(cast("Home", _Apart(pool.name)), resolve(dsn, parameters))

        pool = proxy.wire_pool(key, connect)
        try:
            return cls(link, proxy, pool, await pool.lease_async())
        except BaseException:
            _forget(proxy, pool)
            raise

    def forward(self, data: bytes) -> None:
        """*data* of the client."""
        self._link.received += len(data)
        self.server.transport.write(data)

    def numbers(self) -> dict[str, Any]:
        """What the console says of it."""
        return {"state": "active", "server": self.server.backend_pid, "pins": ["replication"], "prepared": 0}

    def close(self) -> None:
        """The client is gone, or is to go."""
        if not self._closed:
            self._closed = True
            self._pool.discard(self.server)
            _forget(self._proxy, self._pool)

    # -- what asyncio calls, of the server connection ------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Of the server, for the client."""
        if self._closed:
            return
        self._link.write(data)
        if self._link.choked:
            self.server.transport.pause_reading()
            self._link.when_unchoked(self._go_on)

    def _go_on(self) -> None:
        if not self.server.transport.is_closing():
            self.server.transport.resume_reading()

    def pause_writing(self) -> None:
        """The server takes no more for now: neither do we."""
        self._link.hold_reading(True)

    def resume_writing(self) -> None:
        """The server reads on."""
        self._link.hold_reading(False)

    def connection_lost(self, error: Exception | None) -> None:
        """The server has hung up: so do we."""
        self.server.connection_lost(error)
        self._link.close()


def _forget(proxy: Proxy, pool: Pool[Upstream]) -> None:
    """Each client may have parameters of its own: pools that nobody uses are not kept."""
    if not pool.stock.size:
        proxy.pools.forget(pool)


__all__ = ["Replication"]
