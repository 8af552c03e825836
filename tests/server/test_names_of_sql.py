"""Prepared statements have one set of names, whether SQL or the protocol has given them."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from heliosproxy.server.protocol import frontend
from tests.server.conftest import Served
from tests.server.wire import Messages, Wire, bind, errors, execute

SYNC = frontend.SYNC


@pytest.fixture(params=["session", "transaction"])
def server(request: pytest.FixtureRequest, served: Callable[..., Served]) -> Served:
    made = served(request.param, helios_server_connections=3, helios_cache=True)
    made.direct().execute("DROP TABLE IF EXISTS named; CREATE TABLE named AS SELECT 1 AS n")
    return made


def parse(client: Wire, name: bytes, text: bytes, types: bytes = b"\0\0") -> Messages:
    client.send(frontend.parse_raw(name, text, types), SYNC)
    return client.ready()


def run(client: Wire, name: bytes, *parameters: bytes, ahead: bytes = b"") -> str:
    """The first value of the statement *name*, or the SQLSTATE of its error."""
    client.send(ahead, bind(name, *parameters), execute(), SYNC)
    return first(client.ready())


def ask(client: Wire, text: str) -> str:
    return first(client.ask(text))


def first(answer: Messages) -> str:
    for found in errors(answer):
        return found
    return next((body[6:].decode() for kind, body in answer if kind == b"D"), "")


@pytest.mark.parametrize("begun", [False, True], ids=["", "in a transaction"])
def test_execute_of_what_the_protocol_has_prepared(server: Served, begun: bool) -> None:
    with Wire(server.url) as client, Wire(server.url) as other:
        for each in (client, other):
            parse(each, b"mine", b"SELECT $1::int + 1")
        if begun:
            client.ask("BEGIN")
        assert ask(client, "EXECUTE mine(41)") == "42"
        assert ask(client, "CREATE TEMP TABLE made AS EXECUTE mine(1)") == ""
        assert ask(client, "EXPLAIN (COSTS off) EXECUTE mine(1)") == "Result"
        assert run(client, b"mine", b"6") == "7"
        if begun:
            client.ask("COMMIT")
        assert ask(client, "DEALLOCATE mine") == ""
        assert ask(client, "EXECUTE mine(41)") == "26000"
        assert run(client, b"mine", b"6") == "26000"
        assert run(other, b"mine", b"6") == "7"


def test_execute_by_the_extended_protocol(server: Served) -> None:
    with Wire(server.url) as client:
        parse(client, b"mine", b"SELECT $1::int + 1")
        for number in range(5):
            text = b"EXECUTE mine(%d)" % number
            assert run(client, b"", ahead=frontend.parse_raw(b"", text, b"\0\0")) == str(number + 1)


def test_bind_of_what_sql_has_prepared(server: Served) -> None:
    with Wire(server.url) as client:
        ask(client, "PREPARE mine AS SELECT 7")
        assert run(client, b"mine") == "7"
        client.send(frontend.close(ord("S"), b"mine"), SYNC)
        assert not errors(client.ready())
        assert run(client, b"mine") == "26000"
        assert ask(client, "EXECUTE mine") == "26000"


def test_a_name_is_given_once(server: Served) -> None:
    with Wire(server.url) as client:
        parse(client, b"first", b"SELECT 1")
        assert ask(client, "PREPARE first AS SELECT 2") == "42P05"
        ask(client, "PREPARE second AS SELECT 2")
        assert errors(parse(client, b"second", b"SELECT 3")) == ["42P05"]
        assert errors(parse(client, b"first", b"SELECT 3")) == ["42P05"]
        assert (run(client, b"first"), run(client, b"second")) == ("1", "2")
        assert (ask(client, "EXECUTE first"), ask(client, "EXECUTE second")) == ("1", "2")
        client.ask("DISCARD ALL")
        assert (run(client, b"first"), run(client, b"second")) == ("26000", "26000")
        assert not errors(parse(client, b"second", b"SELECT 3"))
        assert run(client, b"second") == "3"
    assert server.settles()


def test_a_bind_of_what_sql_has_prepared_invalidates_what_it_writes(server: Served) -> None:
    with Wire(server.url) as client, Wire(server.url) as reader:
        count = "SELECT count(*) FROM named"
        client.ask("PREPARE writing AS INSERT INTO named VALUES (2)")
        assert [ask(reader, count) for _ in range(3)] == ["1", "1", "1"]
        run(client, b"writing")
        assert ask(reader, count) == "2"


@pytest.mark.parametrize("name", [b"", b"mine"])
def test_what_was_prepared_while_the_cache_had_the_answer(server: Served, name: bytes) -> None:
    with Wire(server.url) as client:
        text = b"SELECT count(*) FROM named"
        for each in (b"one", b"two"):
            assert run(client, each, ahead=frontend.parse_raw(each, text, b"\0\0")) == "1"
        parse(client, b"", b"SELECT 'another'")
        assert run(client, name, ahead=frontend.parse_raw(name, text, b"\0\0")) == "1"
        server.direct().execute("INSERT INTO named VALUES (2)")
        server.proxy.cache.flush()
        assert run(client, name) == "2"


def test_a_text_that_prepares_and_then_fails_leaves_nothing_to_others(one_server: Served) -> None:
    first_one, second = one_server.connect(), one_server.connect()
    with pytest.raises(psycopg.errors.DivisionByZero):
        first_one.execute("PREPARE left_over AS SELECT 1; SELECT 1 / 0")
    with pytest.raises(psycopg.errors.InvalidSqlStatementName):
        second.execute("EXECUTE left_over")
