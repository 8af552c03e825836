"""What is asked, in each way of asking: the calls that the benchmarks measure."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import psycopg

SQL = "SELECT id, name, price FROM bench_users WHERE id = %s"
ROWS = 1000
Call = Callable[[], object]


def users(dsn: str) -> None:
    """Make the table that everybody reads."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("DROP TABLE IF EXISTS bench_users")
        conn.execute(
            "CREATE TABLE bench_users AS SELECT i AS id, 'name ' || i AS name, i + 0.5 AS price"
            f" FROM generate_series(0, {ROWS - 1}) AS i"
        )
        conn.execute("ALTER TABLE bench_users ADD PRIMARY KEY (id)")
        conn.execute("ANALYZE bench_users")


def by_key(cursor: Any, **options: Any) -> Call:
    """Ask for one row after the other on a cursor that is used again."""
    execute, fetchall, numbers = cursor.execute, cursor.fetchall, count()

    def call() -> object:
        execute(SQL, (next(numbers) % ROWS,), **options)
        return fetchall()

    return call


def same(cursor: Any) -> Call:
    """Ask for the same row again."""
    execute, fetchall = cursor.execute, cursor.fetchall

    def call() -> object:
        execute(SQL, (42,))
        return fetchall()

    return call


def on_connection(conn: Any) -> Call:
    """Ask for the same row, each time with a new cursor."""
    return lambda: conn.execute(SQL, (42,)).fetchall()


def in_transaction(conn: Any, execute: Callable[..., Any]) -> Call:
    """Ask for a row in a transaction of its own."""

    def call() -> object:
        with conn.transaction():
            return execute(SQL, (42,)).fetchall()

    return call


def from_pool(pool: Any) -> Call:
    """As psycopg_pool is used: a connection for each statement."""

    def call() -> object:
        with pool.connection() as conn:
            return conn.execute(SQL, (42,)).fetchall()

    return call


def outcome(cursor: Any, wanted: str, options: dict[str, Any] | None = None) -> Any:
    """*cursor*, after making sure that the cache treats our statement as *wanted*."""
    for _ in range(3):  # the catalogue is learned, then the result is stored, then it is hit
        cursor.execute(SQL, (42,), helios=options)
    if cursor.helios.outcome != wanted:
        raise AssertionError(f"measured would be a {cursor.helios}, not a {wanted}")
    return cursor
