"""The asyncio cursors. `cursors.py` is generated from this file: tools/async_to_sync.py."""

from __future__ import annotations

from typing import Any, Self

import psycopg
from psycopg import errors as e
from psycopg._cursor_base import BaseCursor
from psycopg.abc import Params, Query
from psycopg.rows import Row

from .cursor_base import PathCursor, PathServerCursor
from .hit import hit

SLOTS = ("_call",)


class _AsyncExecute(PathCursor[Row]):
    """`execute()` with one more argument."""

    __slots__ = ()

    async def execute(
        self,
        query: Query,
        params: Params | None = None,
        *,
        prepare: bool | None = None,
        binary: bool | None = None,
        helios: dict[str, Any] | None = None,
    ) -> Self:
        """As psycopg's.

        Args:
            helios: what heliosproxy shall do with this statement: ``{"cache": False}``, ``{"ttl": 5}``
                (seconds); None (default) = as configured.
        """
        try:
            conn = self._conn
            async with conn.lock:
                if conn._quick is not None and helios is None and hit(conn, self, query, params, binary):
                    return self
                conn._options = helios
                await conn.wait(self._execute_gen(query, params, prepare=prepare, binary=binary))
        except e._NO_TRACEBACK as ex:
            raise ex.with_traceback(None)  # noqa: B904 - as psycopg does: the caller's frame is what matters
        return self


class AsyncCursor(_AsyncExecute[Row], psycopg.AsyncCursor[Row]):
    """As psycopg's, plus `helios`."""

    __module__ = "heliosproxy.dbapi"
    __slots__ = SLOTS


class AsyncPlainCursor(AsyncCursor[Row]):
    """The cursor of a connection without a path: below `execute()` everything is psycopg's own."""

    __module__ = "heliosproxy.dbapi"
    __slots__ = ()

    _pgconn: Any = BaseCursor._pgconn
    _execute_gen = BaseCursor._execute_gen
    _maybe_prepare_gen = BaseCursor._maybe_prepare_gen
    _stream_send_gen = BaseCursor._stream_send_gen
    _start_copy_gen = BaseCursor._start_copy_gen


class AsyncClientCursor(_AsyncExecute[Row], psycopg.AsyncClientCursor[Row]):
    """As psycopg's, plus `helios`."""

    __module__ = "heliosproxy.dbapi"
    __slots__ = SLOTS


class AsyncRawCursor(_AsyncExecute[Row], psycopg.AsyncRawCursor[Row]):
    """As psycopg's, plus `helios`."""

    __module__ = "heliosproxy.dbapi"
    __slots__ = SLOTS


class AsyncServerCursor(PathServerCursor[Row], psycopg.AsyncServerCursor[Row]):
    """As psycopg's, plus `helios`."""

    __module__ = "heliosproxy.dbapi"
    __slots__ = SLOTS


class AsyncRawServerCursor(PathServerCursor[Row], psycopg.AsyncRawServerCursor[Row]):
    """As psycopg's, plus `helios`."""

    __module__ = "heliosproxy.dbapi"
    __slots__ = SLOTS
