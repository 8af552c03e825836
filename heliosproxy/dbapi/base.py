"""What the blocking and the asyncio connection share: psycopg's attributes, as this connection means them."""

from __future__ import annotations

from typing import cast

from psycopg import IsolationLevel
from psycopg import errors as e
from psycopg._connection_base import BaseConnection
from psycopg.abc import PQGen
from psycopg.rows import Row

from ..errors import UnsupportedError
from .info import ConnectionInfo
from .lending import BAD, OK
from .travelling import Travelling

_SNAPSHOT = (IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE)


class PathConnection(Travelling[Row]):
    """A connection whose statements take the path of a Session."""

    @property
    def closed(self) -> bool:
        """True after close(), and when a server connection it had to keep was lost."""
        return self.pgconn.status == BAD and not self._at_rest

    @property
    def broken(self) -> bool:
        """True when a server connection it had to keep was lost."""
        return self.closed and not self._closed

    @property
    def at_rest(self) -> bool:
        """Whether it is open and holds no server connection: what it is asked next goes to one that works."""
        return self._at_rest and not self._closed

    def _set_autocommit_gen(self, value: bool) -> PQGen[None]:
        if self._session is not None and self._home.statement_mode and not value:
            raise UnsupportedError(
                "statement mode implies autocommit: transactions need pool.mode = 'transaction' or 'session'"
            )
        return super()._set_autocommit_gen(value)

    def _set_isolation_level_gen(self, value: IsolationLevel | None) -> PQGen[None]:
        yield from super()._set_isolation_level_gen(value)
        if self._session is not None:
            self._session.isolated = self._isolation_level in _SNAPSHOT
            self._session.ease = None

    @property
    def info(self) -> ConnectionInfo:
        """As psycopg's; while no server connection is held it tells what the pool's last one told."""
        return ConnectionInfo(self)

    def fileno(self) -> int:
        """The socket of the server connection it holds.

        Raises OperationalError when it holds none: there is nothing to wait for.
        """
        if self.pgconn.status == OK and self._at_rest:
            raise e.OperationalError(
                "no server connection is held now: fileno() means something in a transaction"
            )
        return super().fileno()

    @property
    def prepare_threshold(self) -> int | None:
        """As psycopg's; it belongs to this connection, whichever server connection it uses."""
        return self._threshold if self._session is not None else self._prepared.prepare_threshold

    @prepare_threshold.setter
    def prepare_threshold(self, value: int | None) -> None:
        self._threshold = self._prepared.prepare_threshold = value

    @property
    def prepared_max(self) -> int | None:
        """As psycopg's; it belongs to this connection, whichever server connection it uses."""
        return cast("int | None", BaseConnection.prepared_max.fget(self))  # type: ignore[attr-defined]

    @prepared_max.setter
    def prepared_max(self, value: int | None) -> None:
        BaseConnection.prepared_max.fset(self, value)  # type: ignore[attr-defined]
        self._prepared_most = self._prepared.prepared_max
