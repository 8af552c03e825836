"""A function may set what statements are read by, unsaid: who prepares the same is not misled."""

from __future__ import annotations

import psycopg
import pytest

from heliosproxy.server.protocol import frontend
from tests.server.conftest import Served
from tests.server.wire import Wire, bind, errors, execute

SYNC = frontend.SYNC
FEBRUARY = b"SELECT extract(month FROM date '01/02/2020')::int"  # in German it is February
TIMES = 4  # so often that it is prepared under a name of its own


@pytest.fixture(autouse=True)
def hiding(one_server: Served) -> None:
    one_server.direct().execute("""
        CREATE OR REPLACE FUNCTION hide() RETURNS int LANGUAGE plpgsql AS
        $$ BEGIN PERFORM set_config('DateStyle', 'German', false); RETURN 1; END $$
    """)


def parse(text: bytes, name: bytes = b"") -> bytes:
    return frontend.parse_raw(name, text, b"\0\0")


def month(client: Wire, *ahead: bytes, name: bytes = b"") -> str:
    """What *client* is told when it prepares the question and asks it."""
    client.send(*ahead, parse(FEBRUARY, name), bind(name), execute(), SYNC)
    answer = client.ready()
    assert not errors(answer)
    return [body for kind, body in answer if kind == b"D"][-1][6:].decode()


@pytest.mark.parametrize("name", [b"", b"mine"], ids=["unnamed", "named"])
def test_who_prepares_the_same_later_is_not_misled(one_server: Served, name: bytes) -> None:
    with Wire(one_server.url) as client, Wire(one_server.url) as other:
        client.ask("BEGIN")
        client.ask("SELECT hide()")
        for time in range(TIMES):
            assert month(client, name=name + str(time).encode() if name else b"") == "2"
        client.ask("COMMIT")
        for _ in range(TIMES):
            assert month(other) == "1"
            assert month(client) == "1"


def test_who_hides_it_is_not_misled_by_who_prepared_before(one_server: Served) -> None:
    with Wire(one_server.url) as client, Wire(one_server.url) as other:
        for _ in range(TIMES):
            assert month(other) == "1"
            assert month(client) == "1"
        client.ask("BEGIN")
        client.ask("SELECT hide()")
        assert month(client) == "2"
        client.ask("ROLLBACK")
        assert month(client) == "1"


def test_in_one_batch(one_server: Served) -> None:
    with Wire(one_server.url) as client, Wire(one_server.url) as other:
        for time in range(TIMES):
            client.send(parse(b"SELECT hide()"), bind(), execute())
            assert month(client, name=b"mine%d" % time) == "2"
        for _ in range(TIMES):
            assert month(other) == "1"


def test_who_is_pinned_has_it_for_good(one_server: Served) -> None:
    with Wire(one_server.url) as client:
        client.ask("CREATE TEMP TABLE pinning (n int)")
        client.ask("BEGIN")
        client.ask("SELECT hide()")
        for _ in range(TIMES):
            assert month(client) == "2"
        client.ask("COMMIT")
        for _ in range(TIMES):
            assert month(client) == "2"
        client.ask("BEGIN")
        client.ask("SET DateStyle TO ISO, MDY")
        assert month(client) == "1"
        client.ask("ROLLBACK")
        assert month(client) == "2"
        client.ask("RESET DateStyle")
        assert month(client) == "1"


def test_what_a_savepoint_takes_back(one_server: Served) -> None:
    with Wire(one_server.url) as client:
        client.ask("BEGIN")
        client.ask("SAVEPOINT before")
        client.ask("SELECT hide()")
        for _ in range(TIMES):
            assert month(client) == "2"
        client.ask("ROLLBACK TO before")
        for _ in range(TIMES):
            assert month(client) == "1"


def test_what_the_client_sets_itself_behind_it(one_server: Served) -> None:
    conn: psycopg.Connection = one_server.connect()
    with conn.transaction():
        conn.execute("SELECT hide()")
        conn.execute("SET LOCAL DateStyle TO 'ISO, MDY'")
        assert conn.execute(FEBRUARY, prepare=True).fetchone() == (1,)
    assert conn.execute("SHOW DateStyle").fetchone() == ("ISO, MDY",)


def test_what_a_trigger_sets_nobody_else_gets(one_server: Served) -> None:
    one_server.direct().execute("""
        CREATE OR REPLACE FUNCTION hide_by_trigger() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM set_config('DateStyle', 'German', false); RETURN new; END $$;
        DROP TABLE IF EXISTS triggering;
        CREATE TABLE triggering (n int);
        CREATE TRIGGER hide BEFORE INSERT ON triggering FOR EACH ROW EXECUTE FUNCTION hide_by_trigger();
    """)
    with Wire(one_server.url) as client, Wire(one_server.url) as other:
        client.ask("INSERT INTO triggering VALUES (1)")
        assert other.value("SHOW DateStyle") == "ISO, MDY"
        assert client.value("SHOW DateStyle") == "ISO, MDY"


def test_what_a_client_sets_itself_is_nothing_hidden(one_server: Served) -> None:
    with Wire(one_server.url) as client:
        (home,) = one_server.serving._service.homes.values()
        (upstream,) = home.upstreams
        for text in (
            "SET DateStyle TO German",
            "BEGIN; SET LOCAL DateStyle TO ISO; SET TIME ZONE 'Asia/Tokyo'; ROLLBACK",
            "RESET ALL",
        ):
            assert not errors(client.ask(text))
            assert not upstream.tainted, text
