"""The server connection dies, at every moment; afterwards the pool's counts are right and the next one is clean."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

MODES = ["transaction", "session", "session_on_path"]


def kill(dsn: str, conn: Any) -> None:
    """End the server process of *conn*."""
    terminate(dsn, conn.info.backend_pid)


def terminate(dsn: str, pid: int) -> None:
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))


def test_a_connection_killed_while_idle_in_the_pool_is_replaced_unnoticed(room: Any, dsn: str) -> None:
    here = room("transaction", helios_server_connections=1)
    conn = here.auto()
    pid = conn.execute("SELECT pg_backend_pid()").fetchone()[0]
    terminate(dsn, pid)
    assert conn.execute("SELECT pg_backend_pid()").fetchone()[0] != pid
    assert here.leased == 0
    assert here.pool["connections_lost"] == 1


def test_settings_survive_the_server_connection_they_were_made_on(room: Any, dsn: str) -> None:
    here = room("transaction", helios_server_connections=1)
    conn = here.auto()
    conn.execute("SET application_name = 'survivor'")
    terminate(dsn, conn.execute("SELECT pg_backend_pid()").fetchone()[0])
    assert conn.execute("SHOW application_name").fetchone() == ("survivor",)


SUICIDE = "SELECT pg_terminate_backend(pg_backend_pid())"


def test_a_connection_killed_in_an_autocommit_statement_is_an_error_once(room: Any) -> None:
    here = room("transaction")
    conn = here.auto()
    with pytest.raises(psycopg.OperationalError):
        conn.execute(SUICIDE)
    assert not conn.closed
    assert not conn.broken
    assert conn.execute("SELECT 1").fetchone() == (1,)
    assert here.leased == 0


def test_a_transaction_whose_server_died_is_over_when_it_is_rolled_back(room: Any, dsn: str) -> None:
    here = room("transaction")
    conn = here.connect()
    conn.execute("SELECT 1")
    kill(dsn, conn)
    with pytest.raises(psycopg.OperationalError):
        conn.execute("SELECT 2")
    assert here.leased == 0
    assert conn.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
    for _ in range(2):
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            conn.execute("SELECT 3")
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        conn.commit()
    conn.rollback()
    assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert conn.execute("SELECT 4").fetchone() == (4,)
    conn.rollback()


def test_a_transaction_block_whose_server_died_raises_what_happened_and_ends(room: Any, dsn: str) -> None:
    here = room("transaction")
    conn = here.auto()

    def block() -> None:
        with conn.transaction():
            conn.execute("SELECT 1")
            kill(dsn, conn)
            conn.execute("SELECT 2")

    with pytest.raises(psycopg.OperationalError):
        block()
    assert here.leased == 0
    assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert conn.execute("SELECT 3").fetchone() == (3,)


def test_a_commit_whose_server_died_raises_and_the_connection_lives_on(room: Any, dsn: str) -> None:
    here = room("transaction")
    conn = here.connect()
    conn.execute("SELECT 1")
    kill(dsn, conn)
    with pytest.raises(psycopg.OperationalError):
        conn.commit()
    assert here.leased == 0
    assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert conn.execute("SELECT 2").fetchone() == (2,)
    conn.rollback()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("doing", ["copy_in", "copy_out", "stream", "pipeline", "named cursor"])
def test_a_connection_killed_in_the_middle_of_something_leaks_no_lease(
    room: Any, dsn: str, mode: str, doing: str
) -> None:
    here = room(mode)
    conn = here.auto()
    with pytest.raises(psycopg.Error):
        DOING[doing](conn, dsn)
    if mode == "transaction":
        assert here.leased == 0
        if conn.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            conn.rollback()
        assert conn.execute("SELECT 1").fetchone() == (1,)
    else:
        assert conn.closed
        assert conn.broken
        conn.close()
    assert here.leased == 0
    again = here.auto()
    assert again.execute("SELECT 2").fetchone() == (2,)


def _copy_in(conn: Any, dsn: str) -> None:
    conn.execute("CREATE TABLE IF NOT EXISTS copied (n int)")
    with conn.cursor().copy("COPY copied FROM STDIN") as copy:
        copy.write_row((1,))
        kill(dsn, conn)
        for n in range(100_000):
            copy.write_row((n,))


def _copy_out(conn: Any, dsn: str) -> None:
    with conn.cursor().copy(
        "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 100000)) TO STDOUT"
    ) as copy:
        copy.read()
        kill(dsn, conn)
        for _ in copy:
            pass


def _stream(conn: Any, dsn: str) -> None:
    for number, _ in enumerate(
        conn.cursor().stream("SELECT repeat('x', 1000) FROM generate_series(1, 100000)")
    ):
        if number == 0:
            kill(dsn, conn)


def _pipeline(conn: Any, dsn: str) -> None:
    with conn.pipeline() as pipeline:
        conn.execute("SELECT 1")
        pipeline.sync()
        kill(dsn, conn)
        conn.execute("SELECT 2").fetchone()


def _named(conn: Any, dsn: str) -> None:
    with conn.transaction(), conn.cursor("named") as cursor:
        cursor.execute("SELECT generate_series(1, 10)")
        cursor.fetchone()
        kill(dsn, conn)
        cursor.fetchall()


DOING = {
    "copy_in": _copy_in,
    "copy_out": _copy_out,
    "stream": _stream,
    "pipeline": _pipeline,
    "named cursor": _named,
}


@pytest.mark.parametrize("pinning", ["CREATE TEMP TABLE t (x int)", "SELECT pg_advisory_lock(1)", "LISTEN x"])
def test_a_pinned_connection_whose_server_dies_is_closed_and_broken(
    room: Any, dsn: str, pinning: str
) -> None:
    here = room("transaction")
    conn = here.auto()
    conn.execute(pinning)
    assert here.leased == 1
    kill(dsn, conn)
    with pytest.raises(psycopg.OperationalError):
        conn.execute("SELECT 1")
    assert conn.closed
    assert conn.broken
    assert here.leased == 0
    with pytest.raises(psycopg.OperationalError, match="closed"):
        conn.execute("SELECT 2")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "doing", ["transaction", "failed transaction", "copy", "stream", "pipeline", "cursor"]
)
def test_close_in_the_middle_gives_the_next_user_a_clean_connection(room: Any, mode: str, doing: str) -> None:
    here = room(mode, helios_server_connections=1)
    conn = here.connect()
    manager = None
    if doing == "transaction":
        conn.execute("SET application_name = 'left'")
    elif doing == "failed transaction":
        with pytest.raises(psycopg.errors.DivisionByZero):
            conn.execute("SELECT 1/0")
    elif doing == "copy":
        manager = conn.cursor().copy("COPY (SELECT generate_series(1, 100000)) TO STDOUT")
        manager.__enter__().read()
    elif doing == "stream":
        manager = iter(conn.cursor().stream("SELECT generate_series(1, 100000)"))
        next(manager)
    elif doing == "pipeline":
        manager = conn.pipeline()
        manager.__enter__()
        conn.execute("SELECT 1")
    else:
        manager = conn.cursor("left")
        manager.execute("SELECT generate_series(1, 1000)")
    conn.close()
    assert conn.closed
    assert not conn.broken
    assert here.leased == 0
    other = here.auto()
    assert other.execute("SELECT current_setting('application_name'), 7").fetchone() == ("", 7)
    if doing == "cursor":
        manager.close()  # else it warns, as psycopg's
