"""What the blocking and the asyncio connection share: how a psycopg connection borrows its PGconn.

Everything here touches private attributes of psycopg 3.3 (pyproject pins the minor version;
tests/dbapi/test_psycopg_internals.py has one test per attribute):

    conn.pgconn        the leased server connection's, or a parked one (parked.py)
    conn._prepared     belongs to the server connection, so it changes with it
    conn._closed       set by our close()
    conn._exec_command, _start_query     the generators through which psycopg sends what it needs itself
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast
from warnings import warn

from psycopg import IsolationLevel, pq
from psycopg import errors as e
from psycopg._connection_base import BaseConnection
from psycopg.abc import PQGen, QueryNoTemplate
from psycopg.adapt import Transformer
from psycopg.rows import Row
from psycopg.sql import Composable

from ..call import Call, Flight
from ..drivers.pgserver import PGServer
from ..effects import Lease
from ..errors import ForkedError, UnsupportedError
from ..session import Session
from ..sql.statement import Statement
from ..sql.statement import TransactionOp as Op
from ..state import consequences
from ..state.transaction import LOCAL, Status
from . import parked as twins
from .attempt import ahead, command_in_flight
from .home import Home
from .info import ConnectionInfo

OK = pq.ConnStatus.OK
BAD = pq.ConnStatus.BAD
TEXT = pq.Format.TEXT
ACTIVE = pq.TransactionStatus.ACTIVE
PIPELINE_OFF = pq.PipelineStatus.OFF

# libpq's PQtransactionStatus as ours; ACTIVE and UNKNOWN never get here.
STATUS: dict[int, Status] = {
    pq.TransactionStatus.IDLE: Status.IDLE,
    pq.TransactionStatus.INTRANS: Status.OPEN,
    pq.TransactionStatus.INERROR: Status.FAILED,
}
_SNAPSHOT = (IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE)
_TWIN = {
    Status.IDLE: twins.IDLE,
    Status.PROMISED: twins.INTRANS,
    Status.LOST: twins.INERROR,
}


class PathConnection(BaseConnection[Row]):
    """A connection whose statements take the path of a Session. With `_session` None: psycopg's own methods.

    Attributes:
        _home: the pool and what is known about its server.
        _session: the logical session; None in session mode without a stage.
        _held: without a session, the server connection held from connect() to close().
        _at_rest: its PGconn is a parked one.
        _options: ``helios={…}`` of the statement that is being started.
    """

    _home: Home
    _session: Session | None = None
    _held: PGServer | None = None
    _at_rest = False
    _forked = False
    _cancelling = 0

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
            session.encoding = self.pgconn._encoding
            if server is not None:
                session.take(server, self)
        home.proxy.opened(self)

    # -- holding and giving back -------------------------------------------------------------------

    def adopt(self, server: Any) -> None:
        """From here on psycopg's code works on *server*."""
        pgconn = server.pgconn
        self.pgconn = pgconn
        self._at_rest = False
        prepared = self._prepared = server.prepared
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
        session = cast(Session, self._session)
        server = session.server
        if server is None:
            return
        pgconn = server.pgconn
        if pgconn.status == BAD:
            self._lost()
            return
        status = pgconn.transaction_status
        if status == ACTIVE or self._pipeline is not None:
            return
        if session.open:
            calls, session.open = session.open, []
            session.piped.clear()
            for call in calls:
                server.streamed |= call.kind == "stream"
                session.arrived(call, STATUS[status], self._tag(call))
        if session.free():
            self._give_back()

    def _give_back(self) -> None:
        session = cast(Session, self._session)
        server = session.let_go()
        self._park(Status.IDLE, server)
        server.unbind()
        if self._cancelling:
            self._await_cancels()
        if server.reusable():
            server.pool.release(server)
        else:
            server.pool.discard(server)

    def _lost(self) -> None:
        """The server connection died. Without pins the logical connection lives on, on another one."""
        session = cast(Session, self._session)
        calls, session.open = session.open, []
        for call in calls:
            session.failed(call, Status.IDLE, lost=True)
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

    # -- the edge of the session -------------------------------------------------------------------

    def begin_command(self) -> bytes:
        """The BEGIN psycopg would send before the next statement."""
        return b"" if self._autocommit else self._get_tx_start_command()

    def reply(self, call: Call) -> tuple[Status, bytes | None]:
        """Status and tag after a statement succeeded."""
        return STATUS[self.pgconn.transaction_status], self._tag(call)

    def stumbled(self) -> tuple[Status, bool]:
        """Status after a statement failed; a connection with replies outstanding is closed."""
        pgconn = self.pgconn
        if pgconn.status == OK:
            status = pgconn.transaction_status
            if status != ACTIVE and (pgconn.pipeline_status == PIPELINE_OFF or self._pipeline is not None):
                return STATUS[status], False
            pgconn.finish()
        return Status.IDLE, True

    def _tag(self, call: Call) -> bytes | None:
        results = call.results or (call.cursor is not None and call.cursor._results)
        return results[-1].command_status if results else None

    # -- a statement -------------------------------------------------------------------------------

    def _ready(self, call: Call) -> bool:
        """The path up to the server: True when the statement is answered already."""
        session = cast(Session, self._session)
        if self.pgconn.status != OK:
            self._check_connection_ok()
        cursor = call.cursor
        if cursor._closed:
            raise e.InterfaceError("the cursor is closed")
        cursor._reset()
        if not cursor._last_query or cursor._last_query is not call.query:
            cursor._last_query = None
            cursor._tx = Transformer(cursor)
        entry = None
        caches = session.path.lookup
        if caches:
            entry = session.lookup(call)
        if entry is None:
            call.bound = cursor._convert_query(call.query, call.params)
            call.statement = self._analyse(call.bound.query)
            if caches:
                entry = session.lookup(call)
        self._check_status(call)
        session.guard(call)
        if entry is not None:
            results = session.answer(call, entry)
            if results is not None:
                self._answered(call, results)
                return True
        if call.bound is None:
            call.bound = cursor._convert_query(call.query, call.params)
        return False

    def _answered(self, call: Call, results: list[Any]) -> None:
        session, cursor = cast(Session, self._session), call.cursor
        if session.tx.status is Status.IDLE and not self._autocommit:
            self._promise(self._get_tx_start_command())
        session.tx.queried = session.tx.status is Status.PROMISED
        cursor._results = results
        cursor._select_current_result(0)
        cursor._last_query = call.query

    def _analyse(self, text: bytes) -> Any:
        return self._home.memo.get(text.decode(self.pgconn._encoding, "surrogateescape"))

    def _check_status(self, call: Call) -> None:
        """Refuse what the server would refuse, where no server is there to do so."""
        session = cast(Session, self._session)
        statement = call.statement
        transaction = statement.transaction if statement is not None else None
        if session.tx.status is Status.LOST and not (transaction and transaction.op is Op.ROLLBACK):
            raise e.InFailedSqlTransaction(
                "the transaction was lost with its server connection: roll back to go on with another one"
            )
        if self._home.statement_mode and transaction and transaction.op in (Op.BEGIN, Op.PREPARE):
            raise _no_transactions()

    def _enter_gen(self, call: Call) -> PQGen[None]:
        """Lease, restore and BEGIN for what then goes psycopg's own way (COPY, streams, DECLARE)."""
        session = cast(Session, self._session)
        self._check_connection_ok()
        self._check_status(call)
        session.guard(call)
        if session.server is None:
            yield cast(Any, Lease(session.pool, session.settings.signature))
        elif self.pgconn is not session.server.pgconn:
            self.adopt(session.server)
        flight = session.compose(call, self.begin_command())
        session.open.append(call)
        if flight:
            yield from ahead(self.pgconn, flight)
            self._begun(flight)

    def _queued(self, call: Call) -> None:
        """A statement enters a pipeline: guard it, count it in; the server connection is held already."""
        session = cast(Session, self._session)
        self._check_status(call)
        session.guard(call)
        session.compose(call, b"")
        # A pipeline may be endless: what leaves no trace in the session is remembered once.
        if call.statement not in session.piped or _leaves_traces(session, call.statement):
            session.piped.add(call.statement)
            session.open.append(call)

    # -- what psycopg sends by itself --------------------------------------------------------------

    def _start_query(self) -> PQGen[None]:
        if self._session is None or self._pipeline is not None:
            return super()._start_query()
        call, self._entering = self._entering, None
        return self._enter_gen(call or Call(b"", kind="command"))

    def _exec_command(
        self, command: QueryNoTemplate, result_format: pq.Format = TEXT
    ) -> PQGen[pq.abc.PGresult | None]:
        if self._session is None or self._pipeline is not None:
            return super()._exec_command(command, result_format)
        return self._command_gen(command, result_format)

    def _command_gen(
        self, command: QueryNoTemplate, result_format: pq.Format
    ) -> PQGen[pq.abc.PGresult | None]:
        session = cast(Session, self._session)
        self._check_connection_ok()
        if isinstance(command, str):
            command = command.encode(self.pgconn._encoding)
        elif isinstance(command, Composable):
            command = command.as_bytes(self)
        if command.startswith(b"DEALLOCATE") and session.server is not None:
            return (yield from super()._exec_command(command, result_format))
        call = Call(command, kind="command")
        statement = call.statement = self._analyse(command)
        self._check_status(call)
        if statement.transaction is not None and self._settled_here(statement.transaction.op, command):
            return None
        session.guard(call)
        if session.server is None:
            yield cast(Any, Lease(session.pool, session.settings.signature))
        elif self.pgconn is not session.server.pgconn:
            self.adopt(session.server)
        flight = session.compose(call, b"")
        try:
            result: pq.abc.PGresult | None
            if flight:
                result = yield from command_in_flight(self.pgconn, command, result_format, flight)
            else:
                result = yield from super()._exec_command(command, result_format)
        except BaseException:
            status, lost = self.stumbled()
            session.failed(call, status, lost=lost)
            raise
        call.results = [result]
        session.arrived(call, *self.reply(call))
        return result

    def _settled_here(self, op: Op, command: bytes) -> bool:
        """Whether *op* needs no server; if so it is done."""
        session = cast(Session, self._session)
        status = session.tx.status
        then = LOCAL.get((status, op))
        if then is None:
            return False
        if then is Status.PROMISED:
            self._promise(command)
        else:
            session.local(then)
            if session.server is not None:
                self.adopt(session.server)
            else:
                self._rest(twins.IDLE)
        return True

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
        if self._forked:
            raise ForkedError(
                "this connection was opened before fork() and its server connection belongs to the parent"
                " process; open a new one in the child"
            )
        if self._at_rest and self.pgconn.status == BAD:
            self._check_rest()
        super()._check_connection_ok()

    # -- attributes --------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """True after close(), and when a server connection it had to keep was lost."""
        return self.pgconn.status == BAD and not self._at_rest

    @property
    def broken(self) -> bool:
        """True when a server connection it had to keep was lost."""
        return self.closed and not self._closed

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

    @property
    def info(self) -> ConnectionInfo:
        """As psycopg's; while no server connection is held it tells what the pool's last one told."""
        return ConnectionInfo(self.pgconn, self._home if self._at_rest else None)

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


def _leaves_traces(session: Session, statement: Statement | None) -> bool:
    return statement is None or consequences.any_of(statement, session.harmless)


def _no_transactions() -> UnsupportedError:
    return UnsupportedError(
        "BEGIN in statement mode: each statement may go to another server connection;"
        " use pool.mode = 'transaction'"
    )
