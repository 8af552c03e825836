"""A transaction whose statements are known takes the short way from its BEGIN to its end; nobody can tell."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from tests.dbapi.conftest import Room

TIMES = 8  # psycopg prepares what it has seen five times
ADD = "INSERT INTO short VALUES (%s)"


class Passing:
    """Counts who takes the short way; has nothing to do with anybody."""

    def __init__(self) -> None:
        self.short = 0

    def passing(self, session: Any, call: Any) -> bool:
        self.short += 1
        return True


@pytest.fixture
def passing() -> Passing:
    return Passing()


@pytest.fixture(params=["transaction", "session"])
def made(request: pytest.FixtureRequest, room: Any, passing: Passing, dsn: str) -> Room:
    with psycopg.connect(dsn) as conn:
        conn.execute("DROP TABLE IF EXISTS short")
        conn.execute("CREATE TABLE short (n int PRIMARY KEY CHECK (n >= 0))")
    made: Room = room(request.param, stages=(passing,), helios_server_connections=1)
    return made


def prepared(conn: Any, query: str) -> None:
    """As a program does it that rolls back after each statement."""
    for number in range(TIMES):
        conn.execute(query, (number,))
        conn.rollback()


def test_who_reads_and_rolls_back_is_prepared_for_and_goes_the_short_way(
    made: Room, passing: Passing
) -> None:
    conn = made.connect()
    prepared(conn, "SELECT %s::int + 1")
    assert passing.short == TIMES - 6
    assert conn.execute("SELECT %s::int + 1", (41,)).fetchone() == (42,)
    assert conn.info.transaction_status == TransactionStatus.INTRANS
    assert conn.execute("SELECT %s::int + 1", (42,)).fetchone() == (43,)
    conn.commit()
    assert conn.info.transaction_status == TransactionStatus.IDLE


def test_what_was_written_the_short_way_is_committed_or_rolled_back(made: Room, passing: Passing) -> None:
    conn = made.connect()
    prepared(conn, ADD)
    before = passing.short
    conn.execute(ADD, (1,))
    conn.rollback()
    conn.execute(ADD, (2,))
    conn.commit()
    assert passing.short == before + 2
    assert conn.execute("SELECT n FROM short").fetchall() == [(2,)]


def test_with_a_promise_that_transaction_made(made: Room, passing: Passing) -> None:
    conn = made.connect()
    prepared(conn, ADD)
    before = passing.short
    with conn.transaction():
        conn.execute(ADD, (1,))
    with pytest.raises(ZeroDivisionError), conn.transaction():
        conn.execute(ADD, (2,))
        raise ZeroDivisionError
    assert passing.short > before
    assert conn.execute("SELECT n FROM short").fetchall() == [(1,)]


def test_an_error_of_its_first_statement_fails_the_transaction(made: Room) -> None:
    conn = made.connect()
    prepared(conn, ADD)
    with pytest.raises(psycopg.errors.CheckViolation):
        conn.execute(ADD, (-1,))
    assert conn.info.transaction_status == TransactionStatus.INERROR
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        conn.execute(ADD, (1,))
    conn.rollback()
    conn.execute(ADD, (1,))
    conn.commit()


def test_a_commit_of_a_failed_transaction_rolls_back(made: Room) -> None:
    conn = made.connect()
    prepared(conn, ADD)
    conn.execute(ADD, (1,))
    with pytest.raises(psycopg.errors.UniqueViolation):
        conn.execute(ADD, (1,))
    conn.commit()
    assert conn.execute("SELECT count(*) FROM short").fetchone() == (0,)


def test_what_is_told_at_the_commit_is_raised_there(made: Room, dsn: str) -> None:
    with psycopg.connect(dsn) as plain:
        plain.execute("DROP TABLE IF EXISTS late")
        plain.execute("CREATE TABLE late (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    conn = made.connect()
    prepared(conn, "INSERT INTO late VALUES (%s)")
    for _ in range(2):
        conn.execute("INSERT INTO late VALUES (%s)", (1,))
    with pytest.raises(psycopg.errors.UniqueViolation):
        conn.commit()
    assert conn.info.transaction_status == TransactionStatus.IDLE
    conn.execute("INSERT INTO late VALUES (%s)", (1,))
    conn.commit()


def test_a_parameter_that_libpq_refuses_leaves_no_transaction_behind(made: Room) -> None:
    conn = made.connect()
    prepared(conn, "SELECT %s::text")
    for _ in range(TIMES):
        conn.execute("SELECT %s::text", ("x",))
        conn.rollback()
    with pytest.raises(psycopg.DataError):
        conn.execute("SELECT %s::text", ("a\0b",))
    conn.rollback()
    assert conn.execute("SELECT %s::text", ("y",)).fetchone() == ("y",)
    conn.rollback()


def test_isolation_and_access_of_the_connection_are_those_of_the_transaction(made: Room) -> None:
    conn = made.connect()
    query = "SELECT current_setting('transaction_isolation'), current_setting(%s)"
    conn.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    conn.read_only = True
    for _ in range(TIMES):
        assert conn.execute(query, ("transaction_read_only",)).fetchone() == ("serializable", "on")
        conn.rollback()
    conn.read_only = None
    assert conn.execute(query, ("transaction_read_only",)).fetchone() == ("serializable", "off")
    conn.rollback()


def test_what_a_transaction_created_and_rolled_back_is_not_what_is_created_later(made: Room) -> None:
    conn = made.connect()
    for kind, value in (("int", 1), ("text", "a"), ("int[]", [1])):
        conn.execute(f"CREATE TABLE passing_by (v {kind})")
        for _ in range(TIMES):
            conn.execute("INSERT INTO passing_by VALUES (%s)", (value,))
        assert conn.execute("SELECT DISTINCT v FROM passing_by WHERE %s", (True,)).fetchone() == (value,)
        conn.rollback()


def test_what_a_function_created_and_the_transaction_rolled_back(made: Room, dsn: str) -> None:
    with psycopg.connect(dsn) as plain:
        plain.execute(
            "CREATE OR REPLACE FUNCTION make(kind text) RETURNS void LANGUAGE plpgsql AS"
            " $$ BEGIN EXECUTE 'CREATE TABLE hidden (v ' || kind || ')'; END $$"
        )
    conn = made.connect()
    for kind, value in (("int", 1), ("text", "a"), ("int", 2)):
        conn.execute("SELECT make(%s)", (kind,))
        for _ in range(TIMES):
            conn.execute("INSERT INTO hidden VALUES (%s)", (value,))
            assert conn.execute("SELECT DISTINCT v FROM hidden WHERE %s", (True,)).fetchone() == (value,)
        conn.rollback()


@pytest.mark.parametrize("when", ["first statement", "second statement", "commit", "rollback"])
def test_its_server_connection_dies(room: Any, passing: Passing, dsn: str, when: str) -> None:
    with psycopg.connect(dsn) as plain:
        plain.execute("DROP TABLE IF EXISTS short")
        plain.execute("CREATE TABLE short (n int PRIMARY KEY)")
    conn = room("transaction", stages=(passing,), helios_server_connections=1).connect()
    prepared(conn, ADD)
    kill = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = %s"

    def die() -> None:
        with psycopg.connect(dsn, autocommit=True) as plain:
            plain.execute(kill, (plain.info.dbname,))

    if when == "first statement":
        die()
        conn.execute(ADD, (1,))  # an idle one is replaced, unnoticed
        conn.commit()
        assert conn.execute("SELECT n FROM short").fetchall() == [(1,)]
        return
    conn.execute(ADD, (1,))
    die()
    fate = {"commit": conn.commit, "rollback": conn.rollback}.get(when, lambda: conn.execute(ADD, (2,)))
    with pytest.raises(psycopg.OperationalError):
        fate()
    conn.rollback()
    conn.execute(ADD, (3,))
    conn.commit()
    assert conn.execute("SELECT n FROM short").fetchall() == [(3,)]
