"""psycopg's objects that remember a PGconn, made to follow the connection to whichever it holds."""

from __future__ import annotations

from typing import Any, Self

import psycopg
from psycopg import pq

from ..state.transaction import Status

IDLE = pq.TransactionStatus.IDLE


class _Follows:
    """`pgconn` is the connection's own, now; what psycopg's constructor assigns is not kept."""

    _conn: Any
    _savepoint_name: str

    @property
    def pgconn(self) -> pq.abc.PGconn:
        return self._conn.pgconn  # type: ignore[no-any-return]  # the connection is typed by the subclass

    @pgconn.setter
    def pgconn(self, value: pq.abc.PGconn) -> None:
        pass

    def _promised(self) -> bool:
        """Enter an outer transaction of a connection at rest: a promise, for which nobody has to wait."""
        conn: Any = self._conn
        session = conn._session
        if (
            session is None
            or session.server is not None
            or session.tx.status is not Status.IDLE
            or conn._home.statement_mode
            or conn.pgconn.transaction_status != IDLE
            or self._savepoint_name
        ):
            return False
        transaction: Any = self
        transaction._check_enter()
        transaction.status = transaction.Status.ACTIVE
        transaction._push_savepoint()
        conn._promise(conn._get_tx_start_command())
        return True


class Transaction(_Follows, psycopg.Transaction):
    """As psycopg's."""

    __module__ = "psycopg"

    def __enter__(self) -> Self:
        with self._conn.lock:
            if self._promised():
                return self
        return super().__enter__()


class AsyncTransaction(_Follows, psycopg.AsyncTransaction):
    """As psycopg's."""

    __module__ = "psycopg"

    async def __aenter__(self) -> Self:
        async with self._conn.lock:
            if self._promised():
                return self
        return await super().__aenter__()
