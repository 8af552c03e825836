"""What the random test does: methods of a connection, each an `Operation`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import IsolationLevel

from tests.dbapi.texts import AROUND

# libpq keeps single-row mode for the next pipeline: a bug of stock psycopg, which heliosproxy goes round.
AFTER_STREAM = ("pipeline", "executemany")

Peer = Any
Operation = Callable[[Peer, int], Any]


def commit(peer: Peer, n: int) -> Any:
    peer.conn.commit()


def rollback(peer: Peer, n: int) -> Any:
    peer.conn.rollback()


def autocommit_on(peer: Peer, n: int) -> Any:
    peer.conn.autocommit = True


def autocommit_off(peer: Peer, n: int) -> Any:
    peer.conn.autocommit = False


def isolation(peer: Peer, n: int) -> Any:
    peer.conn.isolation_level = IsolationLevel.REPEATABLE_READ


def no_isolation(peer: Peer, n: int) -> Any:
    peer.conn.isolation_level = None


def read_only(peer: Peer, n: int) -> Any:
    peer.conn.read_only = True


def not_read_only(peer: Peer, n: int) -> Any:
    peer.conn.read_only = None


def enter_transaction(peer: Peer, n: int) -> Any:
    block = peer.conn.transaction()
    block.__enter__()
    peer.blocks.append(block)


def enter_named_transaction(peer: Peer, n: int) -> Any:
    block = peer.conn.transaction("a")
    block.__enter__()
    peer.blocks.append(block)


def leave_transaction(peer: Peer, n: int) -> Any:
    if peer.blocks:
        return peer.blocks.pop().__exit__(None, None, None)
    return "none"


def leave_with_error(peer: Peer, n: int) -> Any:
    if peer.blocks:
        error = ValueError("the block's own")
        with contextlib.suppress(ValueError):
            return peer.blocks.pop().__exit__(ValueError, error, None)
    return "none"


def leave_with_rollback(peer: Peer, n: int) -> Any:
    if peer.blocks:
        error = psycopg.Rollback()
        return peer.blocks.pop().__exit__(psycopg.Rollback, error, None)
    return "none"


def executemany(peer: Peer, n: int) -> Any:
    cursor = peer.conn.cursor()
    cursor.executemany(f"UPDATE t{n} SET v = %s WHERE id = %s", [("m", 1), ("n", 2)])
    return cursor.rowcount


def executemany_returning(peer: Peer, n: int) -> Any:
    cursor = peer.conn.cursor()
    cursor.executemany(f"SELECT v, %s::int FROM t{n} WHERE id = 1", [(1,), (2,)], returning=True)
    answers = [cursor.fetchall()]
    while cursor.nextset():
        answers.append(cursor.fetchall())
    return answers


def executemany_failing(peer: Peer, n: int) -> Any:
    peer.conn.cursor().executemany(f"INSERT INTO t{n} VALUES (%s, 'many')", [(30,), (1,), (31,)])


def copy_in(peer: Peer, n: int) -> Any:
    cursor = peer.conn.cursor()
    with cursor.copy(f"COPY t{n} FROM STDIN") as copy:
        copy.write_row((100 + peer.steps, "copied"))
    return cursor.rowcount


def copy_in_failing(peer: Peer, n: int) -> Any:
    with peer.conn.cursor().copy(f"COPY t{n} FROM STDIN") as copy:
        copy.write_row((1, "copied twice"))


def copy_out(peer: Peer, n: int) -> Any:
    with peer.conn.cursor().copy(f"COPY (SELECT v FROM t{n} WHERE id < 3 ORDER BY id) TO STDOUT") as copy:
        return list(copy.rows())


def stream(peer: Peer, n: int) -> Any:
    return list(peer.conn.cursor().stream("SELECT generate_series(1, 3)"))


def stream_failing(peer: Peer, n: int) -> Any:
    return list(peer.conn.cursor().stream("SELECT 1 / (2 - x) FROM generate_series(1, 3) x"))


def named_cursor(peer: Peer, n: int) -> Any:
    with peer.conn.cursor("named") as cursor:
        cursor.execute(f"SELECT v FROM t{n} WHERE id < 3 ORDER BY id")
        return cursor.fetchone(), cursor.fetchall()


def prepared_often(peer: Peer, n: int) -> Any:
    return [
        peer.conn.execute(f"SELECT id FROM d{n} WHERE id = %s", (1,), prepare=True).fetchall()
        for _ in range(3)
    ]


def pipeline(peer: Peer, n: int) -> Any:
    with peer.conn.pipeline():
        first = peer.conn.execute(f"SELECT v FROM t{n} WHERE id = 1")
        second = peer.conn.execute("SELECT %s::int", (2,))
        return first.fetchall(), second.fetchall()


def pipeline_failing(peer: Peer, n: int) -> Any:
    with peer.conn.pipeline():
        peer.conn.execute("SET app.x = 'in a failed pipeline'")
        peer.conn.execute("SELECT 1/0")
        peer.conn.execute("SET app.x = 'behind the failure'")


def pipeline_set(peer: Peer, n: int) -> Any:
    with peer.conn.pipeline():
        peer.conn.execute("SET app.x = 'in a pipeline'")
        peer.conn.execute("SAVEPOINT b") if not peer.conn.autocommit else None


def pipeline_rollback(peer: Peer, n: int) -> Any:
    with peer.conn.pipeline():
        peer.conn.execute("SET app.x = 'rolled back in a pipeline'")
        peer.conn.rollback()


def pipeline_with_transaction(peer: Peer, n: int) -> Any:
    with peer.conn.pipeline(), peer.conn.transaction():
        peer.conn.execute("SET LOCAL app.x = 'in a block'")
        return peer.conn.execute("SHOW app.x").fetchall()


def prepare_two_phase(peer: Peer, n: int) -> Any:
    xid = peer.conn.xid(1, f"same-{peer.side}-{n}", "")
    peer.conn.tpc_begin(xid)
    try:
        peer.conn.execute(f"UPDATE t{n} SET v = 'two phases' WHERE id = 2")
        peer.conn.tpc_prepare()
    finally:
        peer.conn.tpc_rollback()


def look_around(peer: Peer, n: int) -> Any:
    """What the session carries."""
    return peer.answers(peer.conn.execute(AROUND))


def idle_servers_die(peer: Peer, n: int) -> Any:
    """On our side only: nobody notices."""
    home = getattr(peer.conn, "_home", None)
    if home is not None:
        for server in home.pool.stock.idle:
            server.pgconn.finish()


METHODS: list[Operation] = [
    commit,
    rollback,
    autocommit_on,
    autocommit_off,
    isolation,
    no_isolation,
    read_only,
    not_read_only,
    enter_transaction,
    enter_named_transaction,
    leave_transaction,
    leave_with_error,
    leave_with_rollback,
    executemany,
    executemany_returning,
    executemany_failing,
    copy_in,
    copy_in_failing,
    copy_out,
    stream,
    stream_failing,
    named_cursor,
    prepared_often,
    pipeline,
    pipeline_failing,
    pipeline_set,
    pipeline_rollback,
    pipeline_with_transaction,
    prepare_two_phase,
    look_around,
    look_around,
    idle_servers_die,
]
