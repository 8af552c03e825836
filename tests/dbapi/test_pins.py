"""What keeps the server connection, why, and until when."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

PINS = {
    "CREATE TEMP TABLE pinned (x int)": "temp_table",
    "SELECT 1 AS x INTO TEMP pinned": "temp_table",
    "SELECT pg_advisory_lock(5)": "advisory_lock",
    "SELECT pg_advisory_lock(5), 1/0": "advisory_lock",
    "DECLARE held CURSOR WITH HOLD FOR SELECT 1": "with_hold",
    "PREPARE pinned AS SELECT 1": "prepare",
    "LISTEN pinned": "listen",
    "LOAD 'plpgsql'": "load",
    "SELECT set_config('app.' || 'x', 'computed', false)": "opaque_setting",
    "SELECT 1; CREATE TEMP TABLE pinned (x int)": "temp_table",
}


@pytest.mark.parametrize("text", PINS)
def test_it_keeps_its_server_connection_for_a_counted_reason_until_discard_all(room: Any, text: str) -> None:
    here = room("transaction")
    conn = here.auto()
    try:
        conn.execute(text)
    except psycopg.errors.DivisionByZero:
        assert "1/0" in text
    assert here.leased == 1
    assert here.proxy.stats()["pins"] == {PINS[text]: 1}
    conn.execute("DISCARD ALL")
    assert here.leased == 0
    assert here.proxy.stats()["pins"] == {PINS[text]: 1}


@pytest.mark.parametrize("text", PINS)
def test_close_gives_back_a_connection_as_good_as_new(room: Any, text: str) -> None:
    here = room("transaction", helios_server_connections=1)
    conn = here.auto()
    try:
        conn.execute(text)
    except psycopg.errors.DivisionByZero:
        assert "1/0" in text
    conn.close()
    assert here.proxy.stats()["pins"] == {PINS[text]: 1}
    other = here.auto()
    left = """
        SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
            to_regclass('pg_temp.pinned'), (SELECT count(*) FROM pg_listening_channels()),
            (SELECT count(*) FROM pg_cursors WHERE name = 'held'),
            (SELECT count(*) FROM pg_prepared_statements WHERE name = 'pinned')
    """
    assert other.execute(left).fetchone() == (0, None, 0, 0, 0)


def test_a_lock_of_the_transaction_does_not_pin(room: Any) -> None:
    here = room("transaction")
    here.auto().execute("SELECT pg_advisory_xact_lock(5)")
    assert here.leased == 0


def test_a_cursor_of_the_transaction_does_not_pin(room: Any) -> None:
    here = room("transaction")
    conn = here.connect()
    conn.execute("DECLARE c CURSOR FOR SELECT 1")
    conn.commit()
    assert here.leased == 0


@pytest.mark.parametrize(
    ("pin", "unpin"), [("LISTEN x", "UNLISTEN *"), ("CREATE TEMP TABLE t (x int)", "DISCARD TEMP")]
)
def test_what_takes_the_reason_away_unpins(room: Any, pin: str, unpin: str) -> None:
    here = room("transaction")
    conn = here.auto()
    conn.execute(pin)
    conn.execute(unpin)
    assert here.leased == 0


def test_statements_of_a_pipeline_pin(room: Any) -> None:
    here = room("transaction")
    conn = here.auto()
    with conn.pipeline():
        conn.execute("CREATE TEMP TABLE pinned (x int)")
        conn.execute("SELECT 1")
    assert here.leased == 1
    assert conn.execute("SELECT count(*) FROM pinned").fetchone() == (0,)


def test_ddl_of_others_does_not_take_away_what_the_session_prepared(room: Any) -> None:
    here = room("transaction")
    mine, other = here.auto(), here.auto()
    mine.execute("PREPARE own AS SELECT 5", prepare=True)
    other.execute("CREATE TABLE IF NOT EXISTS ddl_of_others (n int)")
    assert mine.execute("EXECUTE own").fetchone() == (5,)
