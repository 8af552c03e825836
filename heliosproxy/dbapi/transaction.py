"""psycopg's objects that remember a PGconn, made to follow the connection to whichever it holds."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import pq


class _Follows:
    """`pgconn` is the connection's own, now; what psycopg's constructor assigns is not kept."""

    _conn: Any

    @property
    def pgconn(self) -> pq.abc.PGconn:
        return self._conn.pgconn  # type: ignore[no-any-return]  # the connection is typed by the subclass

    @pgconn.setter
    def pgconn(self, value: pq.abc.PGconn) -> None:
        pass


class Transaction(_Follows, psycopg.Transaction):
    """As psycopg's."""

    __module__ = "psycopg"


class AsyncTransaction(_Follows, psycopg.AsyncTransaction):
    """As psycopg's."""

    __module__ = "psycopg"
