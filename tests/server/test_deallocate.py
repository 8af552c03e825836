"""DEALLOCATE of what a client has prepared by the protocol, under names that no server knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import pq

from tests.server.conftest import Served

Conn = psycopg.Connection[Any]


def prepare(conn: Conn, name: bytes = b"mine", text: bytes = b"SELECT 7") -> str | None:
    """Prepare *text* by the protocol; the sqlstate of a refusal."""
    return sqlstate(conn.pgconn.prepare(name, text))


def executed(conn: Conn, name: bytes = b"mine") -> str | None:
    """Execute what was prepared under *name*; the sqlstate of a refusal."""
    return sqlstate(conn.pgconn.exec_prepared(name, []))


def sqlstate(result: Any) -> str | None:
    if result.status in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
        return None
    return result.error_field(pq.DiagnosticField.SQLSTATE).decode()  # type: ignore[no-any-return]


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("binary", [False, True], ids=["simple", "extended"])
def test_deallocate_of_a_name_of_the_protocol(one_server: Served, inside: bool, binary: bool) -> None:
    conn, other = one_server.connect(), one_server.connect()
    assert (prepare(conn), prepare(other)) == (None, None)
    assert (executed(conn), executed(other)) == (None, None)
    if inside:
        conn.execute("BEGIN")
    assert conn.execute("DEALLOCATE mine", binary=binary).statusmessage == "DEALLOCATE"
    assert executed(conn) == "26000"
    if inside:
        conn.execute("ROLLBACK")  # which does not bring it back
        assert executed(conn) == "26000"
    assert executed(other) is None
    assert prepare(conn) is None
    assert executed(conn) is None


@pytest.mark.parametrize("text", ["DEALLOCATE ALL", "DEALLOCATE PREPARE ALL -- of them", "DISCARD ALL"])
def test_deallocate_all_is_about_the_client(one_server: Served, text: str) -> None:
    conn, other = one_server.connect(), one_server.connect()
    for name in (b"mine", b"another"):
        assert (prepare(conn, name), prepare(other, name)) == (None, None)
    conn.execute(text)
    assert (executed(conn), executed(conn, b"another")) == ("26000", "26000")
    assert (executed(other), executed(other, b"another")) == (None, None)
    assert prepare(conn) is None
    assert executed(conn) is None


def test_deallocate_all_with_sql_prepare(one_server: Served) -> None:
    conn, other = one_server.connect(), one_server.connect()
    conn.execute("PREPARE own AS SELECT 8")
    assert prepare(conn) is None
    conn.execute("DEALLOCATE own")
    conn.execute("PREPARE own AS SELECT 9")
    conn.execute("DEALLOCATE ALL")
    with pytest.raises(psycopg.errors.InvalidSqlStatementName):
        conn.execute("EXECUTE own")
    assert executed(conn) == "26000"
    conn.close()
    assert prepare(other) is None
    assert executed(other) is None


def test_deallocate_of_nothing_fails_as_ever(one_server: Served) -> None:
    conn = one_server.connect()
    with pytest.raises(psycopg.errors.InvalidSqlStatementName):
        conn.execute("DEALLOCATE nobodys")


def test_deallocate_in_a_failed_transaction_fails(one_server: Served) -> None:
    conn = one_server.connect()
    assert prepare(conn) is None
    conn.execute("BEGIN")
    with pytest.raises(psycopg.errors.DivisionByZero):
        conn.execute("SELECT 1/0")
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        conn.execute("DEALLOCATE mine")
    conn.execute("ROLLBACK")
    assert executed(conn) is None


def test_a_text_that_deallocates_and_then_fails(one_server: Served) -> None:
    conn, other = one_server.connect(), one_server.connect()
    assert prepare(other) is None
    assert executed(other) is None
    with pytest.raises(psycopg.errors.DivisionByZero):
        conn.execute("DEALLOCATE ALL; SELECT 1/0")
    assert executed(other) is None


def test_in_session_mode_the_server_knows_the_names(served: Callable[..., Served]) -> None:
    conn = served("session").connect()
    assert prepare(conn) is None
    conn.execute("DEALLOCATE mine")
    assert executed(conn) == "26000"
