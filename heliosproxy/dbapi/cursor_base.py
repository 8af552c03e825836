"""What the cursors share: their statements become Calls, and they use whatever PGconn their connection has.

A statement is caught where psycopg turns it into a generator: `_execute_gen`, the COPY, stream and DECLARE kin,
and `_maybe_prepare_gen` for what goes into a pipeline. Cursors of psycopg's own classes (``cursor_factory=
psycopg.ClientCursor``, `TypeInfo.fetch`) are caught at ``conn.wait()``: `adopt_foreign`.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import isgeneratorfunction
from operator import attrgetter
from types import CodeType
from typing import Any, NamedTuple

from psycopg._cursor_base import BaseCursor
from psycopg._queries import PostgresClientQuery, PostgresQuery
from psycopg._server_cursor_base import ServerCursorMixin
from psycopg.abc import Params, PQGen, Query
from psycopg.adapt import Transformer
from psycopg.generators import copy_end, copy_to
from psycopg.rows import Row

from ..call import Call


class Helios(NamedTuple):
    """How the last statement of a cursor was answered.

    Attributes:
        outcome: "hit", "miss", "bypass"; "" when no cache is on, or nothing was executed.
        reason: why it was bypassed, a short stable word; "" otherwise.
        node: the node that answered; "" for a hit.
        seconds: how long it took, from the call to the complete answer; 0.0 where it was not measured.
    """

    outcome: str = ""
    reason: str = ""
    node: str = ""
    seconds: float = 0.0


NO_HELIOS = Helios()


class PathCursor(BaseCursor[Any, Row]):
    """A cursor whose statements take the path. The classes made of it have the slot."""

    __slots__ = ()

    _call: Call | float  # of a quick hit only the seconds; not set before the first statement

    @property
    def helios(self) -> Helios:
        """How the last statement was answered: hit, miss or bypass, why, by which node, how long it took."""
        call: Call | float | None = getattr(self, "_call", None)
        if call is None:
            return NO_HELIOS
        if isinstance(call, float):
            return Helios("hit", seconds=call)
        return Helios(call.outcome, call.reason, call.node, call.seconds)

    # Always the connection's; a slot of psycopg's, read five times in a statement: a getter in C.
    _pgconn: Any = property(attrgetter("_conn.pgconn"), lambda self, value: None)

    def _execute_gen(
        self,
        query: Query,
        params: Params | None = None,
        *,
        prepare: bool | None = None,
        binary: bool | None = None,
    ) -> Any:
        conn = self._conn
        if conn._session is None or conn._pipeline is not None:
            return super()._execute_gen(query, params, prepare=prepare, binary=binary)
        call = self._call = Call(query, params, self, prepare, binary, conn._options)
        return call

    def _maybe_prepare_gen(
        self, pgq: PostgresQuery, *, prepare: bool | None = None, binary: bool | None = None
    ) -> PQGen[None]:
        conn = self._conn
        if conn._pipeline is not None and conn._session is not None:
            _queued(self, pgq)
        return super()._maybe_prepare_gen(pgq, prepare=prepare, binary=binary)

    def _stream_send_gen(
        self, query: Query, params: Params | None = None, *, binary: bool | None = None, size: int
    ) -> PQGen[None]:
        gen = super()._stream_send_gen(query, params, binary=binary, size=size)
        return _opening(self, "stream", query, params, gen)

    def _start_copy_gen(self, statement: Query, params: Params | None = None) -> PQGen[None]:
        return _opening(self, "copy", statement, params, super()._start_copy_gen(statement, params))


class PathServerCursor(PathCursor[Row]):
    """A server-side cursor whose statements take the path."""

    __slots__ = ()

    def _declare_gen(
        self, query: Query, params: Params | None = None, binary: bool | None = None
    ) -> PQGen[None]:
        base: Any = super()  # the ServerCursorMixin that comes next in the classes made of this
        gen = base._declare_gen(query, params, binary)
        return _opening(self, "declare", base._make_declare_statement(query), params, gen)


def _queued(cursor: BaseCursor[Any, Any], pgq: PostgresQuery) -> None:
    conn = cursor._conn
    call = Call(pgq.query, cursor=cursor, kind="pipeline")
    call.bound = pgq
    call.statement = conn._analyse(pgq.query)
    if isinstance(cursor, PathCursor):
        cursor._call = call
    conn._queued(call)


def _opening(
    cursor: BaseCursor[Any, Any], kind: str, query: Query, params: Params | None, gen: PQGen[None]
) -> PQGen[None]:
    """*gen*, after telling the connection which statement its next `_start_query` is for."""
    conn = cursor._conn
    if conn._session is None or conn._pipeline is not None or cursor.closed:
        return gen
    call = Call(query, params, cursor=cursor, kind=kind)
    # COPY takes no parameters: psycopg merges them into the text.
    merged = kind == "copy" and params is not None
    call.bound = (PostgresClientQuery if merged else cursor._query_cls)(Transformer(cursor))
    call.bound.convert(query, params)
    call.statement = conn._analyse(call.bound.query)
    if isinstance(cursor, PathCursor):
        cursor._call = call
    return _entered(conn, call, gen)


def _entered(conn: Any, call: Call, gen: PQGen[None]) -> PQGen[None]:
    conn._entering = call
    try:
        return (yield from gen)
    finally:
        conn._entering = None


def _foreign_execute(cursor: Any, gen: Any, found: dict[str, Any]) -> Any:
    gen.close()
    return Call(
        found["query"], found["params"], cursor=cursor, prepare=found["prepare"], binary=found["binary"]
    )


def _foreign_opening(kind: str, name: str) -> Callable[[Any, Any, dict[str, Any]], Any]:
    def opening(cursor: Any, gen: Any, found: dict[str, Any]) -> Any:
        query = found[name]
        if kind == "declare":
            query = cursor._make_declare_statement(query)
        return _opening(cursor, kind, query, found["params"], gen)

    return opening


_FOREIGN: dict[CodeType, Callable[[Any, Any, dict[str, Any]], Any]] = {
    BaseCursor._execute_gen.__code__: _foreign_execute,
    BaseCursor._stream_send_gen.__code__: _foreign_opening("stream", "query"),
    BaseCursor._start_copy_gen.__code__: _foreign_opening("copy", "statement"),
    ServerCursorMixin._declare_gen.__code__: _foreign_opening("declare", "query"),
}


# Every generator function that a cursor has.
_OF_CURSORS = frozenset(
    function.__code__
    for class_ in (BaseCursor, ServerCursorMixin)
    for function in vars(class_).values()
    if isgeneratorfunction(function)
)


def adopt_foreign(conn: Any, gen: Any) -> Any:
    """*gen* as the path takes it, if it was made by a cursor of psycopg's own class; else *gen*.

    Such a cursor keeps the PGconn it was born with; with the parked one it would wait for ever.
    """
    code = getattr(gen, "gi_code", None)
    if code in _OF_COPY and gen.gi_frame is not None:
        return _for_current(conn, gen)
    if code is None or code not in _OF_CURSORS or gen.gi_frame is None:
        return gen
    found = gen.gi_frame.f_locals
    cursor = found.get("self")
    if not isinstance(cursor, BaseCursor) or isinstance(cursor, PathCursor):
        return gen
    if conn._pipeline is not None:
        if code in _FOREIGN_PIPELINED:
            _queue_foreign(cursor, found)
    elif (recognised := _FOREIGN.get(code)) is not None:
        gen = recognised(cursor, gen, found)
    return _following(conn, cursor, gen)


def _for_current(conn: Any, gen: Any) -> Any:
    """*gen* for the PGconn *conn* has now: a writer made before the COPY began remembers an earlier one."""
    found = dict(gen.gi_frame.f_locals)
    if found.pop("pgconn") is conn.pgconn:
        return gen
    gen.close()
    return _OF_COPY[gen.gi_code](conn.pgconn, **found)


_OF_COPY: dict[Any, Any] = {function.__code__: function for function in (copy_to, copy_end)}

_FOREIGN_PIPELINED = frozenset(
    {BaseCursor._execute_gen.__code__, BaseCursor._executemany_gen_pipeline.__code__}
)


def _queue_foreign(cursor: BaseCursor[Any, Any], found: dict[str, Any]) -> None:
    # The parameters of an executemany() are not to be consumed here: without them the text has psycopg's
    # placeholders, which is no SQL, so the statement counts as one that may do anything.
    pgq = cursor._query_cls(Transformer(cursor))
    pgq.convert(found["query"], found.get("params"))
    _queued(cursor, pgq)


def _following(conn: Any, cursor: Any, gen: Any) -> Any:
    if isinstance(gen, Call):
        return gen  # each attempt re-points its cursor
    return _Repointed(conn, cursor, gen)


class _Repointed:
    """A generator of a foreign cursor that is re-pointed each time before it goes on."""

    __slots__ = ("_conn", "_cursor", "_gen")

    def __init__(self, conn: Any, cursor: Any, gen: Any) -> None:
        self._conn = conn
        self._cursor = cursor
        self._gen = gen

    def __iter__(self) -> _Repointed:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        self._cursor._pgconn = self._conn.pgconn
        return self._gen.send(value)

    def throw(self, *args: Any) -> Any:
        return self._gen.throw(*args)

    def close(self) -> None:
        self._gen.close()
