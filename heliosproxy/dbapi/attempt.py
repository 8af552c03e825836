"""One attempt of a statement: from its recipe to its results, in one flight where the protocol allows.

    [state … Sync] [begin …] statement [behind …] Sync

libpq's pipeline mode carries it; no text is joined to another, so error positions stay those of the client's
own text. Two Syncs, because with one a failing statement would roll the settings back while we believe them
applied. Several statements in one text, COPY, and what PostgreSQL refuses inside a block travel alone, behind
a flight of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import errors as e
from psycopg import generators, pq
from psycopg._preparing import Prepare
from psycopg._queries import PostgresClientQuery
from psycopg.abc import PQGen

from ..call import Call, Flight
from ..sql.statement import Kind

# COPY breaks libpq's pipeline mode; what we could not parse may be COPY, or several statements.
_ALONE = frozenset({Kind.COPY, Kind.UNCLASSIFIED, Kind.EMPTY, Kind.EXECUTE, Kind.CALL})

FATAL_ERROR = pq.ExecStatus.FATAL_ERROR
PIPELINE_ABORTED = pq.ExecStatus.PIPELINE_ABORTED
PIPELINE_SYNC = pq.ExecStatus.PIPELINE_SYNC
BINARY = pq.Format.BINARY
TEXT = pq.Format.TEXT
OK = pq.ConnStatus.OK


def attempt(conn: Any, call: Call) -> PQGen[None]:
    """Send *call* on the server connection *conn* holds, in its flight; its cursor gets the results."""
    flight: Any = call.flight
    if flight.wary:
        yield from _first(conn.pgconn, flight)
    if travels_alone(call):
        yield from fly(conn.pgconn, flight.state, flight.begin)
        yield from call.cursor._maybe_prepare_gen(call.bound, prepare=call.prepare, binary=call.binary)
    else:
        yield from _together(conn, call)


def travels_alone(call: Call) -> bool:
    """Whether the statement of *call* cannot be in one flight with others."""
    statement = call.statement
    if statement is None or statement.simple_only or not statement.in_block or statement.kind in _ALONE:
        return True
    if statement.parameters and not call.bound.params:
        return True  # PostgreSQL's answer to a parameter nobody gave is that of the simple protocol: 42P02
    # Its parameters are in its text already; it says itself what it does not support.
    binary = call.cursor.format == BINARY if call.binary is None else call.binary
    return isinstance(call.bound, PostgresClientQuery) and binary


def fly(pgconn: pq.abc.PGconn, state: Sequence[bytes], rest: Sequence[bytes]) -> PQGen[None]:
    """Send *state*, Sync, *rest*, Sync, read all replies, and raise the first error."""
    pgconn.enter_pipeline_mode()
    before = sent = _queue(pgconn, state)
    if rest:
        sent += _queue(pgconn, rest)
    replies = yield from _collect(pgconn, sent)
    _check_state(pgconn, replies[:before])
    for results in replies[before:]:
        if error := _error(pgconn, results):
            raise error


def _first(pgconn: pq.abc.PGconn, flight: Flight) -> PQGen[None]:
    """Send the state by itself: what follows must not run without it."""
    state, flight.state, flight.wary = flight.state, (), False
    yield from fly(pgconn, state, ())


def _check_state(pgconn: pq.abc.PGconn, replies: Sequence[list[pq.abc.PGresult]]) -> None:
    """Raise the first error among *replies* to a session's state; then nobody knows it, so end the connection."""
    for results in replies:
        if error := _error(pgconn, results):
            pgconn.finish()
            raise error


