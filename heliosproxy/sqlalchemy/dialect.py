"""The dialect: psycopg's, whose connections are heliosproxy's.

SQLAlchemy's pool stays; what it holds are logical connections, which lease server connections from the pool of
a `Proxy` below it. Everything else a statement meets is on the path, not here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from psycopg._connection_base import BaseConnection
from psycopg._cursor_base import BaseCursor
from psycopg.conninfo import make_conninfo
from psycopg.pq import ExecStatus
from psycopg.types import TypeInfo
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg, PGDialectAsync_psycopg
from sqlalchemy.engine import AdaptedConnection
from sqlalchemy.util import await_only

from ..dbapi.base import PathConnection
from ..dbapi.cursor_base import PathCursor
from ..dbapi.opening import PREFIX
from ..errors import ConfigError
from ..proxy import KEYWORDS, Proxy, implicit
from .context import HeliosContext
from .driver import Driver
from .options import hints

_PLACE = frozenset({"host", "hostaddr", "port", "dbname", "user", "password", "passfile", "service"})

_TYPE = "SELECT oid, typarray FROM pg_catalog.pg_type WHERE oid = pg_catalog.to_regtype(%(name)s)"


class _HeliosDialect:
    """What the blocking and the asyncio dialect share.

    Args:
        helios_proxy: the Proxy whose connections are used, and which the application closes itself; None
            (default) = the implicit one of the ``helios_…`` options, shared by all that have the same.
        helios_config, helios_mode, helios_max_connections, helios_server_connections, helios_pool_timeout,
            helios_cache, helios_cache_size, helios_cache_ttl: as ``heliosproxy.connect()`` has them; they beat those
            in the URL. None (default) = not given.
        kwargs: those of SQLAlchemy's psycopg dialect.

    Raises:
        ConfigError: an option is not understood, or a Proxy is given beside options.
    """

    execution_ctx_cls: Any = HeliosContext

    def __init__(
        self,
        helios_proxy: Proxy | None = None,
        helios_config: Any = None,
        helios_mode: Any = None,
        helios_max_connections: Any = None,
        helios_server_connections: Any = None,
        helios_pool_timeout: Any = None,
        helios_cache: Any = None,
        helios_cache_size: Any = None,
        helios_cache_ttl: Any = None,
        **kwargs: Any,
    ) -> None:
        given = {name: value for name, value in locals().items() if name.startswith(PREFIX)}
        given.pop("helios_proxy")
        super().__init__(**kwargs)
        self._given = {name: value for name, value in given.items() if value is not None}
        self._options = self._given
        if not isinstance(helios_proxy, Proxy | None):
            raise ConfigError(f"helios_proxy: a heliosproxy.Proxy is wanted, not {helios_proxy!r}")
        self._proxy = helios_proxy
        self._implicit: Proxy | None = None
        self._last: tuple[Any, str] = (None, "")  # of connection parameters, and the text they make

    @property
    def heliosproxy(self) -> Proxy:
        """The Proxy of this engine; after `heliosproxy.shutdown()` a new one with the same options."""
        if self._proxy is not None:
            return self._proxy
        if self._implicit is None or self._implicit.closed:
            self._implicit = implicit(self._options)
        return self._implicit

    @property
    def _in_statement_mode(self) -> bool:
        return self.heliosproxy.config.pool.mode == "statement"

    def create_connect_args(self, url: Any) -> Any:
        """SQLAlchemy's, of *url* without our options."""
        in_url = {name: value for name, value in url.query.items() if name.startswith(PREFIX)}
        if "helios_proxy" in in_url:
            raise ConfigError("helios_proxy: a Proxy is no text: give it to create_engine(), not in the URL")
        self._options = {**in_url, **self._given}
        if self._proxy is None:
            self._implicit = implicit(self._options)  # what it does not understand is said now
        elif self._options:
            names = ", ".join(sorted(self._options))
            raise ConfigError(f"{names}: helios_proxy is given, and has options of its own")
        base: Any = super()
        # Without it SQLAlchemy would take commit() and rollback() for something, and the latter undo nothing.
        ours: Any = self
        level = str(ours._on_connect_isolation_level).upper()
        if self._in_statement_mode and level != "AUTOCOMMIT":
            raise ConfigError(
                "statement mode has no transactions, so rollback() would undo nothing: give create_engine()"
                " isolation_level=\"AUTOCOMMIT\", too, or use pool.mode = 'transaction'"
            )
        return base.create_connect_args(url.difference_update_query(in_url))

    def _place(self, cargs: tuple[Any, ...], cparams: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Connection parameters as one text, and psycopg's own keywords beside it.

        A text takes the place of the first node's DSN; without a place in it, it is parameters beside that DSN.
        """
        keywords = {name: cparams.pop(name) for name in KEYWORDS if name in cparams}
        astray = sorted(name for name in cparams if name.startswith(PREFIX))
        if astray:
            raise ConfigError(
                f"{', '.join(astray)}: give it to create_engine(), or in the URL; not in connect_args"
            )
        if not any(cargs) and _PLACE.isdisjoint(cparams):
            return "", {**cparams, **keywords}
        asked, text = self._last
        if asked != (cargs, cparams):
            text = make_conninfo(*cargs, **cparams)
            self._last = (cargs, cparams), text
        return text, keywords

    def on_connect(self) -> Callable[[Any], None]:
        """SQLAlchemy's, once it is sure that the connection is one of ours."""
        base: Any = super()
        then = base.on_connect()

        def on_connect(connection: Any) -> None:
            ours: Any = self
            made = ours.get_driver_connection(connection)
            if isinstance(made, BaseConnection) and not isinstance(made, PathConnection):
                raise ConfigError(
                    "creator=, a do_connect event or a pool of one's own gave a connection that is not"
                    " heliosproxy's: let it call heliosproxy.connect(), the event dialect.connect(), or leave it out"
                )
            if isinstance(made, PathConnection) and made._home.proxy is not ours.heliosproxy:
                raise ConfigError(
                    "creator=, a do_connect event or a pool of one's own gave a connection of another Proxy than"
                    " the engine's, whose options and cache would not be that connection's: give create_engine()"
                    " helios_proxy=proxy, and let it call proxy.connect()"
                )
            then(connection)

        return on_connect

    def _type_info_fetch(self, connection: Any, name: str) -> Any:
        """SQLAlchemy's; in statement mode without the transaction that psycopg opens for it."""
        base: Any = super()
        if not self._in_statement_mode:
            return base._type_info_fetch(connection, name)
        found = connection.exec_driver_sql(_TYPE, {"name": name}).first()
        return None if found is None else TypeInfo(name, *found)

    def do_ping(self, dbapi_connection: Any) -> bool:
        """Whether it works. One that holds no server connection does: it takes one that works when it needs it."""
        base: Any = super()
        # Who has put something around it is asked, too.
        bare = isinstance(dbapi_connection, PathConnection | AdaptedConnection)
        if bare and base.get_driver_connection(dbapi_connection).at_rest:
            return True
        return bool(base.do_ping(dbapi_connection))

    def set_engine_execution_options(self, engine: Any, opts: Mapping[str, Any]) -> None:
        """SQLAlchemy's, for options that can be followed."""
        hints(opts)
        base: Any = super()
        base.set_engine_execution_options(engine, opts)

    def set_connection_execution_options(self, connection: Any, opts: Mapping[str, Any]) -> None:
        """SQLAlchemy's, for options that can be followed."""
        hints(opts)
        base: Any = super()
        base.set_connection_execution_options(connection, opts)

    @classmethod
    def get_async_dialect_cls(cls, url: Any) -> Any:
        """For ``create_async_engine``."""
        return HeliosDialectAsync

    @classmethod
    def engine_created(cls, engine: Any) -> None:
        """Give *engine* its attribute ``heliosproxy``."""
        engine.heliosproxy = engine.dialect.heliosproxy


class HeliosDialect(_HeliosDialect, PGDialect_psycopg):
    """``postgresql+heliosproxy``: SQLAlchemy's psycopg dialect over `heliosproxy.dbapi`."""

    supports_statement_cache = True  # SQLAlchemy looks for it in the class itself

    @classmethod
    def import_dbapi(cls) -> Any:
        """psycopg, less its ``connect``."""
        return Driver()

    def connect(self, *cargs: Any, **cparams: Any) -> Any:
        """A logical connection of the engine's Proxy."""
        place, keywords = self._place(cargs, cparams)
        opened: Any = self.loaded_dbapi
        return opened.connect(place, helios_proxy=self.heliosproxy, **keywords)

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        """With what the execution options ask of the path."""
        if context is None or context.helios is None or context._is_server_side:
            cursor.execute(statement, parameters)
        else:
            _refuse_strange(cursor)
            cursor.execute(statement, parameters, helios=context.helios)


class HeliosDialectAsync(_HeliosDialect, PGDialectAsync_psycopg):
    """`HeliosDialect` for ``create_async_engine``."""

    supports_statement_cache = True  # SQLAlchemy looks for it in the class itself

    @classmethod
    def import_dbapi(cls) -> Any:
        """psycopg as SQLAlchemy adapts it."""
        base: Any = PGDialectAsync_psycopg
        return base.import_dbapi()

    def connect(self, *cargs: Any, **cparams: Any) -> Any:
        """A logical connection of the engine's Proxy, as SQLAlchemy adapts it."""
        creator = cparams.pop("async_creator_fn", None)
        place, keywords = self._place(cargs, cparams)
        opened: Any = self.loaded_dbapi
        return opened.connect(place, async_creator_fn=creator or self.heliosproxy.connect_async, **keywords)

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        """With what the execution options ask of the path."""
        if context is None or context.helios is None or context._is_server_side:
            cursor.execute(statement, parameters)
        else:
            cursor._rows = await_only(_executed(cursor._cursor, statement, parameters, context.helios))


def _refuse_strange(cursor: Any) -> None:
    """A cursor class of psycopg's own is answered from memory, too, but cannot be told not to be."""
    if isinstance(cursor, BaseCursor) and not isinstance(cursor, PathCursor):
        kind = type(cursor)
        raise ConfigError(
            f"helios_ execution options cannot be given to a {kind.__module__}.{kind.__qualname__}: let"
            f" cursor_factory be a class of heliosproxy.dbapi, such as heliosproxy.dbapi.{kind.__name__}"
        )


async def _executed(cursor: Any, statement: str, parameters: Any, helios: dict[str, Any]) -> deque[Any]:
    """Execute on *cursor*, of psycopg's; its rows, which SQLAlchemy's adapter wants to have at once."""
    _refuse_strange(cursor)
    await cursor.execute(statement, parameters, helios=helios)
    result = cursor.pgresult
    return deque(
        await cursor.fetchall() if result is not None and result.status == ExecStatus.TUPLES_OK else ()
    )


def proxy_of(engine: Any) -> Proxy:
    """The Proxy of *engine*, an Engine or AsyncEngine, also of one that ``execution_options()`` made of it.

    Raises:
        ConfigError: it is an engine without heliosproxy, or no engine (a Session has one: `session.get_bind()`).
    """
    dialect = getattr(getattr(engine, "sync_engine", engine), "dialect", None)
    if not isinstance(dialect, _HeliosDialect):
        what = "no engine" if dialect is None else "an engine without heliosproxy"
        raise ConfigError(f"{engine!r} is {what}")
    return dialect.heliosproxy
