"""What each attribute of a connection tells while no server connection is held: the table in docs/dbapi.md."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import ConnStatus, PipelineStatus, TransactionStatus
from psycopg.types.json import set_json_dumps

from heliosproxy import dbapi

DOCS = Path(__file__).parents[2] / "docs" / "dbapi.md"


def test_the_globals_of_pep_249() -> None:
    assert (dbapi.apilevel, dbapi.threadsafety, dbapi.paramstyle) == ("2.0", 2, "pyformat")
    for name in ("Error", "Warning", "DatabaseError", "IntegrityError", "Binary", "Date", "STRING", "ROWID"):
        assert getattr(dbapi, name) is getattr(psycopg, name)


@pytest.fixture
def idle(room: Any) -> Any:
    """A connection that has been used, and holds nothing."""
    here = room("transaction")
    conn = here.auto()
    conn.execute("SET application_name = 'idle one'")
    conn.execute("SELECT 1")
    assert here.leased == 0
    return conn


ANSWERS: dict[str, Any] = {
    "closed": False,
    "broken": False,
    "autocommit": True,
    "isolation_level": None,
    "read_only": None,
    "deferrable": None,
    "prepare_threshold": 5,
    "prepared_max": 100,
    "info.status": ConnStatus.OK,
    "info.transaction_status": TransactionStatus.IDLE,
    "info.pipeline_status": PipelineStatus.OFF,
    "info.encoding": "utf-8",
    "info.backend_pid": 0,
    "info.error_message": "",
    "info.password": "",
    "info.options": "",
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_idle_connection_answers(idle: Any, name: str) -> None:
    target, _, attribute = name.rpartition(".")
    assert getattr(getattr(idle, target) if target else idle, attribute) == ANSWERS[name]


@pytest.mark.parametrize(
    "name",
    [
        "host",
        "port",
        "dbname",
        "user",
        "hostaddr",
        "dsn",
        "vendor",
        "server_version",
        "full_protocol_version",
    ],
)
def test_what_belongs_to_the_server_is_told_as_psycopg_tells_it(
    idle: Any, face: Any, dsn: str, name: str
) -> None:
    with face.plain(dsn) as plain:
        assert getattr(idle.info, name) == getattr(plain.info, name)


def test_parameters_are_those_of_the_login_and_of_the_session(idle: Any, dsn: str) -> None:
    assert idle.info.get_parameters()["dbname"] == conninfo_to_dict(dsn)["dbname"]
    assert idle.info.parameter_status("application_name") == "idle one"
    idle.execute("SET timezone = 'Asia/Tokyo'")
    assert str(idle.info.timezone) == "Asia/Tokyo"


def test_there_is_no_socket(idle: Any) -> None:
    with pytest.raises(psycopg.OperationalError, match="no server connection"):
        idle.fileno()


def test_who_uses_the_parked_pgconn_harms_nobody(room: Any) -> None:
    here = room("transaction")
    conn, other = here.auto(), here.auto()
    conn.execute("SELECT 1")
    conn.pgconn.finish()
    assert not other.closed
    assert other.execute("SELECT 2").fetchone() == (2,)
    assert conn.execute("SELECT 3").fetchone() == (3,)


def test_threshold_and_maximum_of_prepared_statements_are_the_connection_s_own(one_server: Any) -> None:
    mine, other = one_server.auto(), one_server.auto()
    mine.prepare_threshold, mine.prepared_max = 0, 7
    names = "SELECT count(*) FROM pg_prepared_statements"
    mine.execute("SELECT 1 AS prepared")
    assert mine.execute(names, prepare=False).fetchone()[0] > 0
    assert (other.prepare_threshold, other.prepared_max) == (5, 100)
    other.execute("SELECT 1")
    assert (mine.prepare_threshold, mine.prepared_max) == (0, 7)


def test_notices_reach_the_handlers_of_who_caused_them(one_server: Any) -> None:
    mine, other = one_server.auto(), one_server.auto()
    got: dict[str, list[Any]] = {"mine": [], "other": []}
    mine.add_notice_handler(lambda diag: got["mine"].append(diag.message_primary))
    other.add_notice_handler(lambda diag: got["other"].append(diag.message_primary))
    mine.execute("DO $$ BEGIN RAISE NOTICE 'to me'; END $$")
    other.execute("DO $$ BEGIN RAISE NOTICE 'to the other'; END $$")
    assert got == {"mine": ["to me"], "other": ["to the other"]}


def test_notifications_reach_who_listens(room: Any) -> None:
    here = room("transaction")
    listener, speaker = here.auto(), here.auto()
    heard: list[str] = []
    listener.add_notify_handler(lambda notify: heard.append(notify.payload))
    listener.execute("LISTEN news")
    speaker.execute("NOTIFY news, 'one'")
    listener.execute("SELECT 1")
    assert heard == ["one"]
    listener.execute("UNLISTEN *")
    assert here.leased == 0


def test_notifications_are_generated_for_who_listens(room: Any) -> None:
    here = room("transaction")
    listener, speaker = here.auto(), here.auto()
    listener.execute("LISTEN news")
    speaker.execute("NOTIFY news, 'two'")
    assert [n.payload for n in listener.notifies(timeout=10, stop_after=1)] == ["two"]
    assert list(listener.notifies(timeout=0)) == []


def test_adapters_registered_on_a_connection_are_its_own(one_server: Any) -> None:
    mine, other = one_server.auto(), one_server.auto()
    set_json_dumps(lambda _: '"mine"', getattr(mine, "target", mine))
    json = psycopg.types.json.Jsonb({"a": 1})
    assert mine.execute("SELECT %s", (json,)).fetchone() == ("mine",)
    assert other.execute("SELECT %s", (json,)).fetchone() == ({"a": 1},)


def test_every_public_attribute_of_psycopg_s_connection_is_in_the_document() -> None:
    names = [
        name
        for name, value in inspect.getmembers(psycopg.Connection)
        if not name.startswith("_") and not inspect.isfunction(value) and not inspect.ismethod(value)
        if not inspect.isclass(value) and name != "connection"
    ]
    told = set(re.findall(r"`([a-z_]+)", DOCS.read_text()))
    assert [name for name in names if name not in told] == []
