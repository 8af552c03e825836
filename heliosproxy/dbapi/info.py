"""`conn.info` while a connection holds no server connection of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import pq
from psycopg._connection_info import ConnectionInfo as PsycopgInfo
from psycopg.conninfo import make_conninfo

if TYPE_CHECKING:
    from .home import Home


class ConnectionInfo(PsycopgInfo):
    """As psycopg's. With *home*: what belongs to the server is told as the pool's connections have it.

    ``backend_pid`` is 0 and ``error_message`` is empty then: no server process serves the connection.
    """

    def __init__(self, pgconn: pq.abc.PGconn, home: Home | None = None) -> None:
        super().__init__(pgconn)
        self._home = home

    @property
    def port(self) -> int:
        """As psycopg's."""
        return super().port if self._home is None else int(self._home.login["port"] or 5432)

    def get_parameters(self) -> dict[str, str]:
        """As psycopg's."""
        return super().get_parameters() if self._home is None else dict(self._home.parameters)

    @property
    def dsn(self) -> str:
        """As psycopg's."""
        return make_conninfo("", **self.get_parameters())

    def _get_pgconn_attr(self, name: str) -> str:
        if self._home is None:
            return super()._get_pgconn_attr(name)
        return self._home.login.get(name, "")