def _together(conn: Any, call: Call) -> PQGen[None]:
    cursor, pgq, pgconn = call.cursor, call.bound, conn.pgconn
    flight: Any = call.flight
    manager = conn._prepared
    prep, name = cursor._get_prepared(pgq, call.prepare)
    fmt = cursor.format if call.binary is None else (BINARY if call.binary else TEXT)
    cursor._query = pgq

    pgconn.enter_pipeline_mode()
    try:
        sent = _queue(pgconn, flight.state) if flight.state else 0
        for command in flight.begin:
            pgconn.send_query_params(command, None)
        if prep is Prepare.SHOULD:
            pgconn.send_prepare(name, pgq.query, param_types=pgq.types)
        if isinstance(pgq, PostgresClientQuery):
            pgconn.send_query_params(pgq.query, None)
        elif prep is Prepare.NO:
            pgconn.send_query_params(
                pgq.query, pgq.params, param_formats=pgq.formats, param_types=pgq.types, result_format=fmt
            )
        else:
            pgconn.send_query_prepared(name, pgq.params, param_formats=pgq.formats, result_format=fmt)
        for command in flight.behind:
            pgconn.send_query_params(command, None)
        pgconn.pipeline_sync()
    except BaseException:
        # A parameter libpq refuses: what was queued must be answered before the mode can be left.
        if pgconn.status == OK:
            pgconn.pipeline_sync()
            yield from _drain(pgconn, 2 if flight.state else 1)
        raise
    before = sent + len(flight.begin) + (prep is Prepare.SHOULD)
    replies = yield from _collect(pgconn, before + 1 + len(flight.behind) + 1)

    _check_state(pgconn, replies[:sent])
    for results in replies[sent:before]:
        if error := _error(pgconn, results):
            raise error
    results = replies[before]
    key = manager.maybe_add_to_cache(pgq, prep, name)
    if key is not None:
        manager.validate(key, prep, name, results)
    cursor._check_results(results)
    cursor._set_results(results)
    for later in replies[before + 1 :]:
        if error := _error(pgconn, later):
            raise error


def begun(
    pgconn: pq.abc.PGconn, begin: bytes, name: bytes, bound: Any, result_format: pq.Format
) -> PQGen[list[pq.abc.PGresult]]:
    """Send *begin* and the statement prepared as *name*; the results of the latter."""
    pgconn.enter_pipeline_mode()
    try:
        pgconn.send_query_params(begin, None)
        pgconn.send_query_prepared(
            name, bound.params, param_formats=bound.formats, result_format=result_format
        )
        pgconn.pipeline_sync()
    except BaseException:
        if pgconn.status == OK:
            pgconn.pipeline_sync()
            yield from _drain(pgconn, 1)
        raise
    first, results, _ = yield from _collect(pgconn, 3)
    if error := _error(pgconn, first):
        raise error
    return results


def _queue(pgconn: pq.abc.PGconn, commands: Sequence[bytes]) -> int:
    for command in commands:
        pgconn.send_query_params(command, None)
    pgconn.pipeline_sync()
    return len(commands) + 1


def _collect(pgconn: pq.abc.PGconn, count: int) -> PQGen[list[list[pq.abc.PGresult]]]:
    """Flush, read *count* replies (a Sync is one) and leave pipeline mode.

    When the connection breaks after an error was received, that error is raised: it says why (57P01).
    """
    replies: list[list[pq.abc.PGresult]] = []
    yield from generators.send(pgconn)
    try:
        while len(replies) < count:
            replies.append((yield from generators.fetch_many(pgconn)))
    except e.DatabaseError:
        for results in replies:
            if error := _error(pgconn, results):
                raise error from None
        raise
    pgconn.exit_pipeline_mode()
    return replies


def _drain(pgconn: pq.abc.PGconn, syncs: int) -> PQGen[None]:
    """Read what comes up to the last of *syncs* Syncs, whatever it says, and leave pipeline mode."""
    yield from generators.send(pgconn)
    while syncs:
        results = yield from generators.fetch_many(pgconn)
        syncs -= bool(results) and results[0].status == PIPELINE_SYNC
    pgconn.exit_pipeline_mode()


def _error(pgconn: pq.abc.PGconn, results: list[pq.abc.PGresult]) -> e.Error | None:
    for result in results:
        if result.status == FATAL_ERROR:
            return e.error_from_result(result, encoding=pgconn._encoding)
    return None


def command_in_flight(
    pgconn: pq.abc.PGconn, command: bytes, result_format: pq.Format, flight: Flight
) -> PQGen[pq.abc.PGresult]:
    """Send one of psycopg's own commands (SAVEPOINT, FETCH, …) with *flight* before it."""
    if flight.wary:
        yield from _first(pgconn, flight)
    pgconn.enter_pipeline_mode()
    sent = _queue(pgconn, flight.state) if flight.state else 0
    for begin in flight.begin:
        pgconn.send_query_params(begin, None)
    pgconn.send_query_params(command, None, result_format=result_format)
    for behind in flight.behind:
        pgconn.send_query_params(behind, None)
    pgconn.pipeline_sync()
    place = sent + len(flight.begin)
    replies = yield from _collect(pgconn, place + 1 + len(flight.behind) + 1)
    _check_state(pgconn, replies[:sent])
    for results in replies[sent:]:
        if error := _error(pgconn, results):
            raise error
    return replies[place][0]
