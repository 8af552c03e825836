"""Faults that an attack on the server has found: each stays mended."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from heliosproxy.server.protocol import frontend
from heliosproxy.server.upstream import known
from tests.server.conftest import Served
from tests.server.wire import Messages, Wire, bind, errors, execute, kinds

STATEMENT, PORTAL = ord("S"), ord("P")
BIG = 200 * frontend.message(b"d", b"7\n" * 20_000)


@pytest.fixture
def wired() -> Iterator[Callable[..., Wire]]:
    """``wired(dsn, DateStyle="ISO, DMY")``: a client, closed behind the test."""
    made: list[Wire] = []

    def connect(dsn: str, **startup: str) -> Wire:
        made.append(Wire(dsn, **startup))
        return made[-1]

    yield connect
    for each in made:
        each.close()


def prepared_value(client: Wire, text: bytes) -> bytes:
    """The value of *text*, prepared under a name and executed in a batch of its own."""
    client.send(frontend.close(STATEMENT, b"s"), frontend.parse(b"s", text), frontend.SYNC)
    client.ready()
    return bound_value(client)


def bound_value(client: Wire) -> bytes:
    client.send(bind(b"s"), execute(), frontend.SYNC)
    answer = client.ready()
    (row,) = [body for kind, body in answer if kind == b"D"]
    return row[6:]


def active(conn: psycopg.Connection[Any], pid: int) -> None:
    """Wait until the server process works on something."""
    query = "SELECT pg_sleep(0.005) FROM pg_stat_activity WHERE pid = %s AND state <> 'active'"
    while conn.execute(query, (pid,)).fetchone():
        pass


# -- whose constants are they? ---------------------------------------------------------------------


@pytest.mark.parametrize("how", ["startup", "SET", "SET LOCAL"])
def test_a_constant_is_read_by_the_settings_of_its_own_client(
    one_server: Served, wired: Callable[..., Wire], how: str
) -> None:
    """PostgreSQL reads it when the statement is prepared, and clients share what is prepared."""
    text = b"SELECT '01/02/2020'::date - '2020-01-01'::date"
    american = wired(one_server.url)
    assert prepared_value(american, text) == b"1"
    european = wired(one_server.url, **({"DateStyle": "ISO, DMY"} if how == "startup" else {}))
    if how != "startup":
        european.ask("BEGIN")
        european.ask(f"{how} DateStyle TO 'ISO, DMY'")
    assert prepared_value(european, text) == b"31"
    european.ask("COMMIT")
    assert prepared_value(american, text) == b"1"


def test_a_statement_follows_the_settings_of_its_client(
    one_server: Served, wired: Callable[..., Wire]
) -> None:
    """One that sets something later must not prepare for others what these read otherwise."""
    text = b"SELECT '01/02/2020'::date - '2020-01-01'::date"
    first, second = wired(one_server.url), wired(one_server.url)
    first.send(frontend.parse(b"s", text), frontend.SYNC)
    first.ready()
    first.ask("SET DateStyle TO 'ISO, DMY'")
    (home,) = one_server.serving._service.homes.values()
    home.pool.saw_ddl()  # every server connection prepares anew
    bound_value(first)
    assert prepared_value(second, text) == b"1"


def test_a_set_in_the_same_batch_decides_nothing_for_others(
    one_server: Served, wired: Callable[..., Wire]
) -> None:
    text = b"SELECT '01/02/2020'::date - '2020-01-01'::date"
    first, second = wired(one_server.url), wired(one_server.url)
    first.send(frontend.parse(b"", b"SET DateStyle TO 'ISO, DMY'"), bind(), execute())
    first.send(frontend.parse(b"s", text), bind(b"s"), execute(), frontend.SYNC)
    assert (b"D", b"\0\1\0\0\0\x0231") in first.ready()
    assert prepared_value(second, text) == b"1"


def test_a_text_is_read_in_the_encoding_of_its_own_client(
    one_server: Served, wired: Callable[..., Wire]
) -> None:
    text = b"SELECT ascii('\xe6')"
    assert prepared_value(wired(one_server.url, client_encoding="LATIN1"), text) == b"230"
    assert prepared_value(wired(one_server.url, client_encoding="LATIN2"), text) == b"263"


# -- nothing twice, nothing by half ----------------------------------------------------------------


def test_a_statement_whose_server_died_while_something_was_learned_is_not_executed(
    served: Callable[..., Served], wired: Callable[..., Wire]
) -> None:
    server = served(helios_server_connections=3, helios_cache=True)
    direct = server.direct()
    direct.execute("DROP TABLE IF EXISTS once; CREATE TABLE once (n int)")
    client = wired(server.url)
    client.ask("SELECT n FROM once")
    client.ask("BEGIN")
    pid = int(client.value("SELECT pg_backend_pid()") or 0)
    (book,) = server.proxy.cache._books.values()
    learning, go_on, look = threading.Event(), threading.Event(), book._work

    def slow(conn: Any) -> Any:
        learning.set()
        go_on.wait(20)
        return look(conn)

    book._work = slow
    book.next_poll = 0.0
    client.send(frontend.query(b"INSERT INTO once VALUES (1)"))
    assert learning.wait(20)
    direct.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))
    answer = client.ready()
    assert errors(answer) == ["57P01"]
    assert answer[-1] == (b"Z", b"E")
    go_on.set()
    assert kinds(client.ask("ROLLBACK")) == "CZ"
    assert client.value("SELECT count(*) FROM once") == "0"


@pytest.mark.parametrize("begun", [False, True])
def test_an_error_of_the_proxy_fails_the_transaction(
    served: Callable[..., Served], wired: Callable[..., Wire], begun: bool
) -> None:
    """As every error does: who goes on in spite of it must not commit the half that worked."""
    server = served(helios_server_connections=2)
    server.direct().execute("DROP TABLE IF EXISTS half; CREATE TABLE half (n int)")
    client = wired(server.url)
    client.send(frontend.parse(b"s", b"SELECT 1"), frontend.SYNC)
    client.ready()
    client.ask("BEGIN")
    if begun:
        client.ask("INSERT INTO half VALUES (1)")
    client.send(frontend.parse(b"s", b"SELECT 2"), frontend.SYNC)
    answer = client.ready()
    assert errors(answer) == ["42P05"]
    assert answer[-1] == (b"Z", b"E")
    assert errors(client.ask("INSERT INTO half VALUES (2)")) == ["25P02"]
    assert (b"C", b"ROLLBACK\0") in client.ask("COMMIT")
    assert client.value("SELECT count(*) FROM half") == "0"


def test_who_gets_no_server_connection_within_a_transaction_has_it_failed(
    served: Callable[..., Served], wired: Callable[..., Wire]
) -> None:
    server = served(helios_server_connections=1, helios_pool_timeout=0.2)
    server.direct().execute("DROP TABLE IF EXISTS half; CREATE TABLE half (n int)")
    holder, client = wired(server.url), wired(server.url)
    holder.ask("BEGIN")
    holder.ask("SELECT 1")
    client.ask("BEGIN")
    answer = client.ask("INSERT INTO half VALUES (1)")
    assert errors(answer) == ["53300"]
    assert answer[-1] == (b"Z", b"E")
    holder.ask("ROLLBACK")
    assert errors(client.ask("INSERT INTO half VALUES (2)")) == ["25P02"]
    client.ask("ROLLBACK")
    assert client.value("SELECT count(*) FROM half") == "0"


# -- nobody is stuck -------------------------------------------------------------------------------


def test_a_sync_behind_a_flush_is_answered_when_the_server_dies(
    served: Callable[..., Served], wired: Callable[..., Wire]
) -> None:
    server = served(helios_server_connections=2)
    direct, client = server.direct(), wired(server.url)
    pid = int(client.value("SELECT pg_backend_pid()") or 0)
    client.send(frontend.parse(b"", b"SELECT pg_sleep(100)"), bind(), frontend.FLUSH)
    client.until(b"2")
    client.send(execute(), frontend.SYNC)
    active(direct, pid)
    direct.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))
    answer = client.ready()
    assert kinds(answer) == "EZ"
    assert errors(answer) == ["57P01"]
    assert client.value("SELECT 1") == "1"


def test_who_was_not_read_from_goes_on_when_the_server_dies(
    served: Callable[..., Served], wired: Callable[..., Wire]
) -> None:
    server = served(helios_server_connections=2)
    direct, client = server.direct(), wired(server.url)
    pid = int(client.value("SELECT pg_backend_pid()") or 0)
    client.ask("BEGIN")
    client.ask("SELECT pg_advisory_xact_lock(1)")
    direct.execute("SELECT pg_sleep(0)")
    os.kill(pid, signal.SIGSTOP)
    try:
        client.send(frontend.query(b"SELECT '" + b"x" * 5_000_000 + b"'"))
        direct.execute("SELECT pg_terminate_backend(%s)", (pid,))
    finally:
        os.kill(pid, signal.SIGCONT)
    client.ready()
    client.ask("ROLLBACK")
    assert client.value("SELECT 1") == "1"


def test_who_sends_on_behind_a_copy_that_has_failed_is_not_forgotten(
    served: Callable[..., Served], wired: Callable[..., Wire]
) -> None:
    """The server connection is a next client's by the time it has taken the rest."""
    server = served(helios_server_connections=1)
    direct = server.direct()
    direct.execute("DROP TABLE IF EXISTS failed; CREATE TABLE failed (n int)")
    direct.execute(
        "CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_advisory_xact_lock(7); RAISE ''no''; END'"
    )
    direct.execute("CREATE TRIGGER fail BEFORE INSERT ON failed FOR EACH ROW EXECUTE FUNCTION fail()")
    direct.execute("SELECT pg_advisory_lock(7)")
    client, other = wired(server.url), wired(server.url)
    client.send(frontend.query(b"COPY failed FROM STDIN"))
    client.until(b"G")
    sender = threading.Thread(target=client.send, args=(BIG, frontend.message(b"c", b"")))
    sender.start()
    (link,) = [link for link in server.serving._service.links.values() if not link.conversation.idle]
    while not link._held:  # until the server takes no more
        direct.execute("SELECT pg_sleep(0.005)")
    direct.execute("SELECT pg_advisory_unlock(7)")
    assert errors(client.ready()) == ["P0001"]
    assert other.value("SELECT 1") == "1"
    assert client.value("SELECT 2") == "2"
    sender.join()


