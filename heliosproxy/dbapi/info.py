"""`conn.info`, which follows the connection from one server connection to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import pq
from psycopg._connection_info import ConnectionInfo as PsycopgInfo
from psycopg.conninfo import make_conninfo

if TYPE_CHECKING:
    from .home import Home


class ConnectionInfo(PsycopgInfo):
    """As psycopg's, of whatever the connection holds when it is asked.

    While it holds no server connection, what belongs to a server is told as the pool's connections have it;
    ``backend_pid`` is 0 and ``error_message`` is empty then: no server process serves the connection.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @property
    def pgconn(self) -> pq.abc.PGconn:  # type: ignore[override]  # an attribute of psycopg's
        """The connection's own, now."""
        return self._connection.pgconn  # type: ignore[no-any-return]  # the connection is of either colour

    @property
    def _home(self) -> Home | None:
        return self._connection._home if self._connection._at_rest else None

    @property
    def port(self) -> int:
        """As psycopg's."""
        home = self._home
        return super().port if home is None else int(home.login["port"] or 5432)

    def get_parameters(self) -> dict[str, str]:
        """As psycopg's."""
        home = self._home
        return super().get_parameters() if home is None else dict(home.parameters)

    @property
    def dsn(self) -> str:
        """As psycopg's."""
        return make_conninfo("", **self.get_parameters())

    def _get_pgconn_attr(self, name: str) -> str:
        home = self._home
        return super()._get_pgconn_attr(name) if home is None else home.login.get(name, "")
