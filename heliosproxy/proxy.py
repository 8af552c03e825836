"""`Proxy`: builds what a configuration asks for, owns its life, hands out connections.

The only place that knows all features. Everything is built once, here; a feature that is off is not in the path.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakSet

import psycopg
from psycopg import pq

from .cache.off import NoCache
from .config import Config, from_options, refuse_unavailable
from .config.options import FILE_OPTION, over
from .dbapi.home import Home
from .dbapi.opening import Opening
from .dbapi.parked import closed_pgconn
from .drivers.pgserver import PGServer
from .errors import ConfigError, PoolClosed, TooManyRequests
from .pool.cap import Pools
from .pool.key import PoolKey
from .pool.options import PoolOptions
from .pool.pool import Pool
from .stages import Path

if TYPE_CHECKING:
    from .cache.service import CacheService
    from .dbapi import AsyncConnection, Connection

DEFAULT_NODE = "primary"

# What psycopg's connect() takes beside connection parameters.
KEYWORDS = ("autocommit", "prepare_threshold", "context", "row_factory", "cursor_factory")


class Proxy:
    """Pools, caches and whatever else the configuration turns on, for one application. Thread-safe.

    Args:
        config: a `Config`, the path of a heliosproxy.toml, a mapping of its sections, or None for defaults and
            environment. The environment is read beside a file, and beside nothing.
        stages: further stages, behind the built-in ones.
        after: one whose place this one takes, while processes that inherited it still serve: writes through either
            invalidate the answers of both; None (default) = there is none.
        options: ``helios_…`` options; they beat everything else.

    Attributes:
        cache: to steer the cache, and to ask for its numbers; where it is off, an object that does nothing.
        harmless: names of functions that leave a session alone, as a server has told them last.

    Raises:
        ConfigError: the configuration cannot be used.
        UnsupportedError: it asks for a feature this version does not have, by name.
    """

    def __init__(
        self,
        config: Config | str | os.PathLike[str] | Mapping[str, Any] | None = None,
        *,
        stages: tuple[object, ...] = (),
        after: Proxy | None = None,
        **options: Any,
    ) -> None:
        self.config = _config(config, options)
        refuse_unavailable(self.config)
        pool = self.config.pool
        self.closed = False
        self.pools = Pools(pool.server_connections)
        self.closed_pgconn: pq.abc.PGconn = closed_pgconn()
        self.cache: CacheService | NoCache = NoCache()
        self.pins: dict[str, int] = {}
        self.harmless: frozenset[str] = frozenset()
        self._options = PoolOptions(
            min_size=pool.min_size,
            timeout=pool.timeout,
            max_waiting=pool.max_waiting,
            max_idle=pool.max_idle,
            max_lifetime=pool.max_lifetime,
            check=pool.check,
        )
        self._homes: dict[PoolKey, Home] = {}
        self._open: WeakSet[Any] = WeakSet()
        self._count = 0
        self._vanished: deque[dict[str, int]] = deque()
        self._lock = threading.Lock()
        self._memo: Any = None
        self.path = Path((*self._stages(after), *stages))
        self.pools.on_fork.append(self._forked)

    def _stages(self, after: Proxy | None) -> tuple[object, ...]:
        if not (self.config.cache.enabled and self.config.cache.query.enabled):
            return ()
        from .cache import build

        before = None if after is None else after.cache
        self.cache, stage = build(self.config, None if before is None else before.memory)
        return (stage,)

    @property
    def memo(self) -> Any:
        """Texts to facts. Made when first needed: it loads the parser."""
        if self._memo is None:
            from .sql.memo import Memo

            self._memo = Memo(self.config.sql.memo_size)
        return self._memo

    # -- connections -------------------------------------------------------------------------------

    def connect(self, conninfo: str = "", **keywords: Any) -> Connection[Any]:
        """A logical connection; see `heliosproxy.dbapi.Connection.connect`.

        Args:
            conninfo: replaces the first node's DSN; "" (default) = that DSN, or libpq's defaults.

        Raises:
            ConfigError: *keywords* has ``helios_…`` options: these are the Proxy's, given when it was made.
        """
        from .dbapi import Connection
        from .dbapi.opening_sync import open_sync

        opening, keywords = self._opening(conninfo, keywords)
        connection: Connection[Any] = open_sync(Connection, opening, self, **keywords)
        return connection

    async def connect_async(self, conninfo: str = "", **keywords: Any) -> AsyncConnection[Any]:
        """As `connect`, for asyncio."""
        from .dbapi import AsyncConnection
        from .dbapi.opening_async import open_async

        opening, keywords = self._opening(conninfo, keywords)
        connection: AsyncConnection[Any] = await open_async(AsyncConnection, opening, self, **keywords)
        return connection

    def home(self, opening: Opening) -> Home:
        """The pool for *opening*, made when first asked for.

        Raises:
            PoolClosed: the Proxy is closed.
        """
        conninfo, source = opening.conninfo, opening.source
        if not conninfo and self.config.node:
            conninfo = self.config.node[0].dsn.get_secret_value()
        node = self.config.node[0].name if self.config.node else DEFAULT_NODE
        key = PoolKey.of(node, conninfo, rotating=source is not None, **opening.parameters)
        home = self._homes.get(key)
        if home is None:
            with self._lock:
                home = self._homes.get(key)
                if home is None:
                    given = Opening(conninfo, opening.parameters, {}, source)
                    home = self._homes[key] = Home(self, self._pool(key, given), given)
        if self.closed:
            raise PoolClosed("the Proxy was closed: open a new one, or connect without it")
        return home

    def _pool(self, key: PoolKey, given: Opening) -> Pool[PGServer]:
        def connect(_: Pool[PGServer]) -> PGServer:
            plain = psycopg.Connection.connect(given.current(), **given.parameters)
            return self._adopt(plain)

        async def connect_async(_: Pool[PGServer]) -> PGServer:
            plain = await psycopg.AsyncConnection.connect(given.current(), **given.parameters)
            return self._adopt(plain)

        return self.pools.pool(key, self._options, connect, connect_async)

    def wire_pool(self, key: PoolKey, connect: Any, name: str = "") -> Pool[Any]:
        """A pool of server connections of the wire face, under the same cap; *connect* is a coroutine function.

        Args:
            name: as `heliosproxy.pool.cap.Pools.pool` has it.
        """

        def blocking(_: Pool[Any]) -> Any:
            raise AssertionError("connections of the wire face are opened by its event loop")

        return self.pools.pool(key, self._options, blocking, connect, name)

    def _adopt(self, plain: Any) -> PGServer:
        """Take the PGconn out of a connection of psycopg, which did the work of connecting."""
        server = PGServer(plain.pgconn)
        server.unbind()
        plain.pgconn = self.closed_pgconn
        return server

    @contextmanager
    def admission(self) -> Iterator[None]:
        """Count one more logical connection in, unless it fails to open."""
        limit = self.config.pool.max_connections
        with self._lock:
            self._catch_up()
            if limit is not None and self._count >= limit:
                raise TooManyRequests(
                    f"{self._count} logical connections are open, and pool.max_connections is {limit}"
                )
            self._count += 1
        try:
            yield
        except BaseException:
            with self._lock:
                self._count -= 1
            raise

    def opened(self, connection: Any) -> None:
        """*connection* lives; for fork, closing and statistics."""
        connection._counted = True
        self._open.add(connection)

    def gone(self, connection: Any) -> None:
        """*connection* is closed."""
        self._open.discard(connection)
        if connection._counted:
            self.vanished(connection)
            with self._lock:
                self._catch_up()

    def ended(self, session: Any) -> None:
        """*session*, of a face that counts its clients itself, is over."""
        self._add_pins(session.pinned)

    def vanished(self, connection: Any) -> None:
        """As `gone`, but takes no lock: for the garbage collector, which may run while this thread holds it."""
        connection._counted = False
        session = connection._session
        self._vanished.append({} if session is None else session.pinned)

    def _catch_up(self) -> None:
        while self._vanished:
            self._count -= 1
            self._add_pins(self._vanished.popleft())

    def _add_pins(self, pinned: dict[str, int]) -> None:
        for reason, count in pinned.items():
            self.pins[reason] = self.pins.get(reason, 0) + count

    # -- control connections -----------------------------------------------------------------------

    def control(self, home: Any, work: Any) -> Any:
        """Call *work* with a plain connection of psycopg to *home*'s database, in autocommit.

        Args:
            home: of any face: its ``control`` is a conninfo, or what returns one, and parameters.
        """
        conninfo, parameters = home.control
        with psycopg.connect(
            conninfo() if callable(conninfo) else conninfo,
            **{**parameters, "autocommit": True, "application_name": "heliosproxy control"},
        ) as conn:
            return work(conn)

    async def control_async(self, home: Any, work: Any) -> Any:
        """As `control`, in a thread of its own."""
        return await asyncio.to_thread(self.control, home, work)

    # -- life --------------------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        """Counters: ``connections`` (logical, open), ``pools``, ``pins`` by reason, ``cache``."""
        with self._lock:
            self._catch_up()
        pins = dict(self.pins)
        for connection in list(self._open):
            if (session := connection._session) is not None:
                for reason, count in session.pinned.items():
                    pins[reason] = pins.get(reason, 0) + count
        return {
            "connections": self._count,
            "pins": pins,
            **self.pools.stats(),
            "cache": self.cache.stats(),
        }

    def close(self, timeout: float = 0.0) -> None:
        """Close idle server connections now, leased ones when they come back; waits *timeout* seconds for them."""
        self.closed = True
        self.pools.close(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _opening(self, conninfo: Any, keywords: dict[str, Any]) -> tuple[Opening, dict[str, Any]]:
        ours = {name: keywords.pop(name) for name in KEYWORDS if name in keywords}
        opening = Opening.of(conninfo, keywords)
        if opening.options:
            names = ", ".join(sorted(opening.options))
            raise ConfigError(f"{names}: options of a Proxy are given when it is made")
        return opening, ours

    def _forked(self) -> None:
        self._lock = threading.Lock()
        for connection in list(self._open):
            connection._orphan()


def _config(config: object, options: dict[str, Any]) -> Config:
    if config is None:
        return from_options(options)
    if FILE_OPTION in options:
        raise ConfigError(f"{FILE_OPTION}: a configuration is given already; one of the two", key=FILE_OPTION)
    if isinstance(config, str | os.PathLike):
        return from_options({**options, FILE_OPTION: config})
    if isinstance(config, Mapping):
        return over(config, options)
    if isinstance(config, Config):
        return over(config.model_dump(exclude_unset=True), options) if options else config
    raise ConfigError(f"Proxy() takes the path of a file, a mapping or a Config, not {type(config).__name__}")


_implicit: dict[Config, Proxy] = {}
_implicit_lock = threading.Lock()


def implicit(options: Mapping[str, Any]) -> Proxy:
    """The Proxy that connections with equal options share; it lives until exit, or `shutdown`."""
    config = from_options(options)
    with _implicit_lock:
        proxy = _implicit.get(config)
        if proxy is None or proxy.closed:
            if not _implicit:
                atexit.register(shutdown)
            proxy = _implicit[config] = Proxy(config)
        return proxy


def shutdown() -> None:
    """Close the implicit Proxies; the next connect() makes new ones."""
    with _implicit_lock:
        proxies = list(_implicit.values())
        _implicit.clear()
        atexit.unregister(shutdown)
    for proxy in proxies:
        proxy.close()
