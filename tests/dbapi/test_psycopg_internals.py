"""Each private attribute of psycopg that heliosproxy/dbapi stands on: what it is, and that it still means that.

psycopg is pinned to a minor version. Where an upgrade breaks something, one of these tests says what.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import generators, pq
from psycopg._connection_base import BaseConnection
from psycopg._connection_info import ConnectionInfo
from psycopg._cursor_base import BaseCursor
from psycopg._pipeline_base import BasePipeline
from psycopg._preparing import Prepare, PrepareManager
from psycopg._queries import PostgresClientQuery, PostgresQuery
from psycopg._server_cursor_base import ServerCursorMixin
from psycopg.adapt import Transformer
from psycopg.transaction import BaseTransaction

ROOM = Path(__file__).parents[2] / "heliosproxy"


@pytest.fixture
def conn(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


CONNECTION = {
    "_adapters": type(None),
    "_autocommit": bool,
    "_closed": bool,
    "_isolation_level": type(None),
    "_pipeline": type(None),
    "_prepared": PrepareManager,
    "_num_transactions": int,
    "_tpc": type(None),
}


@pytest.mark.parametrize("name", CONNECTION)
def test_an_attribute_of_a_connection_is_there_and_of_its_type(conn: Any, name: str) -> None:
    assert isinstance(getattr(conn, name), CONNECTION[name])


SIGNATURES = {
    (BaseConnection, "_check_connection_ok"): ["self"],
    (BaseConnection, "_exec_command"): ["self", "command", "result_format"],
    (BaseConnection, "_start_query"): ["self"],
    (BaseConnection, "_get_tx_start_command"): ["self"],
    (BaseConnection, "_set_autocommit_gen"): ["self", "value"],
    (BaseConnection, "_set_isolation_level_gen"): ["self", "value"],
    (BaseConnection, "_should_cancel"): ["self"],
    (psycopg.Connection, "wait"): ["self", "gen", "interval"],
    (psycopg.AsyncConnection, "wait"): ["self", "gen", "interval"],
    (BaseCursor, "_execute_gen"): ["self", "query", "params", "prepare", "binary"],
    (BaseCursor, "_maybe_prepare_gen"): ["self", "pgq", "prepare", "binary"],
    (BaseCursor, "_stream_send_gen"): ["self", "query", "params", "binary", "size"],
    (BaseCursor, "_start_copy_gen"): ["self", "statement", "params"],
    (BaseCursor, "_executemany_gen_pipeline"): ["self", "query", "params_seq", "returning"],
    (BaseCursor, "_convert_query"): ["self", "query", "params"],
    (BaseCursor, "_get_prepared"): ["self", "pgq", "prepare"],
    (BaseCursor, "_check_results"): ["self", "results"],
    (BaseCursor, "_set_results"): ["self", "results"],
    (BaseCursor, "_select_current_result"): ["self", "i", "format"],
    (BaseCursor, "_reset"): ["self", "reset_query"],
    (ServerCursorMixin, "_declare_gen"): ["self", "query", "params", "binary"],
    (ServerCursorMixin, "_make_declare_statement"): ["self", "query"],
    (PrepareManager, "get"): ["self", "query", "prepare"],
    (PrepareManager, "maybe_add_to_cache"): ["self", "query", "prep", "name"],
    (PrepareManager, "validate"): ["self", "key", "prep", "name", "results"],
    (PrepareManager, "clear"): ["self"],
    (PrepareManager, "maintain_gen"): ["self", "conn"],
    (ConnectionInfo, "_get_pgconn_attr"): ["self", "name"],
    (BaseTransaction, "_enter_gen"): ["self"],
}


@pytest.mark.parametrize(("owner", "name"), SIGNATURES, ids=[f"{o.__name__}.{n}" for o, n in SIGNATURES])
def test_a_method_takes_the_arguments_we_know(owner: Any, name: str) -> None:
    known = SIGNATURES[owner, name]
    assert [*inspect.signature(getattr(owner, name)).parameters][: len(known)] == known


@pytest.mark.parametrize(
    "name",
    [
        "_execute_gen",
        "_maybe_prepare_gen",
        "_stream_send_gen",
        "_start_copy_gen",
        "_executemany_gen_pipeline",
    ],
)
def test_a_generator_of_a_cursor_is_recognised_by_its_code(conn: Any, name: str) -> None:
    assert inspect.isgeneratorfunction(getattr(BaseCursor, name))
    gen = BaseCursor._execute_gen(conn.cursor(), "SELECT 1", None)
    assert gen.gi_code is BaseCursor._execute_gen.__code__
    assert gen.gi_frame.f_locals["query"] == "SELECT 1"
    assert gen.gi_frame.f_locals["self"].connection is conn
    gen.close()


def test_the_attributes_of_a_cursor(conn: Any) -> None:
    cursor = conn.execute("SELECT 1")
    assert cursor._conn is conn
    assert cursor._pgconn is conn.pgconn
    assert cursor._closed is False
    assert cursor._last_query == "SELECT 1"
    assert isinstance(cursor._query, PostgresQuery)
    assert cursor._query_cls is PostgresQuery
    assert psycopg.ClientCursor._query_cls is PostgresClientQuery
    assert cursor._tx.connection is conn
    assert [result.status for result in cursor._results] == [pq.ExecStatus.TUPLES_OK]
    assert (cursor._iresult, cursor._pos, cursor._execmany_returning) == (0, 0, None)


def test_a_converted_query_can_be_filled_anew(conn: Any) -> None:
    cursor = conn.cursor()
    cursor._tx = Transformer(cursor)
    query = cursor._convert_query("SELECT %s, %b, '%%'", (1, 2))
    again = PostgresQuery(cursor._tx)
    again.query, again._parts, again._want_formats = query.query, query._parts, query._want_formats
    assert (query._order, len(query._parts)) == (None, 3)
    again.params = again._tx.dump_sequence((3, 4), again._want_formats)
    assert [bytes(value) for value in again.params] == [b"\0\3", b"\0\4"]
    assert (again.query, again._tx.types, again._tx.formats) == (query.query, query.types, query.formats)


def test_a_prepared_statement_is_found_by_its_text_and_types(conn: Any) -> None:
    cursor = conn.execute("SELECT %s", (1,), prepare=True)
    query = cursor._convert_query("SELECT %s", (1,))
    assert list(conn._prepared._names) == [(query.query, query.types)]


def test_a_result_adopted_by_another_cursor_is_its_own(conn: Any) -> None:
    cursor, other = conn.execute("SELECT 1, 'x'"), conn.cursor()
    other._tx = Transformer(other)
    other._results = cursor._results
    other._select_current_result(0)
    assert other.fetchone() == (1, "x")
    assert other.description[0].type_code == 23


def test_a_manager_of_prepared_statements_notes_what_is_to_be_flushed(conn: Any) -> None:
    cursor = conn.execute("SELECT 1", prepare=True)
    query = cursor._convert_query("SELECT 1")
    assert cursor._get_prepared(query)[0] is Prepare.YES
    assert conn._prepared.clear()
    assert list(conn._prepared._to_flush) == [None]
    conn._prepared._to_flush.clear()
    assert not conn._prepared.clear()


def test_the_names_of_prepared_statements_do_not_recur(conn: Any) -> None:
    conn.execute("SELECT 1", prepare=True)
    conn._prepared.clear()
    conn._prepared._to_flush.clear()
    conn.execute("SELECT 1", prepare=True)


def test_a_pipeline_has_a_queue_of_results_that_a_sync_empties(conn: Any) -> None:
    with conn.pipeline() as pipeline:
        assert conn._pipeline is pipeline
        assert isinstance(pipeline, BasePipeline)
        conn.execute("SELECT 1")
        assert pipeline.result_queue
        pipeline.sync()
        assert not pipeline.result_queue
    assert conn._pipeline is None


@pytest.mark.parametrize("name", ["send", "execute", "fetch_many"])
def test_a_generator_of_libpq_is_there(name: str) -> None:
    assert callable(getattr(generators, name))


def test_a_pgconn_knows_its_encoding(conn: Any) -> None:
    assert conn.pgconn._encoding == "utf-8"


def test_handlers_are_bound_to_the_pgconn_at_birth(dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        assert conn.pgconn.notice_handler is not None
        assert conn.pgconn.notify_handler is not None


OURS = re.compile(r"\bdef (_\w+)|\bself\.(_\w+)(?:: [^=]+)? = |^\s+(_\w+)\s*[:=]", re.M)
USED = re.compile(r"\b(?:conn|cursor|self|base|manager|_prepared|prepared|BaseCursor|pgconn)\.(_[a-z]\w*)")


def test_every_private_attribute_that_is_used_is_tested_here_or_ours() -> None:
    text = "".join(path.read_text() for path in sorted((ROOM / "dbapi").glob("*.py")))
    drivers = "".join(path.read_text() for path in sorted((ROOM / "drivers").glob("*.py")))
    ours = {name for groups in OURS.findall(text + drivers) for name in groups if name}
    here = Path(__file__).read_text()
    unknown = {name for name in USED.findall(text) if name not in ours and name not in here}
    assert unknown == set()
