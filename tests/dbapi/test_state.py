"""The session's state follows it over server connections, and nobody else sees it.

`one_server` has a single server connection: whoever comes next gets the one that somebody else has just used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

SHOW = "SELECT current_setting('app.x')"


@pytest.fixture(scope="module", autouse=True)
def setting(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("DROP ROLE IF EXISTS state_role")
        conn.execute("CREATE ROLE state_role")
        conn.execute("GRANT pg_read_all_settings TO state_role")
        conn.execute(f"ALTER DATABASE \"{conn.info.dbname}\" SET app.x = 'none'")
        conn.execute(
            "CREATE TABLE numbers (n int); INSERT INTO numbers VALUES (1); GRANT ALL ON numbers TO public"
        )
        conn.execute(HIDING)


HIDING = """
CREATE FUNCTION hide_a_setting() RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN PERFORM set_config('app.x', 'hidden', false); END $$;
CREATE FUNCTION hide_a_table() RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN CREATE TEMP TABLE hidden (x int); END $$;
CREATE FUNCTION hide_a_lock() RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_lock(77); END $$;
CREATE FUNCTION lock_and_fail() RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_lock(78); RAISE 'behind the lock'; END $$;
CREATE PROCEDURE hiding_procedure() LANGUAGE plpgsql AS
    $$ BEGIN PERFORM set_config('app.x', 'by a procedure', false); END $$;