def test_a_copy_whose_sync_came_early_may_fail(
    served: Callable[..., Served], wired: Callable[..., Wire]
) -> None:
    """PostgreSQL ignores the Sync that was sent with the COPY: the client owes another."""
    server = served(helios_server_connections=2)
    server.direct().execute("DROP TABLE IF EXISTS failed; CREATE TABLE failed (n int)")
    answers = []
    for dsn in (server.dsn, server.url):
        client = wired(dsn)
        client.send(frontend.parse(b"", b"COPY failed FROM STDIN"), bind(), execute(), frontend.SYNC)
        answer = client.until(b"G")
        client.send(frontend.message(b"d", b"none\n"))
        answer += client.until(b"E")
        client.send(frontend.message(b"c", b""), frontend.SYNC)
        answer += client.ready() + client.ask("SELECT 1")
        answers.append(answer)
    assert answers[0] == answers[1]


def test_what_came_while_a_role_was_restored_is_answered(
    served: Callable[..., Served], wired: Callable[..., Wire]
) -> None:
    server = served(helios_server_connections=1)
    direct = server.direct()
    direct.execute("DROP ROLE IF EXISTS actor; CREATE ROLE actor")
    client, other = wired(server.url), wired(server.url)
    client.ask("SET ROLE actor")
    other.ask("SELECT 1")
    client.send(frontend.parse(b"", b"SELECT current_user"), bind(), execute())
    client.send(frontend.SYNC)
    assert kinds(client.ready()) == "12DCZ"
    client.close()
    other.ask("DROP ROLE actor")


