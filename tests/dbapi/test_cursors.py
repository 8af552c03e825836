"""Every kind of cursor and every way to move data, in each mode."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import class_row, dict_row, namedtuple_row, scalar_row
from psycopg.types import TypeInfo

from tests.dbapi.faces import Blocking, bare


@pytest.fixture(params=["session", "session_on_path", "transaction"])
def conn(room: Any, request: pytest.FixtureRequest) -> Any:
    here = room(request.param)
    made = here.connect()
    made.execute("DROP TABLE IF EXISTS data; CREATE TABLE data (n int PRIMARY KEY, t text)")
    made.commit()
    yield made
    made.rollback()
    if request.param == "transaction":
        assert here.leased == 0


class Point:
    def __init__(self, x: int) -> None:
        self.x = x


def test_row_factories(conn: Any) -> None:
    query = "SELECT 1 AS x"
    assert conn.cursor(row_factory=dict_row).execute(query).fetchone() == {"x": 1}
    assert conn.cursor(row_factory=namedtuple_row).execute(query).fetchone().x == 1
    assert conn.cursor(row_factory=scalar_row).execute(query).fetchone() == 1
    assert conn.cursor(row_factory=class_row(Point)).execute(query).fetchone().x == 1


def test_a_scrollable_cursor_that_is_held_beyond_its_transaction(conn: Any) -> None:
    with conn.cursor("held", scrollable=True, withhold=True) as cursor:
        cursor.execute("SELECT generate_series(1, 10)")
        conn.commit()
        assert cursor.fetchmany(3) == [(1,), (2,), (3,)]
        cursor.scroll(-2)
        assert cursor.fetchone() == (2,)
        assert len(cursor.fetchall()) == 8
    conn.commit()
    if conn._session is not None:
        conn._session.pins.discard("with_hold")


def test_executemany_and_what_it_returns(conn: Any) -> None:
    cursor = conn.cursor()
    cursor.executemany("INSERT INTO data VALUES (%s, %s)", [(n, str(n)) for n in range(10)])
    assert cursor.rowcount == 10
    cursor.executemany("UPDATE data SET t = t WHERE n < %s RETURNING n", [(1,), (2,)], returning=True)
    assert cursor.fetchall() == [(0,)]
    assert cursor.nextset()
    assert len(cursor.fetchall()) == 2


@pytest.mark.parametrize("binary", [False, True])
def test_copy_in_and_out(conn: Any, binary: bool) -> None:
    how = " (FORMAT BINARY)" if binary else ""
    cursor = conn.cursor()
    with cursor.copy(f"COPY data FROM STDIN{how}") as copy:
        copy.set_types(["int4", "text"])
        for n in range(100):
            copy.write_row((n, "ü"))
    with cursor.copy(f"COPY (SELECT * FROM data ORDER BY n) TO STDOUT{how}") as copy:
        copy.set_types(["int4", "text"])
        assert list(copy.rows()) == [(n, "ü") for n in range(100)]
    with cursor.copy("COPY (SELECT %s::int) TO STDOUT", (7,)) as copy:
        assert b"".join(bytes(block) for block in copy) == b"7\n"


def test_a_stream_and_then_a_pipeline(conn: Any) -> None:
    assert [row[0] for row in conn.cursor().stream("SELECT generate_series(1, 100)")] == list(range(1, 101))
    conn.commit()
    conn.execute("SELECT 1")
    if conn._session is None:
        return  # stock psycopg's next pipeline fails
    with conn.pipeline():
        assert conn.execute("SELECT 2").fetchall() == [(2,)]


def test_nested_pipelines_with_an_error_in_between(conn: Any) -> None:
    def failing() -> None:
        with conn.pipeline(), conn.transaction():
            conn.execute("SELECT 1")
            with conn.pipeline():
                conn.execute("SELECT 1/0")

    with pytest.raises(psycopg.errors.DivisionByZero):
        failing()
    assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    with conn.pipeline(), conn.transaction():
        assert conn.execute("SELECT 2").fetchone() == (2,)


def test_commit_inside_a_transaction_block_is_refused(conn: Any) -> None:
    with conn.transaction():
        with pytest.raises(psycopg.ProgrammingError):
            conn.commit()
        conn.execute("INSERT INTO data VALUES (1, 'kept')")
    assert conn.execute("SELECT t FROM data").fetchone() == ("kept",)


def test_binary_results_and_composed_statements(conn: Any) -> None:
    query = sql.SQL("SELECT {}::int8 AS {}").format(sql.Literal(5), sql.Identifier("a b"))
    cursor = conn.execute(query, binary=True)
    assert cursor.fetchone() == (5,)
    assert cursor.description[0].name == "a b"


@pytest.mark.parametrize("whose", ["stock", "ours"])
@pytest.mark.parametrize("name", ["Cursor", "ClientCursor", "RawCursor"])
def test_cursor_classes_by_factory_and_instantiated(conn: Any, face: Any, whose: str, name: str) -> None:
    kind = getattr(face, whose)(name)
    mark = "$1" if name == "RawCursor" else "%s"
    made = kind(bare(conn))
    for cursor in (Blocking(made, face.loop) if face.is_async else made, None):
        if cursor is None:
            conn.cursor_factory = kind
            cursor = conn.cursor()
        assert cursor.execute(f"SELECT {mark}::int", [3]).fetchone() == (3,)
        conn.commit()
        cursor.executemany(f"INSERT INTO data VALUES ({mark}) ON CONFLICT DO NOTHING", [[1], [2]])
        conn.commit()


def test_type_info_is_fetched_through_the_connection(conn: Any) -> None:
    info = TypeInfo.fetch(bare(conn), "int4")
    if isinstance(conn, Blocking):
        info = conn._run(info)
    assert info.oid == 23


def test_prepared_statements_survive_ddl_from_another_server_connection(room: Any) -> None:
    here = room("transaction", helios_server_connections=2)
    mine, other = here.auto(), here.connect()
    mine.execute(
        "DROP TABLE IF EXISTS changing; CREATE TABLE changing (a int); INSERT INTO changing VALUES (1)"
    )
    other.execute("SELECT * FROM changing", prepare=True)
    mine.execute("SELECT * FROM changing", prepare=True)
    other.commit()
    for column in ("b", "c"):
        mine.execute(f"ALTER TABLE changing ADD COLUMN {column} int DEFAULT 2")
        for conn in (mine, other):
            row = conn.execute("SELECT * FROM changing", prepare=True).fetchone()
            assert row[-1] == 2
            assert len(row) == (2 if column == "b" else 3)
        other.commit()


def test_ddl_of_others_does_not_disturb_a_failed_transaction(room: Any) -> None:
    here = room("transaction", helios_server_connections=2)
    mine, other = here.connect(), here.auto()
    mine.execute("SELECT 1", prepare=True)
    with pytest.raises(psycopg.errors.DivisionByZero):
        mine.execute("SELECT 1/0")
    other.execute("CREATE TABLE IF NOT EXISTS ddl_of_others (n int)")
    mine.rollback()
    assert mine.execute("SELECT 1", prepare=True).fetchone() == (1,)
    mine.rollback()
