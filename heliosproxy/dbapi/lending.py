"""How a psycopg connection borrows its PGconn, and gives it back.

Touches private attributes of psycopg 3.3 (pyproject pins the minor version; tests/dbapi/test_psycopg_internals.py
has a test for each): ``pgconn``, ``_prepared``, which belongs to the server connection and changes with it,
``_autocommit``, ``_pipeline``, ``_closed`` and the handlers bound to a PGconn.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast
from warnings import warn

from psycopg import pq
from psycopg._connection_base import BaseConnection
from psycopg.rows import Row

from ..call import Call, Flight
from ..drivers.pgserver import PGServer
from ..errors import ForkedError
from ..session import Edge, Session
from ..state.transaction import Status
from . import parked as twins
from .home import Home

OK = pq.ConnStatus.OK
BAD = pq.ConnStatus.BAD
ACTIVE = pq.TransactionStatus.ACTIVE
PIPELINE_OFF = pq.PipelineStatus.OFF

# libpq's PQtransactionStatus (IDLE, ACTIVE, INTRANS, INERROR) as ours; ACTIVE never gets here.
STATUS = (Status.IDLE, Status.IDLE, Status.OPEN, Status.FAILED)
_TWIN = {
    Status.IDLE: twins.IDLE,
    Status.PROMISED: twins.INTRANS,
    Status.LOST: twins.INERROR,
}


class Lending(BaseConnection[Row]):
    """The life of a connection between its pool's server connections.

    With `_session` None it holds one from connect() to close(), and is psycopg's own in everything else.

    Attributes:
        _home: the pool and what is known about its server.
        _session: the logical session; None in session mode without a stage.
        _held: without a session, the server connection held from connect() to close().
        _at_rest: its PGconn is a parked one.
        _counted: among its Proxy's logical connections.
        _quick: what answers a statement before anything else is done with it; None where that cannot be.
        _short: who observes a statement that took the short way (`express.py`); None where none may.
        _bare: no stage has anything to do with statements on their way to a server and back.
        _options: ``helios={…}`` of the statement that is being started.
    """

    _home: Home
    _parked: twins.Parked
    _session: Session | None = None
    _held: PGServer | None = None
    _at_rest = False
    _forked = False
    _gone = False
    _counted = False
    _cancelling = 0
    _options: dict[str, Any] | None = None
    _quick: Any = None
    _short: tuple[Any, ...] | None = None
    _bare = False

    def _attach(self, home: Home, session: Session | None, server: PGServer | None) -> None:
        """Begin life: in a pool's *home*, with the *server* that connect() leased, if it keeps one."""
        self._home = home
        # Bound by BaseConnection.__init__ to the PGconn it was given, which may be shared.
        self._on_notice = self.pgconn.notice_handler
        self._on_notify = self.pgconn.notify_handler
        self._threshold: int | None = self._prepared.prepare_threshold
        self._prepared_most = self._prepared.prepared_max
        self._unleased = self._prepared
        self._entering: Call | None = None
        self._session = session
        if server is not None and session is None:
            self._held = server
            self.adopt(server)
        elif session is not None:
            self.pgconn.notice_handler = self.pgconn.notify_handler = None
            self._at_rest = True
            self._quick = session.path.swift
            self._short = session.path.short
            self._bare = session.path.bare
            session.encoding = self.pgconn._encoding
            if server is not None:
                session.take(server, cast(Edge, self))
        home.proxy.opened(self)

    def adopt(self, server: Any) -> None:
        """From here on psycopg's code works on *server*."""
        pgconn = server.pgconn
        self.pgconn = pgconn
        self._at_rest = False
        prepared = self._prepared = server.prepared
        prepared.user = cast(Session, self._session)
        prepared.prepare_threshold = self._threshold
        prepared.prepared_max = self._prepared_most
        pgconn.notice_handler = self._on_notice
        pgconn.notify_handler = self._on_notify

    def _park(self, status: Status, server: PGServer) -> None:
        if server.pgconn.status == OK:  # a dead one tells nothing: what was known before still holds
            if server.parameters is None:
                server.parameters = twins.of(server.pgconn)
            self._parked = server.parameters
        self._rest(_TWIN[status])
        self._prepared = self._unleased

    def _encoding(self) -> str:
        """The client encoding; PGconn would look it up each time."""
        session = self._session
        if self._at_rest or session is None or session.server is None:
            return self._parked.encoding
        parked: twins.Parked | None = session.server.parameters
        return str(self.pgconn._encoding) if parked is None else parked.encoding

    def _rest(self, twin: bytes) -> None:
        self.pgconn = self._parked.pgconn(twin)
        self._at_rest = True

    def _promise(self, begin: bytes) -> None:
        """BEGIN was asked for; it goes out with the first statement that needs a server."""
        session = cast(Session, self._session)
        session.tx.promise(begin)
        if session.server is not None:
            self._park(Status.PROMISED, session.server)
        else:
            self._rest(twins.INTRANS)

    def _settle(self) -> None:
        """At the end of every wait: note what is complete, give the server connection back if we may."""
        session: Any = self._session
        server = session.server
        if server is None:
            return
        pgconn = server.pgconn
        if pgconn.status == BAD:
            self._lost()
            return
        status = pgconn.transaction_status
        if status == ACTIVE:
            return
        if self._pipeline is not None:
            if session.open and not self._pipeline.result_queue:  # a Sync was answered
                session.synced(STATUS[status])
            return
        if session.open:
            calls, session.open = session.open, []
            session.piped.clear()
            stumbled, session.stumbled = session.stumbled, False
            for call in calls:
                server.streamed |= call.kind == "stream"
                if stumbled:
                    session.unsure(call, STATUS[status])
                else:
                    session.arrived(call, STATUS[status], self._tag(call))
        if not session.pins and not session.tx.status and not session.open:  # Status.IDLE is 0
            self._give_back(session.let_go())

    def _give_back(self, server: PGServer) -> None:
        """*server*, which the session has let go, back to its pool."""
        pgconn = server.pgconn
        parked = server.parameters
        if parked is None:
            parked = server.parameters = twins.of(pgconn)
        self._parked = parked
        self.pgconn = parked.pgconn(twins.IDLE)
        self._at_rest = True
        self._prepared = self._unleased
        pgconn.notice_handler = pgconn.notify_handler = None
        if self._cancelling:
            self._await_cancels()
        if pgconn.pipeline_status == PIPELINE_OFF:
            server.pool.release(server)
        else:
            server.pool.discard(server)

    def _tag(self, call: Call) -> bytes | None:
        results = call.results or (call.cursor is not None and call.cursor._results)
        return results[-1].command_status if results else None

    def _lost(self) -> None:
        """The server connection died. Without pins the logical connection lives on, on another one."""
        session = cast(Session, self._session)
        calls, session.open = session.open, []
        session.piped.clear()
        session.stumbled = False
        for call in calls:
            session.failed(call, Status.IDLE, True)
        if not calls and session.tx.status in (Status.OPEN, Status.FAILED):
            session.lost_between()
        server = session.let_go()
        if not session.pins:
            self._park(session.tx.status, server)
        server.pool.discard(server)

    def _detach(self) -> PGServer | None:
        """The end: hold nothing, be closed. Returns the server connection it held."""
        server: PGServer | None
        session = self._session
        if session is None:
            server, self._held = self._held, None
        else:
            if session.open or session.tx.status is not Status.IDLE:
                session.abandoned()
            server = session.let_go() if session.server is not None else None
        self._at_rest = False
        self.pgconn = self._home.proxy.closed_pgconn
        self._home.proxy.gone(self)
        if self._cancelling:
            self._await_cancels()
        return server

    @contextmanager
    def _cancelling_now(self) -> Iterator[bool]:
        """Hold the lease while a cancel request is under way; False when there is nothing to cancel."""
        session = self._session
        if session is None:
            yield True
            return
        if not self._should_cancel():
            yield False
            return
        with self._home.cancels:
            self._cancelling += 1
            try:
                # Told before looking: whoever gives the lease back after this waits for us.
                yield session.server is not None and session.server.pgconn is self.pgconn
            finally:
                self._cancelling -= 1

    def _begun(self, flight: Flight) -> None:
        if flight.begin:
            cast(Session, self._session).tx.status = Status.OPEN

    def _left_pipeline(self) -> None:
        """After a pipeline: its statements are complete, or lost."""
        if self._session is not None and self._pipeline is None:
            self._settle()

    def _await_cancels(self) -> None:
        with self._home.cancels:  # held while a cancel request is under way
            pass

    def __del__(self, __warn: Any = warn) -> None:
        super().__del__(__warn)
        server = self._held
        if server is None and self._session is not None:
            server = self._session.server
        if server is not None:
            # Not under the pool's lock: the garbage collector may run while this thread holds it.
            server.pool.abandon(server)
        if self._counted:
            self._home.proxy.vanished(self)

    def _orphan(self) -> None:
        """In a forked child: what the parent leased is the parent's."""
        session = self._session
        if self._held is not None or (session is not None and session.server is not None):
            self._held = None
            if session is not None:
                session.server = None
            self._forked = True
            self._at_rest = False
            self.pgconn = self._home.proxy.closed_pgconn

    def _check_rest(self) -> None:
        """Before anything that reads the parked PGconn: is it what it should be?

        It is shared, and somebody may have used it (``conn.pgconn.exec_()``); take another one then.
        """
        if self._at_rest:
            twin = _TWIN[cast(Session, self._session).tx.status]
            if self.pgconn is not self._parked.pgconn(twin):
                self._rest(twin)
        elif self.pgconn.status == BAD:
            self._check_connection_ok()

    def _check_connection_ok(self) -> None:
        if self.pgconn.status == OK:
            return
        if self._forked:
            raise ForkedError(
                "this connection was opened before fork() and its server connection belongs to the parent"
                " process; open a new one in the child"
            )
        if self._at_rest and self.pgconn.status == BAD:
            self._check_rest()
        super()._check_connection_ok()
