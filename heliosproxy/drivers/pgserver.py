"""A real server connection: a libpq PGconn, and what it carries beyond its login."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any

from psycopg import errors as e
from psycopg import generators, pq
from psycopg._preparing import PrepareManager
from psycopg._queries import PostgresQuery
from psycopg.abc import PQGen

from ..pool.server import Server
from ..state.restore import CLEAN
from ..state.settings import EMPTY, Values

if TYPE_CHECKING:
    from ..session import Session

OK = pq.ConnStatus.OK
IDLE = pq.TransactionStatus.IDLE
INTRANS = pq.TransactionStatus.INTRANS
INERROR = pq.TransactionStatus.INERROR
PIPELINE_OFF = pq.PipelineStatus.OFF
FATAL_ERROR = pq.ExecStatus.FATAL_ERROR


class Prepared(PrepareManager):
    """What psycopg prepared on a server connection, for each session that reads the same text alike.

    A server reads constants when it prepares: by another's DateStyle ``'01/02/2024'`` is another day.

    Attributes:
        user: the session that uses the connection; None before the first.
    """

    def __init__(self, user: Session | None = None) -> None:
        super().__init__()
        self.user = user

    def anew(self) -> Prepared:
        """An empty one, for the same session."""
        return Prepared(self.user)

    def key(self, query: PostgresQuery) -> Any:  # type: ignore[override]  # psycopg calls it so, too
        user = self.user
        if user is None:
            return query.query, query.types, ""
        if user.open and not all(call.quiet for call in user.open):
            # In a pipeline, behind what may change the settings: nobody finds it again.
            return query.query, query.types, object()
        return query.query, query.types, user.settings.reading


class PGServer(Server):
    """One server connection of libpq.

    Attributes:
        pgconn: the connection; not to be used while nobody leases it.
        backend_pid: the server process; still known when the connection is lost.
        prepared: the statements psycopg prepared on it; they stay with it.
        settings: what sessions set on it, as far as it is still in force.
        tainted: a statement may have changed its state behind our back (a function, DO, a failed flight): it
            is cleaned before another session uses it.
        streamed: its last statement was a stream, which the next pipeline must be shielded from.
        last: the session that used it last; identity only.
        parameters: what it reported, cached by the face; None when it may have changed.
    """

    names_recur = False  # psycopg numbers what it prepares

    __slots__ = (
        "_poll",
        "backend_pid",
        "last",
        "parameters",
        "pgconn",
        "prepared",
        "settings",
        "streamed",
        "tainted",
    )

    def __init__(self, pgconn: pq.abc.PGconn) -> None:
        super().__init__()
        self.pgconn = pgconn
        self.backend_pid = pgconn.backend_pid
        self.prepared = Prepared()
        self.settings: Values = EMPTY
        self.tainted = False
        self.streamed = False
        self.last: object = None
        self.parameters: Any = None
        self._poll = select.poll()
        self._poll.register(pgconn.socket, select.POLLIN)

    def alive(self) -> bool:
        """False when the server has hung up; never waits. Reads what it sent unasked (notices, parameters)."""
        try:
            if not self._poll.poll(0):
                return self.pgconn.status == OK
            self.pgconn.consume_input()
            while self._poll.poll(0):  # its last words come before the end of the stream
                self.pgconn.consume_input()
        except (e.OperationalError, OSError):
            return False
        self.parameters = None
        while self.pgconn.notifies():
            pass  # nobody listens on an idle connection: LISTEN pins
        return self.pgconn.status == OK

    def close(self) -> None:
        self.pgconn.finish()

    def orphan(self) -> None:
        # PGconn does not touch the socket of another process when it is destroyed; nothing else to do.
        self.pgconn.notice_handler = self.pgconn.notify_handler = None

    def reusable(self) -> bool:
        """Whether it may go back to the pool as it is: no transaction, no reply outstanding, no COPY."""
        pgconn = self.pgconn
        return (
            pgconn.status == OK
            and pgconn.transaction_status == IDLE
            and pgconn.pipeline_status == PIPELINE_OFF
        )

    def failed(self) -> bool:
        """Whether it is in a failed transaction."""
        return bool(self.pgconn.transaction_status == INERROR)

    def unbind(self) -> None:
        """Notices and notifications go to nobody."""
        self.pgconn.notice_handler = self.pgconn.notify_handler = None

    def forget_prepared(self) -> list[bytes]:
        """What psycopg prepared is gone, or stale: it prepares anew. Returns the names there were."""
        names = list(self.prepared._names.values())
        self.prepared.clear()
        self.prepared._to_flush.clear()
        return names

    def forget(self) -> None:
        """After DISCARD ALL: nothing is prepared, nothing is set."""
        self.prepared = self.prepared.anew()
        self.settings = EMPTY
        self.tainted = False
        self.parameters = None
        self.signature = None
        self.last = None


def reset(server: PGServer, command: bytes = b"DISCARD ALL") -> PQGen[None]:
    """End what the last session left: ROLLBACK if needed, then *command*.

    Raises OperationalError when the connection is in no state to be reset (a COPY, a reply outstanding), and
    what the server raises; it must be discarded then.
    """
    pgconn = server.pgconn
    server.unbind()
    status = pgconn.transaction_status
    if pgconn.pipeline_status != PIPELINE_OFF or status not in (IDLE, INTRANS, INERROR):
        raise e.OperationalError("the connection was closed in the middle of an operation")
    if status != IDLE:
        yield from _simple(pgconn, b"ROLLBACK")
    yield from _simple(pgconn, command)
    if pgconn.transaction_status != IDLE:
        raise e.OperationalError(f"{command.decode()} left the connection in a transaction")
    server.forget()


def clean(server: PGServer) -> PQGen[None]:
    """Take away whatever a function may have left, but keep what is prepared."""
    yield from _simple(server.pgconn, b";".join(CLEAN))
    server.settings = EMPTY
    server.signature = None
    server.tainted = False
    server.parameters = None


def _simple(pgconn: pq.abc.PGconn, command: bytes) -> PQGen[None]:
    pgconn.send_query(command)
    for result in (yield from generators.execute(pgconn)):
        if result.status == FATAL_ERROR:
            raise e.error_from_result(result, encoding=pgconn._encoding)
