"""The short way to a server and back, for a statement that leaves nothing to decide.

Most statements of most programs are such: already prepared, outside a transaction or anywhere in one, on a session
that has nothing to restore, and no stage has anything to do with them. For these, what `Session.start`, `attempt` and
`Session.arrived` would do comes down to a few assignments, which cost less in one function, where they run cold after
each wait for the server. Anything out of the ordinary is answered with None: then the statement goes the long way,
which decides everything anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import pq
from psycopg._queries import PostgresClientQuery
from psycopg.abc import PQGen
from psycopg.adapt import Transformer
from psycopg.generators import execute

from ..state.transaction import Status
from .attempt import begun, travels_alone

if TYPE_CHECKING:
    from ..call import Call
    from ..session import Session

OK = pq.ConnStatus.OK
IDLE = pq.TransactionStatus.IDLE
INTRANS = pq.TransactionStatus.INTRANS
BINARY = pq.Format.BINARY
TEXT = pq.Format.TEXT
OPEN, PROMISED = Status.OPEN, Status.PROMISED


def depart(conn: Any, session: Session, call: Call) -> PQGen[list[Any]] | None:
    """What sends *call* on the server connection that *conn* now holds, and gives its results; None: the long way."""
    cursor, query = call.cursor, call.query
    status = session.tx.status
    begin = b""
    if status is not OPEN and (status or not conn._autocommit):  # Status.IDLE is 0
        if status > PROMISED or not conn._bare:
            return None
        begin = session.tx.begin if status else conn._get_tx_start_command()
    if cursor._closed or conn.pgconn.status != OK:
        return None
    options = call.options
    if options is not None and (options.__class__ is not dict or options.get("cache") is not False):
        return None
    cursor._reset()
    if cursor._last_query is not query or not query:
        cursor._last_query = None
        cursor._tx = Transformer(cursor)
    known = conn._convert(call)
    bound = call.bound
    if not known.quiet or call.prepare is False or bound.__class__ is PostgresClientQuery:
        return None
    path = session.path
    for hook in path.plain:
        if not hook(session, call, known):
            return None
    server = session.server
    if server is None:
        server = session.pool.try_lease(session.settings.signature)
        if server is None:
            return None
        session.server = server
        conn.adopt(server)
    elif server.pgconn is not conn.pgconn:
        if not begin:
            return None
        conn.adopt(server)
    if server.last is not session:
        if server.tainted or server.settings is not session.settings.values:
            return None
        server.last = session
    if server.streamed or server.ddl_epoch != session.pool.ddl_epoch:
        return None
    names = server.prepared._names
    key = server.prepared.key(bound)
    name = names.get(key)
    if name is None or (begin and travels_alone(call)):
        return None
    for hook in path.passing:
        if not hook(session, call):
            return None
    names.move_to_end(key)
    cursor._query = bound
    fmt = cursor.format if call.binary is None else (BINARY if call.binary else TEXT)
    if begin:
        return begun(server.pgconn, begin, name, bound, fmt)
    server.pgconn.send_query_prepared(name, bound.params, param_formats=bound.formats, result_format=fmt)
    results: PQGen[list[Any]] = execute(server.pgconn)
    return results


def arrive(conn: Any, session: Session, call: Call, results: list[Any]) -> None:
    """Give the cursor of *call* its *results*, and the server connection back if nothing keeps it.

    Raises what the server said; nothing is given back then.
    """
    cursor = call.cursor
    cursor._check_results(results)
    cursor._set_results(results)
    cursor._last_query = call.query
    call.results = cursor._results
    call.node = conn._home.pool.key.node
    server: Any = session.server
    tx = session.tx
    if tx.status is not OPEN:
        status = server.pgconn.transaction_status
        if status == INTRANS:
            tx.status = OPEN
            tx.begin = b""
        elif not session.pins and not tx.status and status == IDLE:
            session.server = None  # as `let_go`, but nothing is tainted and no stage was on the way
            conn._give_back(server)