def test_what_came_while_something_was_learned_is_answered(
    served: Callable[..., Served], wired: Callable[..., Wire]
) -> None:
    """The first statement turns out to be in memory; who sent a second with it waited for ever."""
    server = served(helios_server_connections=2, helios_cache=True)
    server.direct().execute("DROP TABLE IF EXISTS learned; CREATE TABLE learned (n int)")
    client = wired(server.url)
    for _ in range(2):
        client.ask("SELECT n FROM learned")
    (book,) = server.proxy.cache._books.values()
    book.next_poll = 0.0
    query = frontend.query(b"SELECT n FROM learned")
    client.send(query, query)
    assert kinds(client.ready() + client.ready()) == "TCZTCZ"


# -- nothing piles up, nothing shows ---------------------------------------------------------------


@pytest.mark.parametrize("cache", [False, True])
def test_who_does_not_read_is_answered_no_more(
    served: Callable[..., Served], wired: Callable[..., Wire], cache: bool
) -> None:
    server = served(helios_server_connections=2, helios_cache=cache)
    server.direct().execute(
        "DROP TABLE IF EXISTS large; CREATE TABLE large AS SELECT repeat('x', 10000) AS t"
    )
    client, other = wired(server.url), wired(server.url)
    for _ in range(2):
        client.ask("SELECT t FROM large")
    count = 5000
    query = frontend.query(b"SELECT t FROM large")
    sender = threading.Thread(target=client.send, args=(query * count,))
    sender.start()
    (home,) = server.serving._service.homes.values()
    answered = -1
    while answered:  # until it is stalled
        before = home.queries
        for _ in range(20):
            assert other.value("SELECT 1") == "1"
        answered = home.queries - before - 20
    assert home.queries < count // 2
    for _ in range(count):
        assert kinds(client.ready()) == "TDCZ"
    sender.join()


