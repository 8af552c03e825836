"""A statement answered from memory before anything else is done with it."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from psycopg import pq
from psycopg.adapt import Transformer

from ..state.transaction import Status

OK = pq.ConnStatus.OK


def hit(conn: Any, cursor: Any, query: Any, params: Any, binary: bool | None) -> bool:
    """Whether the path's `quick` hook had the answer; *cursor* has it then.

    For anything out of the ordinary the answer is no, and the statement goes the long way.
    """
    if (
        cursor._closed
        or conn._pipeline is not None
        or conn.pgconn.status != OK
        or conn._home.goes_past(query)
    ):
        return False
    started = perf_counter()
    session = conn._session
    results = conn._quick(session, cursor, query, params, binary)
    if results is None:
        return False
    tx = session.tx
    if not tx.status and not conn._autocommit:  # Status.IDLE is 0
        conn._promise(conn._get_tx_start_command())
    if tx.status is Status.PROMISED:
        tx.queried = True
    if cursor._last_query is not query:
        cursor._tx = Transformer(cursor)
        cursor._last_query = query
        cursor.pgresult = None
    if cursor.pgresult is results[0] and not cursor._iresult:
        cursor._pos = 0  # the same answer to the same question: everything else is as it was
    else:
        cursor._execmany_returning = cursor._query = None
        cursor._results = list(results)
        cursor._select_current_result(0)
    cursor._call = perf_counter() - started
    return True
