"""A statement of a psycopg connection on the path, and what psycopg sends by itself.

Everything goes through ``conn.wait()``. psycopg's own generators yield, before anything else, the Lease they
need; those it has for BEGIN and for its internal commands (``_start_query``, ``_exec_command``) are replaced here.
"""

from __future__ import annotations

from typing import Any, cast

from psycopg import errors as e
from psycopg import pq
from psycopg._cursor_base import BaseCursor
from psycopg.abc import PQGen, QueryNoTemplate
from psycopg.adapt import Transformer
from psycopg.rows import Row
from psycopg.sql import Composable

from ..call import Call
from ..effects import Lease
from ..session import Session
from ..sql.statement import Statement
from ..sql.statement import TransactionOp as Op
from ..state import consequences, refusals
from ..state.transaction import LOCAL, Status
from . import parked as twins
from .attempt import attempt, command_in_flight, fly
from .home import Known
from .lending import ACTIVE, OK, PIPELINE_OFF, STATUS, Lending

TEXT = pq.Format.TEXT
IDLE = pq.TransactionStatus.IDLE
_ENDS = (b"COMMIT", b"ROLLBACK")


class Travelling(Lending[Row]):
    """The edge of a Session: what it asks of the real connection."""

    def begin_command(self) -> bytes:
        """The BEGIN psycopg would send before the next statement."""
        return b"" if self._autocommit else self._get_tx_start_command()

    def reply(self, call: Call) -> tuple[Status, bytes | None]:
        """Status, and tag where it tells something, after a statement succeeded."""
        session: Any = self._session
        cursor = call.cursor
        if cursor is not None:
            call.results = cursor._results
            cursor._last_query = call.query
        status = STATUS[self.pgconn.transaction_status]
        # Outside a transaction before and after, the outcome of a success is no question.
        return status, self._tag(call) if status or session.tx.status else None

    def repeat(self, call: Call) -> Call:
        """The statement of *call* once more, from its recipe; the results go to a cursor of its own."""
        conn: Any = self
        cursor = conn.cursor()
        cursor._tx = Transformer(cursor)
        again = Call(call.query, call.params, cursor, call.prepare, call.binary, call.options, call.kind)
        again.bound, again.statement, again.quiet = call.bound, call.statement, call.quiet
        return again

    def stumbled(self) -> tuple[Status, bool]:
        """Status after a statement failed; a connection with replies outstanding is closed."""
        pgconn = self.pgconn
        if pgconn.status == OK:
            status = pgconn.transaction_status
            if status != ACTIVE and (pgconn.pipeline_status == PIPELINE_OFF or self._pipeline is not None):
                return STATUS[status], False
            pgconn.finish()
        return Status.IDLE, True

    def _ready(self, call: Call) -> bool:
        """The path up to the server: True when the statement is answered already."""
        session: Any = self._session
        if self.pgconn.status != OK:
            self._check_connection_ok()
        cursor, query = call.cursor, call.query
        if cursor._closed:
            raise e.InterfaceError("the cursor is closed")
        cursor._reset()
        if cursor._last_query is not query or not query:
            cursor._last_query = None
            cursor._tx = Transformer(cursor)
        path, entry = session.path, None
        if path.lookup and call.bound is None:
            entry = session.lookup(call)
        if entry is None:
            self._convert(call)
            if path.lookup and not call.reason:  # it is not the parameters that bar it
                entry = session.lookup(call)
        statement = call.statement
        if session.tx.status is Status.LOST or (statement and (statement.transaction or statement.parts)):
            self._check_status(call)
        if path.before:
            session.guard(call)
        if entry is not None:
            results = session.answer(call, entry)
            if results is not None:
                self._answered(call, results)
                return True
            if call.bound is None:
                self._convert(call)
        return False

    def _convert(self, call: Call) -> Known:
        """Convert query and parameters of *call*, unless that is done, and look its facts up."""
        encoding = self._parked.encoding if self._at_rest else self._encoding()
        known: Known | None
        if call.bound is None:
            known = self._home.converted(call, encoding)
            if known is None:
                call.bound = call.cursor._convert_query(call.query, call.params)
                known = self._home.facts(call.bound.query, encoding)
                self._home.remember(call, known, encoding)
        else:
            known = self._home.facts(call.bound.query, encoding)
        call.statement, call.quiet = known.statement, known.quiet
        return known

    def _attempt(self, call: Call) -> PQGen[None]:
        """The generator that sends *call* and gives its cursor the results; fresh for each attempt."""
        cursor = call.cursor
        cursor._pgconn = self.pgconn
        call.node = self._home.pool.key.node
        if call.flight is None:
            return BaseCursor._maybe_prepare_gen(cursor, call.bound, prepare=call.prepare, binary=call.binary)
        return attempt(self, call)

    def _answered(self, call: Call, results: list[Any]) -> None:
        session, cursor = cast(Session, self._session), call.cursor
        if session.tx.status is Status.IDLE and not self._autocommit:
            self._promise(self._get_tx_start_command())
        session.tx.queried = session.tx.status is Status.PROMISED
        cursor._results = results
        cursor._select_current_result(0)
        cursor._last_query = call.query

    def _analyse(self, text: bytes) -> Statement:
        return self._home.facts(text, self._encoding()).statement

    def _check_status(self, call: Call) -> None:
        session = cast(Session, self._session)
        refusals.check(session, call.statement, statement_mode=self._home.statement_mode)

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
        if flight is not None:
            yield from fly(self.pgconn, flight.state, flight.begin)
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

    def _start_query(self) -> PQGen[None]:
        if self._session is None or self._pipeline is not None:
            return super()._start_query()
        call, self._entering = self._entering, None
        return self._enter_gen(call or Call(b"", kind="command"))

    def _exec_command(
        self, command: QueryNoTemplate, result_format: pq.Format = TEXT
    ) -> PQGen[pq.abc.PGresult | None]:
        if self._session is None:
            return super()._exec_command(command, result_format)
        if self._pipeline is not None:
            return self._piped_command_gen(command, result_format)
        return self._command_gen(command, result_format)

    def _piped_command_gen(
        self, command: QueryNoTemplate, result_format: pq.Format
    ) -> PQGen[pq.abc.PGresult | None]:
        command = self._as_bytes(command)
        call = Call(command, kind="pipeline")
        call.statement = self._analyse(command)
        self._queued(call)
        return (yield from super()._exec_command(command, result_format))

    def _as_bytes(self, command: QueryNoTemplate) -> bytes:
        if isinstance(command, bytes):
            return command
        return command.as_bytes(self) if isinstance(command, Composable) else command.encode(self._encoding())

    def _rollback_gen(self) -> PQGen[None]:
        session = self._session
        if session is None or self._pipeline is not None or self._num_transactions or self._tpc:
            yield from super()._rollback_gen()
            return
        if self.pgconn.transaction_status == IDLE:
            return
        # psycopg forgets what is prepared, because what was created is gone and may be created anew. Who does not
        # know whether something was created must; who reads and rolls back each time would never prepare anything.
        loud = session.tx.loud
        yield from self._exec_command(b"ROLLBACK")
        if loud:
            self._prepared.clear()
            yield from self._prepared.maintain_gen(self)

    def _ended_gen(self, session: Session, command: QueryNoTemplate) -> PQGen[pq.abc.PGresult | None]:
        """`_command_gen` for the end of a transaction that a server connection is in, where no stage is concerned."""
        try:
            result = yield from super()._exec_command(command)
        except BaseException:
            call = Call(command, kind="command")
            call.statement, call.quiet = self._analyse(self._as_bytes(command)), True
            session.failed(call, *self.stumbled())
            raise
        status = STATUS[self.pgconn.transaction_status]
        session.ended(status, None if result is None else result.command_status)
        return result

    def _command_gen(
        self, command: QueryNoTemplate, result_format: pq.Format
    ) -> PQGen[pq.abc.PGresult | None]:
        session: Any = self._session
        if self._bare and session.tx.status is Status.OPEN and command in _ENDS:
            server = session.server
            if server.pgconn is self.pgconn and not server.streamed:
                return (yield from self._ended_gen(session, command))
        self._check_connection_ok()
        command = self._as_bytes(command)
        if command.startswith(b"DEALLOCATE") and session.server is not None:
            return (yield from super()._exec_command(command, result_format))
        call = Call(command, kind="command")
        statement = call.statement = self._analyse(command)
        self._check_status(call)
        transaction = statement.transaction
        if transaction is not None:
            if self._settled_here(transaction.op, command):
                return None
            # What they do to the session is told by the status and the tag.
            call.quiet = transaction.op in (Op.COMMIT, Op.ROLLBACK)
        session.guard(call)
        if session.server is None:
            yield cast(Any, Lease(session.pool, session.settings.signature))
        elif self.pgconn is not session.server.pgconn:
            self.adopt(session.server)
        flight = session.compose(call, b"")
        try:
            result: pq.abc.PGresult | None
            if flight is not None:
                result = yield from command_in_flight(self.pgconn, command, result_format, flight)
            else:
                result = yield from super()._exec_command(command, result_format)
        except BaseException:
            status, lost = self.stumbled()
            session.failed(call, status, lost)
            raise
        call.results = [result]
        session.arrived(call, *self.reply(call))
        return result

    def _settled_here(self, op: Op, command: bytes) -> bool:
        """Whether *op* needs no server; if so it is done."""
        session: Any = self._session
        then = LOCAL.get((session.tx.status, op))
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


def _leaves_traces(session: Session, statement: Statement | None) -> bool:
    return statement is None or consequences.any_of(statement, session.harmless)