"""


def one(conn: Any, query: str = SHOW, *params: Any) -> Any:
    """The only value of *query*."""
    return conn.execute(query, params or None).fetchone()[0]


SETTERS: dict[str, Callable[[Any], Any]] = {
    "SET": lambda c: c.execute("SET app.x = 'mine'"),
    "SET TO": lambda c: c.execute("SET app.x TO mine"),
    "set_config": lambda c: c.execute("SELECT set_config('app.x', 'mine', false)"),
    "set_config by parameter": lambda c: c.execute("SELECT set_config(%s, %s, false)", ("app.x", "mine")),
    "a prepared SET": lambda c: c.execute("SET app.x = 'mine'", prepare=True),
    "a string of statements": lambda c: c.execute("SET app.x = 'other'; SELECT 1; SET app.x = 'mine'"),
    "BEGIN and COMMIT": lambda c: c.execute("BEGIN; SET app.x = 'mine'; COMMIT"),
    "a pipeline": lambda c: _in_pipeline(c),
    "a client cursor": lambda c: c.execute("SET app.x = 'mine'", binary=False),
}


def _in_pipeline(conn: Any) -> None:
    with conn.pipeline():
        conn.execute("SET app.x = 'mine'")
        conn.execute("SELECT 1")


@pytest.mark.parametrize("how", SETTERS)
def test_a_setting_stays_with_the_connection_that_made_it(one_server: Any, how: str) -> None:
    mine, other = one_server.auto(), one_server.auto()
    SETTERS[how](mine)
    assert one(other) == "none"
    assert one(mine) == "mine"
    assert one(other) == "none"


@pytest.mark.parametrize("undo", ["RESET app.x", "RESET ALL", "SET app.x TO DEFAULT", "DISCARD ALL"])
def test_what_takes_a_setting_back_takes_it_back_everywhere(one_server: Any, undo: str) -> None:
    mine, other = one_server.auto(), one_server.auto()
    mine.execute("SET app.x = 'mine'")
    mine.execute(undo)
    other.execute("SET app.x = 'other'")
    assert one(mine) == "none"
    assert one(other) == "other"


def test_set_local_ends_with_its_transaction(one_server: Any) -> None:
    mine, other = one_server.auto(), one_server.auto()
    with mine.transaction():
        mine.execute("SET LOCAL app.x = 'local'")
        assert one(mine) == "local"
    assert one(other) == "none"
    assert one(mine) == "none"


@pytest.mark.parametrize("end", ["ROLLBACK", "ROLLBACK AND CHAIN", "SELECT 1/0"])
def test_rollback_undoes_set(one_server: Any, end: str) -> None:
    mine, other = one_server.connect(), one_server.auto()
    mine.execute("SET app.x = 'before'")
    mine.commit()
    mine.execute("SET app.x = 'undone'")
    if end == "SELECT 1/0":
        with pytest.raises(psycopg.errors.DivisionByZero):
            mine.execute(end)
    else:
        mine.execute(end)
    mine.rollback()
    assert one(other) == "none"
    assert one(mine) == "before"
    mine.rollback()


def test_a_value_that_was_rolled_back_is_not_taken_for_set(one_server: Any) -> None:
    """The server connection does not carry it, so the next session that wants just this must be given it."""
    mine, other = one_server.auto(), one_server.auto()
    other.execute("SET app.x = 'same'")
    mine.execute("SELECT 1")
    with mine.transaction(force_rollback=True):
        mine.execute("SET app.x = 'same'")
    assert one(other) == "same"


def test_rollback_to_undoes_set_savepoint_by_savepoint(one_server: Any) -> None:
    mine, other = one_server.auto(), one_server.auto()
    with mine.transaction():
        mine.execute("SET app.x = 'outer'")
        with mine.transaction(force_rollback=True):
            mine.execute("SET app.x = 'middle'")
            with mine.transaction():
                mine.execute("SET app.x = 'inner'")
            assert one(mine) == "inner"
        assert one(mine) == "outer"
        mine.execute("SAVEPOINT again; SET app.x = 'again'; ROLLBACK TO again")
    assert one(other) == "none"
    assert one(mine) == "outer"


def test_rollback_in_a_string_of_statements_undoes_its_set(one_server: Any) -> None:
    mine, other = one_server.auto(), one_server.auto()
    mine.execute("SET app.x = 'undone'; ROLLBACK")
    assert one(other) == "none"
    assert one(mine) == "none"


def test_a_string_of_statements_that_fails_half_way_leaves_nothing_to_others(one_server: Any) -> None:
    mine, other = one_server.auto(), one_server.auto()
    with pytest.raises(psycopg.errors.DivisionByZero):
        mine.execute("SET app.x = 'kept'; COMMIT; SELECT 1/0")
    assert one(other) == "none"


def test_a_failing_statement_does_not_lose_the_settings_that_travelled_with_it(one_server: Any) -> None:
    mine, other = one_server.auto(), one_server.auto()
    mine.execute("SET app.x = 'mine'")
    other.execute("SELECT 1")
    with pytest.raises(psycopg.errors.DivisionByZero):
        mine.execute("SELECT 1/0")
    assert one(mine) == "mine"


def test_the_search_path_decides_which_table_is_meant(one_server: Any) -> None:
    mine, other = one_server.auto(), one_server.auto()
    mine.execute("CREATE SCHEMA IF NOT EXISTS elsewhere")
    mine.execute("CREATE TABLE IF NOT EXISTS elsewhere.numbers AS SELECT 2 AS n")
    mine.execute("SELECT set_config('search_path', %s, false)", ("elsewhere, public",))
    for _ in range(3):
        assert one(other, "SELECT n FROM numbers", *()) == 1
        assert one(mine, "SELECT n FROM numbers", *()) == 2
    assert one(mine, "SHOW search_path") == "elsewhere, public"


@pytest.mark.parametrize("become", ["SET ROLE state_role", "SET SESSION AUTHORIZATION state_role"])
def test_a_role_stays_with_its_connection(one_server: Any, become: str) -> None:
    mine, other = one_server.auto(), one_server.auto()
    before = one(other, "SELECT current_user")
    mine.execute(become)
    assert one(mine, "SELECT current_user") == "state_role"
    assert one(other, "SELECT current_user") == before
    assert one(mine, "SELECT current_user") == "state_role"
    mine.execute("RESET " + become.removeprefix("SET ").removesuffix(" state_role"))
    assert one(other, "SELECT current_user") == before
    assert one(mine, "SELECT current_user") == before


def test_what_only_a_superuser_sets_is_restored_behind_a_role_that_may_not(one_server: Any) -> None:
    mine, other = one_server.auto(), one_server.auto()
    mine.execute("SET log_statement = 'ddl'")
    mine.execute("SET ROLE state_role")
    other.execute("SET ROLE state_role")
    assert one(mine, "SHOW log_statement") == "ddl"
    assert one(other, "SHOW log_statement") == "none"
    assert one(mine, "SELECT current_user") == "state_role"


def test_a_client_encoding_does_not_garble_what_is_restored_behind_it(one_server: Any) -> None:
    mine, other = one_server.auto(), one_server.auto()
    mine.execute("SET client_encoding = 'LATIN1'")
    mine.execute("SET app.x = 'é'")
    assert one(other) == "none"
    assert one(other, "SELECT 'é'") == "é"
    assert one(mine) == "é"
    assert mine.info.encoding == "iso8859-1"
    assert other.info.encoding == "utf-8"


HIDDEN = ["SELECT hide_a_setting()", "DO $$ BEGIN SET app.x = 'hidden'; END $$", "CALL hiding_procedure()"]


@pytest.mark.parametrize("hiding", HIDDEN)
def test_a_setting_hidden_in_code_does_not_reach_the_next_session(one_server: Any, hiding: str) -> None:
    mine, other = one_server.auto(), one_server.auto()
    mine.execute(hiding)
    assert one(other) == "none"


def test_a_table_hidden_in_code_does_not_reach_the_next_session(one_server: Any) -> None:
    mine, other = one_server.auto(), one_server.auto()
    mine.execute("SELECT hide_a_table()")
    assert one(other, "SELECT to_regclass('pg_temp.hidden') IS NULL")


LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"


@pytest.mark.parametrize("hiding", ["SELECT hide_a_lock()", "SELECT lock_and_fail()"])
def test_a_lock_hidden_in_code_does_not_reach_the_next_session(one_server: Any, hiding: str) -> None:
    mine, other = one_server.auto(), one_server.auto()
    if "fail" in hiding:
        with pytest.raises(psycopg.errors.RaiseException):
            mine.execute(hiding)
    else:
        mine.execute(hiding)
    assert one(other, LOCKS) == 0


def test_nobody_sees_the_other_s_prepared_statements_or_finds_them_missing(one_server: Any) -> None:
    mine, other = one_server.auto(), one_server.auto()
    for n in range(4):
        assert one(mine, "SELECT %s::int * 2", n) == n * 2
        assert one(other, "SELECT %s::int * 3", n) == n * 3
        mine.execute("SELECT 'mine'", prepare=True)
        other.execute("SELECT 'other'", prepare=True)


def test_a_role_that_is_gone_is_an_error_and_not_another_role_s_statement(one_server: Any) -> None:
    mine, other = one_server.auto(), one_server.auto()
    mine.execute("CREATE ROLE short_lived")
    mine.execute("CREATE TABLE IF NOT EXISTS by_whom (who text)")
    mine.execute("GRANT ALL ON by_whom TO public")
    other.execute("SET ROLE short_lived")
    mine.execute("DROP ROLE short_lived")
    for _ in range(2):
        with pytest.raises(psycopg.Error) as caught:
            other.execute("INSERT INTO by_whom VALUES (current_user)")
        assert caught.value.sqlstate == "22023"
    assert one(mine, "SELECT count(*) FROM by_whom") == 0


def test_deallocate_all_of_one_is_no_missing_statement_of_another(one_server: Any) -> None:
    mine, other = one_server.auto(), one_server.auto()
    for _ in range(3):
        mine.execute("DEALLOCATE ALL")
        other.execute("SELECT 'prepared'", prepare=True)


def test_a_statement_whose_prepare_failed_in_a_pipeline_is_no_missing_statement_of_another(
    one_server: Any,
) -> None:
    mine, other = one_server.connect(), one_server.auto()
    query = "SELECT n FROM numbers WHERE n = %s"
    mine.execute("ROLLBACK")  # psycopg looks at the outcome of a text it has not counted yet only
    mine.execute(query, (1,))
    with pytest.raises(psycopg.errors.DivisionByZero):
        mine.execute("SELECT 1/0")
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        mine.cursor().executemany(query, [(1,), (2,)])
    mine.execute("ROLLBACK")
    assert one(other, query, 1) == 1