def test_an_error_names_a_statement_as_its_client_does(
    served: Callable[..., Served], wired: Callable[..., Wire]
) -> None:
    server = served(helios_server_connections=2)
    answers: list[Messages] = []
    for dsn in (server.dsn, server.url):
        client = wired(dsn)
        client.send(frontend.parse(b"mine", b"SELECT $1::int"), frontend.SYNC)
        client.ready()
        client.send(bind(b"mine"), execute(), frontend.SYNC)
        answers.append(client.ready())
        for _ in range(5):  # an unnamed one that is kept by a name of ours
            client.send(frontend.parse(b"", b"SELECT $1::int + 1"), bind(), execute(), frontend.SYNC)
            answers.append(client.ready())
    assert answers[:6] == answers[6:]


def test_the_last_words_of_a_server_are_told_once(
    served: Callable[..., Served], wired: Callable[..., Wire]
) -> None:
    """And as an error: a driver hangs up on what is FATAL, and the connection lives on."""
    server = served(helios_server_connections=2)
    direct, client = server.direct(), wired(server.url)
    pid = int(client.value("SELECT pg_backend_pid()") or 0)
    client.send(frontend.query(b"SELECT pg_sleep(100)"))
    active(direct, pid)
    direct.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))
    answer = client.ready()
    assert errors(answer) == ["57P01"]
    (error,) = [body for kind, body in answer if kind == b"E"]
    assert b"\0VERROR\0" in error


