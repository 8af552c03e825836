"""The short way to a server: it is taken where it may be, and nobody can tell the difference."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import signal
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import psycopg
import pytest

import heliosproxy
from heliosproxy.effects import Lease, Steps
from tests.dbapi.test_interrupts import leased, wait_until_running


class Watch:
    """Counts who takes the short way and who the long one; recovers from a lost server if it is told to."""

    def __init__(self, recovers: bool = False, concerned: bool = False) -> None:
        self.short = self.long = self.recovered = 0
        self.recovers = recovers
        self.concerned = concerned
        self.formats: list[Any] = []

    def plain(self, session: Any, call: Any, known: Any) -> bool:
        return not self.concerned

    def passing(self, session: Any, call: Any) -> bool:
        self.short += 1
        self.formats.append(call.bound.formats)
        return True

    def sending(self, session: Any, call: Any) -> None:
        self.long += call.kind == "execute"

    def failed(self, session: Any, call: Any, error: BaseException, edge: Any) -> Steps | None:
        lost = isinstance(error, psycopg.OperationalError) and self.recovers
        return self._go_on(session, edge) if lost else None

    def _go_on(self, session: Any, edge: Any) -> Steps:
        broken = session.let_go()
        broken.pool.discard(broken)
        session.take((yield Lease(session.pool)), edge)
        self.recovered += 1
        return True


@pytest.fixture(params=["transaction", "session"])
def watched(request: pytest.FixtureRequest, room: Any) -> Callable[..., Any]:
    def make(watch: Watch, **options: Any) -> Any:
        made = room(request.param, stages=(watch,), **options)
        made.watch = watch
        return made

    return make


def prepared(conn: Any, query: str, params: Any) -> None:
    conn.execute(query, params, prepare=True)


def test_a_prepared_statement_takes_the_short_way_and_gives_its_lease_back(room: Any) -> None:
    made = room("transaction", stages=(watch := Watch(),))
    conn = made.auto()
    prepared(conn, "SELECT %s::int + 1", (1,))
    assert [conn.execute("SELECT %s::int + 1", (n,)).fetchone() for n in (1, 2)] == [(2,), (3,)]
    assert (watch.short, watch.long) == (2, 1)
    assert made.leased == 0


def test_in_a_transaction_the_short_way_keeps_the_lease(room: Any) -> None:
    made = room("transaction", stages=(watch := Watch(),))
    conn = made.connect()
    prepared(conn, "SELECT %s::int", (1,))
    assert conn.execute("SELECT %s::int", (2,)).fetchone() == (2,)
    assert (watch.short, made.leased) == (1, 1)
    conn.rollback()
    assert made.leased == 0
    assert conn.execute("SELECT %s::int", (3,)).fetchone() == (3,)  # with its BEGIN: the long way
    assert watch.short == 1
    conn.rollback()


def test_a_stage_that_is_concerned_sees_every_statement(room: Any) -> None:
    conn = room("transaction", stages=(watch := Watch(concerned=True),)).auto()
    prepared(conn, "SELECT %s::int", (1,))
    conn.execute("SELECT %s::int", (1,))
    assert (watch.short, watch.long) == (0, 2)


def test_an_error_on_the_short_way_is_the_servers_and_the_connection_goes_on(watched: Any) -> None:
    conn = (made := watched(Watch())).auto()
    prepared(conn, "SELECT 1 / %s::int", (1,))
    for _ in range(2):
        with pytest.raises(psycopg.errors.DivisionByZero):
            conn.execute("SELECT 1 / %s::int", (0,))
    assert conn.execute("SELECT 1 / %s::int", (1,)).fetchone() == (1,)
    assert made.watch.short == 3


def test_a_recovery_on_the_short_way_runs_the_statement_again(watched: Any, dsn: str) -> None:
    made = watched(Watch(recovers=True), helios_server_connections=2)
    conn = made.auto()
    query = "SELECT pg_backend_pid(), %s::int"
    pid, _ = conn.execute(query, (0,), prepare=True).fetchone()
    killing = (
        "SELECT pg_terminate_backend(%s) FROM pg_stat_activity WHERE pid = %s AND pid = pg_backend_pid()"
    )
    prepared(conn, killing, (pid + 1, pid + 1))  # of the type that the pid will have
    assert conn.execute(killing, (pid, pid)).fetchall() == []  # the second time there is nobody to kill
    assert (made.watch.short, made.watch.recovered) == (1, 1)
    assert conn.execute(query, (7,)).fetchone()[1] == 7


def test_settings_follow_although_the_statement_is_prepared(one_server: Any) -> None:
    first, second = one_server.auto(), one_server.auto()
    query = "SELECT current_setting('application_name'), %s::int"
    prepared(first, query, (0,))
    second.execute("SET application_name = 'second'")
    for _ in range(2):
        assert second.execute(query, (1,)).fetchone() == ("second", 1)
        assert first.execute(query, (1,)).fetchone() == ("", 1)


def test_ddl_of_another_connection_prepares_anew(one_server: Any) -> None:
    first, second = one_server.auto(), one_server.auto()
    second.execute("DROP TABLE IF EXISTS express; CREATE TABLE express (a int)")
    query = "SELECT * FROM express WHERE a IS NOT DISTINCT FROM %s::int OR true"
    prepared(first, query, (1,))
    assert first.execute(query, (1,)).fetchall() == []
    second.execute("ALTER TABLE express ADD b int")
    second.execute("INSERT INTO express VALUES (1, 2)")
    assert first.execute(query, (1,)).fetchall() == [(1, 2)]
    second.execute("DROP TABLE express")


class Pair(NamedTuple):
    first: int
    second: int


@pytest.mark.parametrize(
    ("query", "params"),
    [
        ("SELECT %s::int, %s::int", (1, 2)),
        ("SELECT %s::int, %s::int", [1, 2]),
        ("SELECT %s::int, %s::int", Pair(1, 2)),
        ("SELECT %(first)s::int, %(second)s::int", {"first": 1, "second": 2}),
        ("SELECT %(second)s::int, %(first)s::int, %(second)s::int", {"first": 1, "second": 2, "third": 3}),
        ("SELECT 1", {}),
        ("SELECT 1", {"first": 1}),
        ("SELECT %b::int, %t::int", (1, 2)),
        ("SELECT 'a%%b', %s::date", (dt.date(2026, 1, 2),)),
        ("SELECT %s::text IS NULL", (None,)),
        ("SELECT 1", ()),
        ("SELECT 1", None),
    ],
)
def test_a_text_that_comes_again_is_converted_as_psycopg_does(
    room: Any, face: Any, dsn: str, query: str, params: Any
) -> None:
    conn = room("transaction").auto()
    with face.plain(dsn, autocommit=True) as stock:
        expected = stock.execute(query, params).fetchall()
    for _ in range(8):
        assert conn.execute(query, params).fetchall() == expected


def test_texts_that_differ_in_formats_alone_keep_theirs(room: Any) -> None:
    made = room("transaction", stages=(watch := Watch(),))
    conn = made.auto()
    for query in ["SELECT %s::int", "SELECT %b::int", "SELECT %t::int"] * 8:
        conn.execute(query, (1,))
    assert watch.short == 18  # the text that the server sees is one, so it is prepared after six
    assert [formats[0] for formats in watch.formats] == [1, 1, 0] * 6


def test_the_number_of_parameters_is_checked_each_time(room: Any) -> None:
    conn = room("transaction").auto()
    for _ in range(8):
        conn.execute("SELECT %s::int", (1,))
    with pytest.raises(psycopg.ProgrammingError, match="1 placeholder"):
        conn.execute("SELECT %s::int", (1, 2))


def test_the_names_of_the_parameters_are_checked_each_time(room: Any) -> None:
    conn = room("transaction").auto()
    for _ in range(8):
        conn.execute("SELECT %(first)s::int", {"first": 1})
    with pytest.raises(psycopg.ProgrammingError, match="first"):
        conn.execute("SELECT %(first)s::int", {"second": 2})
    with pytest.raises(TypeError, match="mapping"):
        conn.execute("SELECT %(first)s::int", (1,))


def test_a_dumper_of_the_connections_own_is_used_on_the_short_way(room: Any) -> None:
    class Loud(psycopg.adapt.Dumper):
        oid = psycopg.adapters.types["text"].oid

        def dump(self, obj: Any) -> bytes:
            return str(obj).upper().encode()

    made = room("transaction")
    loud, quiet = made.auto(), made.auto()
    loud.adapters.register_dumper(str, Loud)
    for _ in range(8):
        assert loud.execute("SELECT %s", ("a",)).fetchone() == ("A",)
        assert quiet.execute("SELECT %s", ("a",)).fetchone() == ("a",)


def test_every_statement_past_the_cache_is_counted_once(room: Any) -> None:
    made = room("transaction", helios_cache=True)
    conn = made.auto()
    conn.execute("DROP TABLE IF EXISTS counted; CREATE TABLE counted (a int)")
    conn.execute("SELECT a FROM counted WHERE a = %s", (1,))  # learns the catalogue
    before = made.proxy.cache.stats()["bypasses"].get("option", 0)
    for number in range(20):
        cursor = conn.execute("SELECT a FROM counted WHERE a = %s", (number,), helios={"cache": False})
        assert (cursor.helios.outcome, cursor.helios.reason, cursor.helios.node) == (
            "bypass",
            "option",
            "primary",
        )
        assert made.proxy.cache.stats()["bypasses"]["option"] == before + number + 1
    conn.execute("DROP TABLE counted")


@pytest.mark.parametrize(
    "options", [{"cache": False, "ttl": 0}, {"cach": False}, ["cache"], {"cache": 0, "x": 1}]
)
def test_a_hint_that_is_not_understood_is_refused_on_either_way(room: Any, options: Any) -> None:
    conn = room("transaction", helios_cache=True).auto()
    for _ in range(8):
        conn.execute("SELECT count(*) FROM pg_class WHERE oid = %s", (1,))
        with pytest.raises(heliosproxy.HeliosError):
            conn.execute("SELECT count(*) FROM pg_class WHERE oid = %s", (1,), helios=options)


def test_a_write_never_passes_as_plain(room: Any) -> None:
    made = room("transaction", helios_cache=True)
    writer, reader = made.auto(), made.auto()
    writer.execute("DROP TABLE IF EXISTS plainly; CREATE TABLE plainly (a int)")
    for number in range(10):
        writer.execute("INSERT INTO plainly VALUES (%s)", (number,), helios={"cache": False})
        assert reader.execute("SELECT count(*) FROM plainly").fetchone() == (number + 1,)
        assert reader.execute("SELECT count(*) FROM plainly").fetchone() == (number + 1,)
    assert made.proxy.cache.stats()["hits"] >= 10
    writer.execute("DROP TABLE plainly")


def test_ctrl_c_on_the_short_way_ends_the_statement(make_proxy: Any, dsn: str) -> None:
    proxy = make_proxy("transaction", helios_server_connections=1)
    with proxy.connect(dsn, autocommit=True) as conn:
        prepared(conn, "SELECT pg_sleep(%s) AS short_ctrl_c", (0,))

        def press() -> None:
            wait_until_running(dsn, "short_ctrl_c")
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=press)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            conn.execute("SELECT pg_sleep(%s) AS short_ctrl_c", (60,))
        thread.join()
        assert leased(proxy) == 0
        assert conn.execute("SELECT 'mine'").fetchone() == ("mine",)


def test_a_task_cancelled_on_the_short_way_leaves_a_clean_connection(make_proxy: Any, dsn: str) -> None:
    proxy = make_proxy("transaction", helios_server_connections=1)

    async def main() -> None:
        async with await proxy.connect_async(dsn, autocommit=True) as conn:
            await conn.execute("SELECT pg_sleep(%s) AS short_cancel", (0,), prepare=True)
            task = asyncio.create_task(conn.execute("SELECT pg_sleep(%s) AS short_cancel", (60,)))
            await asyncio.to_thread(wait_until_running, dsn, "short_cancel")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert leased(proxy) == 0
            assert await (await conn.execute("SELECT 'mine'")).fetchone() == ("mine",)

    asyncio.run(main())


def test_many_threads_on_the_short_way_get_their_own_answers(make_proxy: Any, dsn: str) -> None:
    proxy = make_proxy("transaction", helios_server_connections=3)
    wrong: list[Any] = []

    def work(number: int) -> None:
        with proxy.connect(dsn, autocommit=True) as conn:
            for turn in range(100):
                got = conn.execute("SELECT %s::int, %s::int", (number, turn)).fetchone()
                if got != (number, turn):
                    wrong.append((number, turn, got))

    crew = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    assert not wrong
    assert leased(proxy) == 0
