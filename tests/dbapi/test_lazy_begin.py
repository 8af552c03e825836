"""BEGIN travels with the first statement; what the client sees of a transaction is what psycopg shows."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import IsolationLevel
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus as Status

from heliosproxy.dbapi import attempt
from tests.dbapi.faces import bare


class Relay:
    """Passes bytes between clients and a server, and counts the flights of the clients.

    A flight is what a client sends after the server has spoken.
    """

    def __init__(self, host: str, port: int) -> None:
        self.flights = 0
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._wake, self._waker = socket.socketpair()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        pairs: dict[socket.socket, socket.socket] = {}
        clients: set[socket.socket] = set()
        spoken: set[socket.socket] = set()
        while True:
            for ready in select.select([self._listener, self._wake, *pairs], [], [])[0]:
                if ready is self._wake:
                    for one in (*pairs, self._listener, self._wake):
                        one.close()
                    return
                if ready is self._listener:
                    client, server = self._listener.accept()[0], socket.create_connection(self._server)
                    pairs[client], pairs[server] = server, client
                    clients.add(client)
                    continue
                if ready not in pairs:
                    continue
                data = ready.recv(65536)
                if not data:
                    other = pairs.pop(ready)
                    pairs.pop(other, None)
                    ready.close()
                    other.close()
                    continue
                if ready in clients:
                    self.flights += ready in spoken
                    spoken.discard(ready)
                else:
                    spoken.add(pairs[ready])
                pairs[ready].sendall(data)

    def close(self) -> None:
        self._waker.send(b"x")
        self._thread.join()
        self._waker.close()


@pytest.fixture
def relay(dsn: str) -> Iterator[Relay]:
    given = conninfo_to_dict(dsn)
    made = Relay(given["host"], int(given["port"]))
    yield made
    made.close()


def through(relay: Relay, dsn: str) -> str:
    return make_conninfo(dsn, host="127.0.0.1", port=relay.port, sslmode="disable", gssencmode="disable")


def flights(relay: Relay, work: Any) -> int:
    before = relay.flights
    work()
    return relay.flights - before


@pytest.mark.parametrize("mode", ["transaction", "session_on_path"])
def test_begin_and_statement_are_one_flight_and_commit_another(
    room: Any, relay: Relay, dsn: str, mode: str
) -> None:
    conn = room(mode).connect(through(relay, dsn))
    conn.execute("SELECT 1")
    conn.commit()
    assert flights(relay, lambda: conn.execute("SELECT 2")) == 1
    assert flights(relay, conn.commit) == 1


@pytest.mark.parametrize(("set_", "expected"), [("application_name = 'mine'", 1), ("ROLE lazy_role", 2)])
def test_settings_begin_and_statement_are_one_flight_but_a_role_goes_ahead(
    one_server: Any, monkeypatch: pytest.MonkeyPatch, set_: str, expected: int
) -> None:
    mine, other = one_server.connect(), one_server.connect()
    other.execute("DO $$ BEGIN CREATE ROLE lazy_role; EXCEPTION WHEN duplicate_object THEN END $$")
    other.commit()
    mine.execute(f"SET {set_}")
    mine.commit()
    other.execute("SELECT 1")
    other.commit()
    collect, counted = attempt._collect, []
    monkeypatch.setattr(attempt, "_collect", lambda *args: counted.append(args) or collect(*args))
    mine.execute("SELECT 2")
    assert len(counted) == expected
    mine.rollback()


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_transaction_without_a_statement_never_leaves_the_process(
    room: Any, relay: Relay, dsn: str, end: str
) -> None:
    conn = room("transaction").connect(through(relay, dsn))
    conn.execute("SELECT 1")
    conn.commit()

    def empty() -> None:
        with conn.transaction(force_rollback=end == "rollback"):
            assert conn.info.transaction_status == Status.INTRANS
        getattr(conn, end)()

    assert flights(relay, empty) == 0
    assert conn.info.transaction_status == Status.IDLE


def test_a_promised_transaction_begins_with_its_first_statement(room: Any) -> None:
    here = room("transaction")
    conn = here.auto()
    with conn.transaction():
        assert here.leased == 0
        with conn.transaction() as inner:
            assert conn.execute("SELECT 1").fetchone() == (1,)
            assert here.leased == 1
            raise psycopg.Rollback(bare(inner))
        assert conn.info.transaction_status == Status.INTRANS
    assert here.leased == 0


FAILING = ["SELECT 1, missing", "SELEC", "SELECT 1; SELECT missing", "INSERT INTO nowhere VALUES (1)"]


@pytest.mark.parametrize("text", FAILING)
def test_errors_point_at_the_same_place_as_psycopg_s(room: Any, face: Any, dsn: str, text: str) -> None:
    positions = []
    with face.plain(dsn) as plain:
        for conn in (room("transaction").connect(), plain):
            with pytest.raises(psycopg.Error) as caught:
                conn.execute(text)
            positions.append((caught.value.diag.statement_position, caught.value.sqlstate, str(caught.value)))
            conn.rollback()
    assert positions[0] == positions[1]


@pytest.mark.parametrize("mode", ["transaction", "session_on_path"])
def test_the_setters_change_the_next_transaction_and_are_refused_inside_one(room: Any, mode: str) -> None:
    conn = room(mode).connect()
    conn.isolation_level = IsolationLevel.SERIALIZABLE
    conn.read_only = True
    conn.deferrable = True
    shown = "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')"
    assert conn.execute(shown).fetchone() == ("serializable", "on")
    assert conn.execute("SHOW transaction_deferrable").fetchone() == ("on",)
    for name, value in (("isolation_level", None), ("read_only", None), ("autocommit", True)):
        with pytest.raises(psycopg.ProgrammingError):
            setattr(conn, name, value)
    conn.rollback()
    conn.isolation_level = conn.read_only = conn.deferrable = None
    assert conn.execute(shown).fetchone() == ("read committed", "off")
    conn.rollback()


def test_the_setters_are_refused_in_a_promised_transaction(room: Any) -> None:
    conn = room("transaction").auto()
    with conn.transaction(), pytest.raises(psycopg.ProgrammingError):
        conn.read_only = True


def test_set_transaction_behind_a_cache_hit_fails_as_behind_any_query(room: Any, dsn: str) -> None:
    conn = room("transaction", helios_cache=True).connect()
    conn.execute("CREATE TABLE IF NOT EXISTS cached (n int)")
    conn.commit()
    for _ in range(3):
        cursor = conn.execute("SELECT n FROM cached")
        conn.commit()
    assert cursor.helios.outcome == "hit"
    conn.execute("SELECT n FROM cached")
    assert conn.info.transaction_status == Status.INTRANS
    with pytest.raises(psycopg.errors.ActiveSqlTransaction):
        conn.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
    conn.rollback()


@pytest.mark.parametrize("first", ["COPY (SELECT 1) TO STDOUT", "SELECT 1; SELECT 2", "VACUUM"])
def test_what_travels_alone_has_its_begin_as_well(room: Any, first: str) -> None:
    conn = room("transaction").connect()
    if first.startswith("COPY"):
        with conn.cursor().copy(first) as copy:
            assert [bytes(data) for data in copy] == [b"1\n"]
    elif first == "VACUUM":
        with pytest.raises(psycopg.errors.ActiveSqlTransaction):
            conn.execute(first)
    else:
        conn.execute(first)
    assert conn.info.transaction_status == (Status.INERROR if first == "VACUUM" else Status.INTRANS)
    conn.rollback()


def test_a_prepared_transaction_is_committed_from_any_server_connection(room: Any) -> None:
    here = room("transaction")
    conn, other = here.connect(), here.connect()
    conn.execute("CREATE TABLE IF NOT EXISTS phases (n int)")
    conn.commit()
    xid = conn.xid(1, "two-phase", "branch")
    conn.tpc_begin(xid)
    conn.execute("INSERT INTO phases VALUES (1)")
    conn.tpc_prepare()
    assert here.leased == 0
    other.execute("SELECT 1")
    conn.tpc_commit()
    other.rollback()
    assert conn.execute("SELECT count(*) > 0 FROM phases").fetchone() == (True,)
    conn.rollback()
    assert [str(one) for one in conn.tpc_recover()] == []


def test_statement_mode_has_no_transactions(room: Any) -> None:
    conn = room("statement").connect()
    assert conn.autocommit
    for text in ("BEGIN", "START TRANSACTION", "PREPARE TRANSACTION 'x'"):
        with pytest.raises(psycopg.NotSupportedError):
            conn.execute(text)
    with pytest.raises(psycopg.NotSupportedError):
        conn.autocommit = False
    with pytest.raises(psycopg.NotSupportedError), conn.transaction():
        pass
    assert conn.execute("SELECT 1").fetchone() == (1,)


def test_statement_mode_refuses_begin_among_several_statements(room: Any) -> None:
    here = room("statement")
    conn = here.connect()
    try:
        with pytest.raises(psycopg.NotSupportedError):
            conn.execute("BEGIN; SELECT 1")
    finally:
        conn.rollback()
