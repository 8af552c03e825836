"""Opening a logical connection with asyncio. `opening_sync.py` is generated from this file: tools/async_to_sync.py."""

from __future__ import annotations

from typing import Any

from psycopg import waiting

from .home import Home
from .opening import Opening


async def open_async(cls: Any, opening: Opening, proxy: Any = None, **keywords: Any) -> Any:
    """A connection of class *cls* as *opening* asks for it, with psycopg's other *keywords*.

    Args:
        proxy: the Proxy it belongs to; None = the implicit one of its options.
    """
    if proxy is None:
        from ..proxy import implicit

        proxy = implicit(opening.options)
    home: Home = proxy.home(opening)
    with proxy.admission():
        server: Any = None
        if home.session_mode or home.parked is None:
            server = await home.pool.lease_async()
        try:
            if server is not None and home.parked is None:
                pgconn = server.pgconn
                await waiting.wait_async(home.learn_gen(server), pgconn.socket, interval=0.1)
            if server is not None and not home.session_mode:
                home.pool.release(server)
                server = None
            return cls._born(home, home.session(), server, **keywords)
        except BaseException:
            if server is not None:
                home.pool.discard(server)
            raise