def test_a_bind_that_lies_is_an_error_and_no_more(
    served: Callable[..., Served], wired: Callable[..., Wire]
) -> None:
    server = served(helios_server_connections=2, helios_cache=True)
    server.direct().execute("DROP TABLE IF EXISTS kept; CREATE TABLE kept (n int)")
    answers = []
    for dsn in (server.dsn, server.url):
        client = wired(dsn)
        client.send(frontend.parse(b"s", b"SELECT n FROM kept WHERE n = $1"), frontend.SYNC)
        client.ready()
        for _ in range(2):
            client.send(bind(b"s", b"1"), execute(), frontend.SYNC)
            client.ready()
        lie = frontend.message(b"B", b"\0s\0\0\0\0\1\0\0\0\x091\0\0")
        client.send(lie, execute(), frontend.SYNC)
        answers.append(client.ready() + client.ask("SELECT 1"))
    assert answers[0] == answers[1]


def test_what_is_malformed_is_told_behind_what_came_before(
    served: Callable[..., Served], wired: Callable[..., Wire]
) -> None:
    server = served(helios_server_connections=2)
    answers = []
    for dsn in (server.dsn, server.url):
        client = wired(dsn)
        nonsense = frontend.message(b"D", b"X\0")
        client.send(frontend.parse(b"", b"SELECT 1"), bind(), execute(), nonsense, frontend.SYNC)
        answers.append(client.ready())
    assert kinds(answers[0]) == kinds(answers[1]) == "12DCEZ"
    assert errors(answers[0]) == errors(answers[1]) == ["08P01"]


def test_what_follows_a_refusal_does_not_show_how_it_was_made(
    served: Callable[..., Served], wired: Callable[..., Wire]
) -> None:
    client = wired(served("session").url)
    parse = frontend.parse(b"", b"SELECT 1")
    for _ in range(20):
        client.send(
            parse, frontend.FLUSH, frontend.message(b"D", b"X\0"), frontend.FLUSH, parse, frontend.SYNC
        )
        answer = client.ready()
        assert kinds(answer) == "1EZ"
        assert errors(answer) == ["08P01"]


def test_a_copy_is_not_broken_off_by_statements_that_are_closed(
    served: Callable[..., Served], wired: Callable[..., Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a server connection that has too many: a Close within a COPY breaks it."""
    monkeypatch.setattr(known, "MOST", 3)
    server = served(helios_server_connections=1)
    server.direct().execute("DROP TABLE IF EXISTS copied; CREATE TABLE copied (n int)")
    client = wired(server.url)
    for number in range(12):
        client.send(frontend.parse(b"%d" % number, b"SELECT %d" % number), frontend.FLUSH)
        client.until(b"1")
    client.send(frontend.parse(b"", b"COPY copied FROM STDIN"), bind(), execute(), frontend.FLUSH)
    client.until(b"G")
    client.send(frontend.message(b"d", b"7\n"), frontend.message(b"c", b""), frontend.SYNC)
    assert kinds(client.ready()) == "CZ"


def test_what_is_discarded_in_a_pipeline_is_prepared_anew(
    one_server: Served, wired: Callable[..., Wire]
) -> None:
    client = wired(one_server.url)
    discard = frontend.parse(b"", b"DISCARD ALL") + bind() + execute()
    client.send(discard, frontend.parse(b"a", b"SELECT 1"), bind(b"a"), execute(), frontend.SYNC)
    assert errors(client.ready()) == []
    assert prepared_value(client, b"SELECT 1") == b"1"
    client.send(discard, bind(b"nobody"), frontend.SYNC)  # it has discarded, although it ends in an error
    assert errors(client.ready()) == ["26000"]
    assert prepared_value(client, b"SELECT 1") == b"1"


def test_a_failed_transaction_refuses_to_prepare_what_a_server_knows(
    one_server: Served, wired: Callable[..., Wire]
) -> None:
    first, second = wired(one_server.url), wired(one_server.url)
    assert prepared_value(first, b"SELECT 1") == b"1"
    second.ask("BEGIN")
    second.ask("SELECT 1/0")
    second.send(frontend.parse(b"s", b"SELECT 1"), frontend.SYNC)
    assert errors(second.ready()) == ["25P02"]
    second.ask("ROLLBACK")
    assert prepared_value(second, b"SELECT 1") == b"1"
