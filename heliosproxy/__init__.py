"""heliosproxy makes a PostgreSQL connection behave like a platform.

    import heliosproxy

    with heliosproxy.connect("postgresql://app@db/shop") as conn:      # a psycopg connection, and more
        conn.execute("SELECT * FROM users WHERE id = %s", (42,)).fetchone()

Importing this package starts nothing and loads little: what a name needs is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import (
    ConfigError,
    ForkedError,
    HeliosError,
    PoolClosed,
    PoolTimeout,
    StatementRejected,
    TooManyRequests,
    UnsupportedError,
)

if TYPE_CHECKING:
    from .config import Config
    from .dbapi import AsyncConnection, Connection
    from .proxy import Proxy, shutdown
    from .server.running import Serving

__version__ = "0.1.0"

_LAZY = {"Config": ".config", "Proxy": ".proxy", "shutdown": ".proxy"}


def connect(conninfo: str = "", **keywords: Any) -> Connection[Any]:
    """Open a logical connection: a psycopg connection that shares its server connection by the pool's mode.

    Args:
        conninfo: libpq's connection string, or a callable that returns one. It may hold ``helios_…`` options.
        keywords: psycopg's keywords, connection parameters, and ``helios_mode``, ``helios_cache``,
            ``helios_config``, … (docs/configuration.md). Connections with equal options share one Proxy.

    Raises:
        ConfigError: an option is not understood.
        psycopg.OperationalError: the server refused the login.
    """
    from .dbapi import Connection

    return Connection.connect(conninfo, **keywords)


async def connect_async(conninfo: str = "", **keywords: Any) -> AsyncConnection[Any]:
    """As `connect`, for asyncio."""
    from .dbapi import AsyncConnection

    return await AsyncConnection.connect(conninfo, **keywords)


def serve(config: Any = "", **keywords: Any) -> Serving:
    """Start a server that speaks the PostgreSQL protocol, in a thread of this process, on a Unix socket.

    So that any other driver of the same process (asyncpg, psycopg2, Django) gets the path, through ``server.url``::

        with heliosproxy.serve("postgresql://app@db/shop", helios_mode="transaction") as server:
            asyncpg.connect(server.url)

    Args:
        config: a DSN, or a `Proxy` to be served, which then stays open; "" (default): what the keywords say.
        keywords: ``helios_…`` options, as `connect` has them; not beside a Proxy.

    Raises:
        ConfigError: an option is not understood, no server is named, or the configuration cannot be served.
    """
    from .server.running import serve

    return serve(config, **keywords)


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(module, __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


__all__ = [
    "Config",
    "ConfigError",
    "ForkedError",
    "HeliosError",
    "PoolClosed",
    "PoolTimeout",
    "Proxy",
    "StatementRejected",
    "TooManyRequests",
    "UnsupportedError",
    "__version__",
    "connect",
    "connect_async",
    "serve",
    "shutdown",
]
