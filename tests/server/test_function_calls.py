"""FunctionCall, by which libpq calls functions by number (PQfn): the session keeps what it did."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from heliosproxy.server.client.fastpath import facts
from heliosproxy.server.protocol import frontend
from heliosproxy.sql.setting import UNKNOWN
from tests.server.conftest import Served
from tests.server.wire import Wire, errors, kinds

SESSION_LOCKS = """
SELECT p.oid::int, proname, pronargs FROM pg_proc p
WHERE proname ~ '^pg_(try_)?advisory_lock(_shared)?$' AND pronamespace = 'pg_catalog'::regnamespace
"""
HELD = """
SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
WHERE locktype = 'advisory' AND datname = current_database()
"""


def call(oid: int, *arguments: bytes | None, binary: bool = True) -> bytes:
    """A FunctionCall."""
    values = b"".join(
        b"\xff\xff\xff\xff" if value is None else len(value).to_bytes(4, "big") + value for value in arguments
    )
    head = oid.to_bytes(4, "big") + b"\0\1" + (b"\0\1" if binary else b"\0\0")
    return frontend.message(b"F", head + len(arguments).to_bytes(2, "big") + values + b"\0\0")


def oid_of(direct: psycopg.Connection[Any], signature: str) -> int:
    row: Any = direct.execute("SELECT %s::regprocedure::oid::int", (signature,)).fetchone()
    return int(row[0])


def test_a_session_lock_keeps_the_server_connection(
    one_server: Served, direct: psycopg.Connection[Any]
) -> None:
    for oid, name, count in direct.execute(SESSION_LOCKS).fetchall():
        with Wire(one_server.url) as client:
            client.send(call(oid, *[(7).to_bytes(8 // count, "big")] * count))
            assert kinds(client.ready()) == "VZ", name
            assert one_server.settles(1), name
            assert direct.execute(HELD).fetchone() == (1,)
        assert one_server.settles(0)
        assert direct.execute(HELD).fetchone() == (0,)


def test_a_lock_of_the_transaction_does_not(one_server: Served, direct: psycopg.Connection[Any]) -> None:
    with Wire(one_server.url) as client:
        client.send(call(oid_of(direct, "pg_advisory_xact_lock(bigint)"), (7).to_bytes(8, "big")))
        assert kinds(client.ready()) == "VZ"
        assert one_server.settles(0)


def test_a_session_lock_in_a_batch_without_its_sync(
    one_server: Served, direct: psycopg.Connection[Any]
) -> None:
    with Wire(one_server.url) as client:
        client.send(
            frontend.parse_raw(b"", b"SELECT 1", b"\0\0"),
            call(oid_of(direct, "pg_advisory_lock(bigint)"), (7).to_bytes(8, "big")),
        )
        assert kinds(client.ready()) == "1VZ"
        assert one_server.settles(1)


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "text"])
def test_a_setting_follows_its_client_and_nobody_else(
    one_server: Served, direct: psycopg.Connection[Any], binary: bool
) -> None:
    oid = oid_of(direct, "set_config(text, text, boolean)")
    no, yes = (b"\0", b"\1") if binary else (b"false", b"true")
    with Wire(one_server.url) as client, Wire(one_server.url) as other:
        client.send(call(oid, b"DateStyle", b"German", no, binary=binary))
        assert kinds(client.ready()) == "VSZ"
        for _ in range(2):
            assert client.value("SHOW DateStyle") == "German, DMY"
            assert other.value("SHOW DateStyle") == "ISO, MDY"
        client.ask("BEGIN")
        client.send(call(oid, b"work_mem", b"7MB", yes, binary=binary))
        client.ready()
        assert client.value("SHOW work_mem") == "7MB"
        client.ask("COMMIT")
        assert client.value("SHOW work_mem") == "4MB"
        client.send(call(oid, b"DateStyle", None, no, binary=binary))
        client.ready()
        assert client.value("SHOW DateStyle") == "ISO, MDY"


def test_a_setting_that_is_refused_changes_nothing(
    one_server: Served, direct: psycopg.Connection[Any]
) -> None:
    oid = oid_of(direct, "set_config(text, text, boolean)")
    with Wire(one_server.url) as client:
        client.send(call(oid, b"work_mem", b"plenty", b"\0"))
        assert errors(client.ready()) == ["22023"]
        assert client.value("SHOW work_mem") == "4MB"
        assert one_server.settles(0)


@pytest.mark.parametrize(
    "message",
    [
        call(2078, None, b"x", b"\0"),
        call(2078, b"application_name", b"\xff", b"\0"),
        call(2078, b"application_name"),
        call(2078, b"application_name", b"x", b"\0")[:-9],
    ],
)
def test_of_what_cannot_be_read_nobody_knows_what_was_set(message: bytes) -> None:
    assert facts(message).settings == (UNKNOWN,)
