"""Clients of the wire face cannot tell it from PostgreSQL, whatever they send."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import generators, pq, waiting

from tests.server.conftest import Served

MODES = ["session", "transaction"]
RUNNING = """
SELECT count(*) FROM pg_stat_activity
WHERE query LIKE '%to_cancel%' AND state = 'active' AND pid <> pg_backend_pid()
"""


@pytest.fixture(params=MODES)
def server(request: pytest.FixtureRequest, served: Callable[..., Served]) -> Served:
    return served(request.param, helios_server_connections=4)


@pytest.fixture(params=["simple", "extended"])
def cursor_class(request: pytest.FixtureRequest) -> Any:
    return psycopg.ClientCursor if request.param == "simple" else psycopg.Cursor


def test_statements_and_their_parameters(server: Served, cursor_class: Any) -> None:
    conn = server.connect(cursor_factory=cursor_class)
    assert conn.execute("SELECT %s::int + 1, %s", (1, "x'y")).fetchone() == (2, "x'y")
    assert conn.execute("SELECT generate_series(1, %s)", (1000,)).fetchall() == [(n,) for n in range(1, 1001)]
    assert conn.execute("SELECT 1 WHERE false").fetchall() == []


def test_an_error_is_the_servers_own_and_the_connection_goes_on(server: Served, cursor_class: Any) -> None:
    conn, direct = server.connect(cursor_factory=cursor_class), server.direct(cursor_factory=cursor_class)
    told = []
    for each in (conn, direct):
        with pytest.raises(psycopg.errors.UndefinedColumn) as raised:
            each.execute("SELECT nothing, %s FROM pg_class", (1,))
        diag = raised.value.diag
        told.append((diag.message_primary, diag.statement_position, diag.severity, diag.source_function))
    assert told[0] == told[1]
    assert conn.execute("SELECT 1").fetchone() == (1,)


def test_what_a_server_reports_a_client_is_told(server: Served) -> None:
    conn, direct = server.connect(), server.direct()
    for name in (
        "server_version",
        "TimeZone",
        "client_encoding",
        "DateStyle",
        "integer_datetimes",
        "is_superuser",
    ):
        assert conn.info.parameter_status(name) == direct.info.parameter_status(name)
    conn.execute("SET TimeZone TO 'Asia/Tokyo'")
    assert conn.info.parameter_status("TimeZone") == "Asia/Tokyo"
    assert server.connect().info.parameter_status("TimeZone") == direct.info.parameter_status("TimeZone")


def test_a_transaction_is_seen_by_nobody_until_it_commits(server: Served) -> None:
    conn, other = server.connect(autocommit=False), server.connect()
    other.execute("DROP TABLE IF EXISTS seen; CREATE TABLE seen (n int)")
    conn.execute("INSERT INTO seen VALUES (1)")
    assert conn.info.transaction_status is pq.TransactionStatus.INTRANS
    assert other.execute("SELECT count(*) FROM seen").fetchone() == (0,)
    conn.commit()
    assert other.execute("SELECT count(*) FROM seen").fetchone() == (1,)
    conn.execute("INSERT INTO seen VALUES (2)")
    conn.rollback()
    assert other.execute("SELECT count(*) FROM seen").fetchone() == (1,)


def test_a_failed_transaction_refuses_everything_until_it_ends(server: Served) -> None:
    conn = server.connect(autocommit=False)
    with pytest.raises(psycopg.errors.DivisionByZero):
        conn.execute("SELECT 1 / 0")
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        conn.execute("SELECT 1")
    conn.rollback()
    assert conn.execute("SELECT 1").fetchone() == (1,)


def test_savepoints(server: Served) -> None:
    conn = server.connect(autocommit=False)
    conn.execute("CREATE TEMP TABLE saved (n int)")
    conn.commit()
    with conn.transaction():
        conn.execute("INSERT INTO saved VALUES (1)")
        with pytest.raises(psycopg.errors.DivisionByZero), conn.transaction():
            conn.execute("INSERT INTO saved VALUES (2)")
            conn.execute("SELECT 1 / 0")
        conn.execute("INSERT INTO saved VALUES (3)")
    assert conn.execute("SELECT n FROM saved ORDER BY n").fetchall() == [(1,), (3,)]


def test_settings_follow_a_client_and_nobody_else(one_server: Served) -> None:
    first, second = one_server.connect(), one_server.connect(options="-c DateStyle=German -c work_mem=9MB")
    first.execute("SET DateStyle TO 'ISO, YMD'")
    for _ in range(2):
        assert first.execute("SELECT current_setting('DateStyle')").fetchone() == ("ISO, YMD",)
        assert second.execute(
            "SELECT current_setting('DateStyle'), current_setting('work_mem')"
        ).fetchone() == (
            "German, DMY",
            "9MB",
        )
    second.execute("RESET work_mem")
    assert second.execute("SELECT current_setting('work_mem')").fetchone() == ("9MB",)
    second.execute("DISCARD ALL")
    assert second.execute("SELECT current_setting('DateStyle')").fetchone() == ("German, DMY",)


def test_a_setting_in_the_startup_packet_that_cannot_be_ends_the_login(server: Served) -> None:
    with pytest.raises(
        psycopg.OperationalError, match='unrecognized configuration parameter "no_such_thing"'
    ):
        server.connect(options="-c no_such_thing=1")
    with pytest.raises(psycopg.OperationalError, match='invalid value for parameter "DateStyle"'):
        server.connect(options="-c DateStyle=nonsense")
    assert server.connect().execute("SELECT 1").fetchone() == (1,)


def test_a_set_that_is_refused_changes_nothing(one_server: Served) -> None:
    conn = one_server.connect()
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        conn.execute("SET work_mem TO 'plenty'")
    conn.autocommit = False
    conn.execute("SET work_mem TO '7MB'")
    conn.rollback()
    conn.autocommit = True
    assert conn.execute("SELECT current_setting('work_mem')").fetchone() == ("4MB",)


def test_prepared_statements_work_on_every_server_connection(one_server: Served) -> None:
    first, second = one_server.connect(), one_server.connect()
    for number in range(12):
        for conn in (first, second):
            assert conn.execute("SELECT %s::int", (number,), prepare=True).fetchone() == (number,)


def test_clients_may_use_one_name_for_different_statements(one_server: Served) -> None:
    first, second = one_server.connect().pgconn, one_server.connect().pgconn
    first.prepare(b"mine", b"SELECT 'first'")
    second.prepare(b"mine", b"SELECT 'second'")
    assert first.exec_prepared(b"mine", None).get_value(0, 0) == b"first"
    assert second.exec_prepared(b"mine", None).get_value(0, 0) == b"second"
    again = first.prepare(b"mine", b"SELECT 'other'")
    assert again.status == pq.ExecStatus.FATAL_ERROR
    assert again.error_field(pq.DiagnosticField.SQLSTATE) == b"42P05"
    assert b'"mine"' in again.error_field(pq.DiagnosticField.MESSAGE_PRIMARY)
    first.send_close_prepared(
        b"mine"
    )  # close_prepared() keeps the interpreter's lock, and the server is in here
    (closed,) = waiting.wait(generators.execute(first), first.socket)
    assert closed.status == pq.ExecStatus.COMMAND_OK
    gone = first.exec_prepared(b"mine", None)
    assert gone.error_field(pq.DiagnosticField.SQLSTATE) == b"26000"
    assert b'"mine"' in gone.error_field(pq.DiagnosticField.MESSAGE_PRIMARY)
    assert second.exec_prepared(b"mine", None).get_value(0, 0) == b"second"


def test_a_failed_parse_leaves_no_name_behind(one_server: Served) -> None:
    conn = one_server.connect().pgconn
    for _ in range(2):
        failed = conn.prepare(b"bad", b"SELECT nothing FROM nowhere")
        assert failed.error_field(pq.DiagnosticField.SQLSTATE) == b"42P01"
    assert conn.prepare(b"bad", b"SELECT 1").status == pq.ExecStatus.COMMAND_OK
    assert conn.exec_prepared(b"bad", None).get_value(0, 0) == b"1"


def test_the_unnamed_statement_survives_other_clients(one_server: Served) -> None:
    first, second = one_server.connect().pgconn, one_server.connect().pgconn
    first.prepare(b"", b"SELECT 'unnamed'")
    second.exec_(b"SELECT 1")
    second.prepare(b"", b"SELECT 'another'")
    assert first.exec_prepared(b"", None).get_value(0, 0) == b"unnamed"
    assert second.exec_prepared(b"", None).get_value(0, 0) == b"another"
    first.send_describe_prepared(b"")
    (described,) = waiting.wait(generators.execute(first), first.socket)
    assert described.fname(0) == b"?column?"


def test_ddl_makes_no_prepared_statement_stale(one_server: Served) -> None:
    conn, other = one_server.connect(), one_server.connect()
    other.execute("DROP TABLE IF EXISTS stale; CREATE TABLE stale (a int)")
    for _ in range(3):
        conn.execute("SELECT * FROM stale WHERE a = %s", (1,), prepare=True)
    other.execute("ALTER TABLE stale ADD b int; INSERT INTO stale VALUES (1, 2)")
    assert conn.execute("SELECT * FROM stale WHERE a = %s", (1,)).fetchall() == [(1, 2)]


def test_a_pipeline_is_answered_in_order(server: Served) -> None:
    conn = server.connect()
    with conn.pipeline():
        cursors = [conn.execute("SELECT %s::int", (number,)) for number in range(300)]
        answers = [cursor.fetchone() for cursor in cursors]
    assert answers == [(number,) for number in range(300)]


def test_an_error_in_a_pipeline_aborts_the_rest_up_to_its_sync(server: Served) -> None:
    conn = server.connect()
    with pytest.raises(psycopg.errors.DivisionByZero), conn.pipeline():
        conn.execute("SELECT 1")
        conn.execute("SELECT 1 / 0")
        conn.execute("SELECT 2")
    assert conn.execute("SELECT 3").fetchone() == (3,)


def test_several_statements_in_one_query(server: Served) -> None:
    cursor = server.connect().execute("SELECT 1; SELECT 'two'; SELECT 3")
    answers = [cursor.fetchone()]
    while cursor.nextset():
        answers.append(cursor.fetchone())
    assert answers == [(1,), ("two",), (3,)]


def test_copy_in_and_out(server: Served) -> None:
    conn = server.connect()
    conn.execute("DROP TABLE IF EXISTS copied; CREATE TABLE copied (n int, t text)")
    with conn.cursor().copy("COPY copied FROM STDIN") as copy:
        for number in range(5000):
            copy.write_row((number, "x" * 50))
    assert conn.execute("SELECT count(*), sum(n) FROM copied").fetchone() == (5000, 12497500)
    with conn.cursor().copy("COPY copied TO STDOUT") as copy:
        assert sum(1 for _ in copy.rows()) == 5000
    assert server.settles(1 if server.proxy.config.pool.mode == "session" else 0)


def test_a_copy_that_the_client_breaks_off_changes_nothing(server: Served) -> None:
    conn = server.connect()
    conn.execute("DROP TABLE IF EXISTS broken; CREATE TABLE broken (n int)")
    with pytest.raises(ZeroDivisionError), conn.cursor().copy("COPY broken FROM STDIN") as copy:
        copy.write_row((1,))
        raise ZeroDivisionError
    assert conn.execute("SELECT count(*) FROM broken").fetchone() == (0,)


def test_a_copy_that_the_server_refuses_in_the_middle(server: Served) -> None:
    conn = server.connect()
    conn.execute("DROP TABLE IF EXISTS refused; CREATE TABLE refused (n int)")
    with (
        pytest.raises(psycopg.errors.InvalidTextRepresentation),
        conn.cursor().copy("COPY refused FROM STDIN") as copy,
    ):
        copy.write("1\nnonsense\n")
        for _ in range(2000):
            copy.write("2\n" * 100)
    assert conn.execute("SELECT count(*) FROM refused").fetchone() == (0,)


def test_a_portal_is_fetched_in_parts(server: Served) -> None:
    conn = server.connect(autocommit=False)
    with conn.cursor("portal") as cursor:
        cursor.execute("SELECT generate_series(1, 100)")
        assert cursor.fetchmany(3) == [(1,), (2,), (3,)]
        assert cursor.fetchone() == (4,)
    conn.rollback()


def test_a_stream(server: Served) -> None:
    conn = server.connect()
    assert sum(n for (n,) in conn.cursor().stream("SELECT generate_series(1, %s)", (10000,))) == 50005000


def test_binary_results(server: Served) -> None:
    conn = server.connect()
    assert (
        conn.execute("SELECT 1.5::numeric, now() IS NULL, %s::bytea", (b"\0\xff",), binary=True).fetchone()[2]
        == b"\0\xff"
    )


def test_notifications_reach_who_listens(server: Served) -> None:
    listener, notifier = server.connect(), server.connect()
    listener.execute("LISTEN news")
    notifier.execute("NOTIFY news, 'hello'")
    (got,) = listener.notifies(timeout=10, stop_after=1)
    assert (got.channel, got.payload) == ("news", "hello")
    listener.execute("NOTIFY news, 'mine'")
    (own,) = listener.notifies(timeout=10, stop_after=1)
    assert (own.payload, own.pid) == ("mine", listener.info.backend_pid)
    listener.execute("UNLISTEN *")


def test_a_cancel_request_hits_the_statement_it_is_meant_for(server: Served) -> None:
    conn, other = server.connect(), server.connect()

    def cancel() -> None:
        with psycopg.connect(server.dsn, autocommit=True) as watch:
            while watch.execute(RUNNING).fetchone() == (0,):
                pass
        conn.cancel_safe()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(psycopg.errors.QueryCanceled):
        conn.execute("SELECT pg_sleep(60) AS to_cancel")
    thread.join()
    conn.cancel_safe()  # nothing runs: nobody is hit
    assert other.execute("SELECT pg_sleep(0), 1").fetchone() == ("", 1)
    assert conn.execute("SELECT 1").fetchone() == (1,)


def test_an_empty_query(server: Served, cursor_class: Any) -> None:
    conn = server.connect(cursor_factory=cursor_class)
    cursor = conn.execute("")
    assert cursor.pgresult is not None
    assert cursor.pgresult.status == pq.ExecStatus.EMPTY_QUERY


@pytest.mark.parametrize("how", ["startup", "set"])
def test_texts_in_another_encoding(one_server: Served, how: str) -> None:
    conn = one_server.connect(**({"client_encoding": "latin1"} if how == "startup" else {}))
    other = one_server.connect()
    if how == "set":
        conn.execute("SET client_encoding TO latin1")
    for _ in range(4):
        assert conn.execute("SELECT 'h\u00e9', %s, length('h\u00e9')", ("\u00fc",)).fetchone() == (
            "h\u00e9",
            "\u00fc",
            2,
        )
        assert other.execute("SELECT 'h\u00e9', %s, length('h\u00e9')", ("\u20ac",)).fetchone() == (
            "h\u00e9",
            "\u20ac",
            2,
        )
    assert one_server.settles(0)  # nothing was taken for unreadable, which would pin


def test_two_phase_commit(served: Callable[..., Served], dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as direct:
        row = direct.execute("SHOW max_prepared_transactions").fetchone()
    if row == ("0",):
        pytest.skip("max_prepared_transactions is 0 here")
    conn = served().connect(autocommit=False)
    conn.tpc_begin(conn.xid(1, "gid", "branch"))
    conn.execute("SELECT 1")
    conn.tpc_prepare()
    conn.tpc_commit()
