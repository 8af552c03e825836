"""LISTEN in transaction mode: one listening connection for all, and nothing lost, doubled or early."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import generators, pq, waiting

from heliosproxy.embedded import Cluster
from heliosproxy.server.listen import audience
from heliosproxy.server.protocol import frontend
from tests.server.conftest import Served
from tests.server.test_pooling import login

Conn = psycopg.Connection[Any]


def heard(conn: Conn, count: int = 1, timeout: float = 10) -> list[tuple[str, str]]:
    """The next *count* notifications, or as many as come in time."""
    return [(n.channel, n.payload) for n in conn.notifies(timeout=timeout, stop_after=count)]


def silent(server: Served, conn: Conn) -> bool:
    """Whether *conn* hears nothing: a last notification on a channel of its own comes first."""
    conn.execute("LISTEN last_of_all")
    server.direct().execute("NOTIFY last_of_all")
    return heard(conn) == [("last_of_all", "")]


class Words:
    """What is said to *conn* unasked: for libpq, an error while nothing is asked is a notice."""

    def __init__(self, conn: Conn) -> None:
        self._conn = conn
        self._told: list[tuple[str | None, str | None]] = []
        conn.add_notice_handler(lambda diag: self._told.append((diag.sqlstate, diag.message_primary)))

    def last(self) -> tuple[str | None, str | None]:
        """With what it is hung up on."""
        with pytest.raises(psycopg.OperationalError):
            for _ in self._conn.notifies(timeout=10):
                pass
        return self._told[-1]


def until(direct: Conn, query: str, *parameters: Any) -> None:
    """Wait, within limits, until *query* says true."""
    for _ in range(1000):
        row = direct.execute(query, parameters).fetchone()
        if row == (True,):
            return
        direct.execute("SELECT pg_sleep(0.01)")
    pytest.fail(f"not within 10 seconds: {query}")


@pytest.fixture
def direct(one_server: Served) -> Conn:
    """A connection past the proxy."""
    return one_server.direct()


def test_fifty_listen_with_one_server_connection(one_server: Served) -> None:
    clients = [one_server.connect() for _ in range(50)]
    for number, client in enumerate(clients):
        client.execute("LISTEN everybody")
        client.execute(f"LISTEN mine_{number}")
    sender = one_server.connect()
    sender.execute("NOTIFY everybody, 'all'")
    for number in range(50):
        sender.execute(f"NOTIFY mine_{number}, '{number}'")
    for number, client in enumerate(clients):
        assert heard(client, 2) == [("everybody", "all"), (f"mine_{number}", str(number))]
    assert one_server.pool["pool_size"] == 1
    assert one_server.settles(0)


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_listen_holds_no_server_connection(served: Callable[..., Served], mode: str) -> None:
    server = served(mode, helios_server_connections=1)
    conn = server.connect()
    assert conn.execute("LISTEN a").statusmessage == "LISTEN"
    assert server.settles(0)
    server.direct().execute("NOTIFY a, 'x'")
    assert heard(conn) == [("a", "x")]


@pytest.mark.parametrize("prepare", [None, True])
def test_listen_by_the_extended_protocol(one_server: Served, direct: Conn, prepare: bool | None) -> None:
    conn = one_server.connect()
    for _ in range(3):
        conn.execute("LISTEN a", binary=True, prepare=prepare)
    assert one_server.settles(0)
    direct.execute("NOTIFY a, 'x'")
    direct.execute("NOTIFY a, 'y'")
    assert heard(conn, 2) == [("a", "x"), ("a", "y")]
    conn.execute("UNLISTEN a", binary=True, prepare=prepare)
    direct.execute("NOTIFY a")
    assert silent(one_server, conn)


def test_listen_in_a_batch_without_sync_still_pins(one_server: Served, direct: Conn) -> None:
    conn = one_server.connect()
    with conn.pipeline():
        conn.execute("LISTEN a")
        conn.execute("SELECT 1")
    direct.execute("NOTIFY a, 'x'")
    assert heard(conn) == [("a", "x")]


def test_what_notify_says_after_listen_is_heard(one_server: Served, direct: Conn) -> None:
    for number in range(20):
        conn = one_server.connect()
        conn.execute(f"LISTEN race_{number}")
        direct.execute(f"NOTIFY race_{number}")
        assert heard(conn) == [(f"race_{number}", "")]


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
@pytest.mark.parametrize("first", ["", "SELECT 1"])
def test_listen_takes_effect_at_commit(one_server: Served, direct: Conn, end: str, first: str) -> None:
    conn = one_server.connect()
    conn.execute("BEGIN")
    if first:
        conn.execute(first)
    conn.execute("LISTEN a")
    conn.execute(end)
    direct.execute("NOTIFY a, 'x'")
    if end == "COMMIT":
        assert heard(conn) == [("a", "x")]
    else:
        assert silent(one_server, conn)
    assert one_server.settles(0)


def test_a_transaction_that_listens_hears_what_it_says(one_server: Served) -> None:
    conn = one_server.connect()
    with conn.transaction():
        conn.execute("LISTEN a")
        conn.execute("NOTIFY a, 'x'")
    (notify,) = conn.notifies(timeout=10, stop_after=1)
    assert (notify.payload, notify.pid) == ("x", conn.info.backend_pid)


def test_rollback_to_a_savepoint_undoes_listen_and_unlisten(one_server: Served, direct: Conn) -> None:
    conn = one_server.connect()
    conn.execute("LISTEN kept")
    conn.execute("BEGIN; SAVEPOINT before")
    conn.execute("LISTEN a")
    conn.execute("UNLISTEN kept")
    conn.execute("ROLLBACK TO before")
    conn.execute("LISTEN b")
    conn.execute("RELEASE before")
    conn.execute("COMMIT")
    for channel in ("a", "b", "kept"):
        direct.execute(f"NOTIFY {channel}")
    assert heard(conn, 2) == [("b", ""), ("kept", "")]


def test_a_savepoint_before_the_first_listen_of_all(one_server: Served, direct: Conn) -> None:
    conn = one_server.connect()
    conn.execute("BEGIN")
    conn.execute("SAVEPOINT before")
    conn.execute("LISTEN a")
    conn.execute("ROLLBACK TO before")
    conn.execute("COMMIT")
    direct.execute("NOTIFY a")
    assert silent(one_server, conn)


def test_listen_in_a_failed_transaction_fails(one_server: Served) -> None:
    conn = one_server.connect(autocommit=False)
    with pytest.raises(psycopg.errors.DivisionByZero):
        conn.execute("SELECT 1/0")
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        conn.execute("LISTEN a")
    conn.rollback()


def test_a_commit_that_fails_does_not_listen(one_server: Served, direct: Conn) -> None:
    direct.execute("DROP TABLE IF EXISTS late")
    direct.execute("CREATE TABLE late (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    conn = one_server.connect()
    conn.execute("BEGIN")
    conn.execute("LISTEN a")
    conn.execute("INSERT INTO late VALUES (1), (1)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        conn.execute("COMMIT")
    direct.execute("NOTIFY a")
    assert silent(one_server, conn)


def test_a_transaction_that_listens_cannot_be_prepared(one_server: Served) -> None:
    conn = one_server.connect()
    conn.execute("BEGIN")
    conn.execute("LISTEN a")
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="executed LISTEN"):
        conn.execute("PREPARE TRANSACTION 'x'")
    conn.execute("ROLLBACK")


@pytest.mark.parametrize("end", ["UNLISTEN a", "UNLISTEN *", "DISCARD ALL", "BEGIN; UNLISTEN a; COMMIT"])
def test_what_is_unlistened_is_not_heard(one_server: Served, direct: Conn, end: str) -> None:
    conn, other = one_server.connect(), one_server.connect()
    conn.execute("LISTEN a")
    other.execute("LISTEN a")
    conn.execute(end)
    direct.execute("NOTIFY a")
    assert heard(other) == [("a", "")]
    assert silent(one_server, conn)
    assert one_server.settles(0)


def test_notifications_wait_for_the_end_of_the_transaction(one_server: Served, direct: Conn) -> None:
    with login(one_server) as sock:
        ask(sock, b"LISTEN a")
        ask(sock, b"BEGIN")
        ask(sock, b"SELECT 1")
        for number in range(100):
            direct.execute(f"NOTIFY a, '{number}'")
        answer = ask(sock, b"SELECT pg_sleep(0.2)", status=b"T")
        assert b"A\0\0\0" not in answer
        sock.sendall(frontend.query(b"COMMIT"))
        rest = b""
        while b"\x0099\0" not in rest:
            rest += sock.recv(4096)
    assert rest.startswith(b"C\0\0\0\x0bCOMMIT\0Z\0\0\0\5IA")
    assert [payload for _, payload in notifications(rest)] == [b"%d" % n for n in range(100)]


def test_a_client_that_always_has_something_to_ask_hears_in_between(one_server: Served, direct: Conn) -> None:
    with login(one_server) as sock:
        ask(sock, b"LISTEN a")
        direct.execute("NOTIFY a, 'x'")
        sock.sendall(b"".join(frontend.query(b"SELECT pg_sleep(0.05)") for _ in range(20)))
        answer = b""
        while answer.count(b"Z\0\0\0\5I") < 20:
            answer += sock.recv(4096)
    before, _, after = answer.partition(b"A\0\0\0")
    assert after
    assert before.count(b"Z\0\0\0\5I") < 20


def ask(sock: socket.socket, text: bytes, status: bytes = b"") -> bytes:
    """The answer to a Query."""
    sock.sendall(frontend.query(text))
    answer = b""
    while not answer.endswith(b"Z\0\0\0\5" + (status or answer[-1:])) or answer[-6:-5] != b"Z":
        answer += sock.recv(4096)
    return answer


def notifications(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(data):
        end = at + 1 + int.from_bytes(data[at + 1 : at + 5], "big")
        if data[at] == ord("A"):
            channel, payload, _ = data[at + 9 : end].split(b"\0")
            yield channel, payload
        at = end


@pytest.mark.parametrize("how", ["NOTIFY a, 'x'", "SELECT pg_notify('a', 'x')", "parameters", "transaction"])
def test_own_notifications_have_the_own_number(one_server: Served, how: str) -> None:
    conn, other = one_server.connect(), one_server.connect()
    for each in (conn, other):
        each.execute("LISTEN a")
    for _ in range(2):
        if how == "parameters":
            conn.execute("SELECT pg_notify(%s, %s)", ("a", "x"))
        elif how == "transaction":
            with conn.transaction():
                conn.execute("NOTIFY a, 'x'")
                conn.execute("NOTIFY a, 'x'")
        else:
            conn.execute(how)
        (mine,) = conn.notifies(timeout=10, stop_after=1)
        (theirs,) = other.notifies(timeout=10, stop_after=1)
        assert (mine.pid, mine.payload) == (conn.info.backend_pid, "x")
        assert theirs.pid != other.info.backend_pid
        # The same words from the same server connection, and not its own.
        other.execute("NOTIFY a, 'x'")
        (mine,) = conn.notifies(timeout=10, stop_after=1)
        (theirs,) = other.notifies(timeout=10, stop_after=1)
        assert mine.pid != conn.info.backend_pid
        assert theirs.pid == other.info.backend_pid


def test_a_notify_that_was_rolled_back_is_nobodys(one_server: Served) -> None:
    conn, other = one_server.connect(), one_server.connect()
    conn.execute("LISTEN a")
    conn.execute("BEGIN")
    conn.execute("NOTIFY a, 'x'")
    conn.execute("ROLLBACK")
    other.execute("NOTIFY a, 'x'")
    (notify,) = conn.notifies(timeout=10, stop_after=1)
    assert notify.pid != conn.info.backend_pid


NAMES = {
    "Folded": "folded",
    '"Not Folded"': "Not Folded",
    '"with ""quotes"""': 'with "quotes"',
    "größe": "größe",
}


@pytest.mark.parametrize("written", NAMES)
def test_names_of_channels(one_server: Served, direct: Conn, written: str) -> None:
    conn = one_server.connect()
    conn.execute(f"LISTEN {written}")
    direct.execute("SELECT pg_notify(%s, 'grün')", (NAMES[written],))
    assert heard(conn) == [(NAMES[written], "grün")]
    conn.execute(f"UNLISTEN {written}")
    direct.execute("SELECT pg_notify(%s, '')", (NAMES[written],))
    assert silent(one_server, conn)


def test_a_name_that_is_too_long_is_cut_by_the_server(one_server: Served, direct: Conn) -> None:
    conn = one_server.connect()
    told: list[Any] = []
    conn.add_notice_handler(lambda diag: told.append(diag.sqlstate))
    conn.execute(f"LISTEN {'x' * 80}")
    direct.execute(f"NOTIFY {'x' * 63}")
    assert heard(conn) == [("x" * 63, "")]
    assert told == ["42622"]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_client_of_another_encoding(one_server: Served, direct: Conn, moment: str) -> None:
    conn = one_server.connect()
    words = Words(conn)
    if moment == "before":
        conn.execute("SET client_encoding TO latin1")
    conn.execute("LISTEN größe")
    conn.execute("SET client_encoding TO latin1")
    direct.execute("NOTIFY größe, 'grün'")
    assert heard(conn) == [("größe", "grün")]
    if moment == "after":
        direct.execute("NOTIFY größe, '漢'")
        assert words.last() == ("22P05", "a notification has no equivalent in the client_encoding")


def test_listen_among_others_pins_and_is_heard_once(one_server: Served, direct: Conn) -> None:
    conn = one_server.connect()
    conn.execute("LISTEN a")
    conn.execute("LISTEN a; LISTEN b; SELECT 1")
    for channel in ("a", "b"):
        direct.execute(f"NOTIFY {channel}")
    assert sorted(heard(conn, 2)) == [("a", ""), ("b", "")]
    conn.execute("UNLISTEN *")
    assert one_server.settles(0)
    for channel in ("a", "b"):
        direct.execute(f"NOTIFY {channel}")
    assert silent(one_server, conn)


def test_session_mode_does_as_ever(served: Callable[..., Served]) -> None:
    server = served("session")
    conn = server.connect()
    conn.execute("LISTEN a")
    conn.execute("NOTIFY a, 'x'")
    (notify,) = conn.notifies(timeout=10, stop_after=1)
    assert notify.pid == conn.info.backend_pid
    row = (
        server.direct()
        .execute("SELECT count(*) FROM pg_stat_activity WHERE query = 'LISTEN \"a\"'")
        .fetchone()
    )
    assert row == (0,)


OURS = """SELECT count(*) = %s FROM pg_stat_activity WHERE query LIKE 'LISTEN "helios%%'"""


def test_the_connection_is_closed_when_nobody_listens(one_server: Served, direct: Conn) -> None:
    first, second = one_server.connect(), one_server.connect()
    first.execute("LISTEN helios_a")
    second.execute("LISTEN helios_b")
    until(direct, OURS, 1)
    first.execute("UNLISTEN *")
    second.close()
    until(direct, OURS, 0)
    first.execute("LISTEN helios_a")
    direct.execute("NOTIFY helios_a")
    assert heard(first) == [("helios_a", "")]


KILL = """SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE query LIKE 'LISTEN "helios%'"""


@pytest.mark.parametrize("moment", ["idle", "transaction"])
def test_who_may_have_missed_something_is_hung_up_on(one_server: Served, direct: Conn, moment: str) -> None:
    conn, other = one_server.connect(), one_server.connect()
    words = Words(conn)
    conn.execute("LISTEN helios_a")
    if moment == "transaction":
        conn.execute("BEGIN")
        conn.execute("SELECT 1")
    assert direct.execute(KILL).fetchone() == (True,)
    if moment == "transaction":
        conn.execute("COMMIT")
    assert words.last() == ("57P01", "the listening connection was lost; notifications may have been missed")
    assert other.execute("SELECT 1").fetchone() == (1,)
    other.execute("LISTEN helios_a")
    direct.execute("NOTIFY helios_a")
    assert heard(other) == [("helios_a", "")]


def test_what_waits_is_bounded(one_server: Served, direct: Conn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audience, "ROOM", 10_000)
    conn, other = one_server.connect(), one_server.connect()
    words = Words(conn)
    for each in (conn, other):
        each.execute("LISTEN a")
    conn.execute("BEGIN")
    conn.execute("SELECT 1")
    for number in range(20):
        direct.execute("SELECT pg_notify('a', repeat('x', 1000) || %s::text)", (number,))
    assert len(heard(other, 20)) == 20
    conn.execute("COMMIT")
    assert words.last() == (
        "54000",
        "too many notifications wait for the end of a transaction; some are lost",
    )


def test_who_reads_slowly_misses_nothing(one_server: Served, direct: Conn) -> None:
    with login(one_server) as sock:
        ask(sock, b"LISTEN a")
        tell_much(direct)
        assert read_much(sock) == list(range(200))


def test_who_does_not_read_is_hung_up_on(
    one_server: Served, direct: Conn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audience, "ROOM", 10_000)
    other = one_server.connect()
    other.execute("LISTEN a")
    with login(one_server) as sock:
        ask(sock, b"LISTEN a")
        for number in range(200):
            tell_much(direct, number, 1)
            assert len(heard(other, 1)) == 1
        numbers = read_much(sock)
    assert 0 < len(numbers) < 200
    assert numbers == list(range(len(numbers)))


def tell_much(direct: Conn, first: int = 0, count: int = 200) -> None:
    """Notifications of the largest payloads: 200 of them are more than the buffers of a socket hold."""
    for number in range(first, first + count):
        direct.execute("SELECT pg_notify('a', lpad(%s::text, 7900))", (number,))


def read_much(sock: socket.socket) -> list[int]:
    """The numbers of those that arrive whole, up to the last of 200, or to the end."""
    size, answer = 12 + 7900, b""
    while len(answer) < 200 * size:
        try:
            data = sock.recv(1 << 20)
        except ConnectionError:
            break
        if not data:
            break
        answer += data
    return [int(payload) for _, payload in notifications(answer[: len(answer) // size * size])]


def test_without_a_listening_connection_listen_pins(one_server: Served, direct: Conn) -> None:
    async def refused() -> Any:
        raise psycopg.OperationalError("sorry, too many clients already")

    conn, other = one_server.connect(), one_server.connect()
    (home,) = one_server.serving._service._homes.values()
    home.listener._connect = refused
    conn.execute("LISTEN a")
    assert one_server.settles(1)
    direct.execute("NOTIFY a, 'x'")
    assert heard(conn) == [("a", "x")]
    conn.execute("UNLISTEN *")
    assert other.execute("SELECT 1").fetchone() == (1,)


def test_a_standby_says_itself_that_it_cannot_listen(
    replicated_cluster: Cluster,
) -> None:
    server = Served(
        replicated_cluster.replicas[0].dsn, helios_mode="transaction", helios_server_connections=1
    )
    conn = server.connect()
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction, match="LISTEN"):
        conn.execute("LISTEN a")
    assert conn.execute("SELECT 1").fetchone() == (1,)
    conn.execute("BEGIN")
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction, match="LISTEN"):
        conn.execute("LISTEN a")
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        conn.execute("SELECT 1")
    conn.execute("ROLLBACK")
    server.close()


def test_a_client_that_goes_while_it_waits_leaves_nothing(one_server: Served, direct: Conn) -> None:
    for _ in range(20):
        conn = one_server.connect()
        conn.pgconn.send_query(b"LISTEN helios_gone")
        conn.pgconn.flush()
        conn.pgconn.finish()
    until(direct, OURS, 0)
    assert one_server.connect().execute("SELECT 1").fetchone() == (1,)


def test_who_comes_while_others_go_hears_what_follows(served: Callable[..., Served]) -> None:
    """The channel, and the connection, lose their last listener again and again."""
    server = served(helios_server_connections=2)
    missed: list[str] = []

    def work(number: int) -> None:
        with psycopg.connect(server.url, autocommit=True) as conn:
            for turn in range(25):
                word = f"{number}/{turn}"
                conn.execute("LISTEN busy")
                conn.execute("SELECT pg_notify('busy', %s)", (word,))
                for notify in conn.notifies(timeout=10):
                    if notify.payload == word:
                        if notify.pid != conn.info.backend_pid:
                            missed.append(f"{word} is not its own")
                        break
                else:
                    missed.append(word)
                conn.execute("UNLISTEN busy")

    crew = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    assert missed == []


def test_a_line_that_dies_again_and_again_is_told_each_time(one_server: Served, direct: Conn) -> None:
    """Between the death of the connection and the next LISTEN nobody believes that he listens."""
    for number in range(10):
        conn = one_server.connect()
        words = Words(conn)
        conn.execute("LISTEN helios_a")
        direct.execute(KILL)
        assert words.last()[0] == "57P01"
        other = one_server.connect()
        other.execute("LISTEN helios_a")
        direct.execute("SELECT pg_notify('helios_a', %s::text)", (number,))
        assert heard(other) == [("helios_a", str(number))]
        other.close()
        until(direct, OURS, 0)


def test_a_transaction_that_is_lost_while_its_listen_waits(one_server: Served, direct: Conn) -> None:
    conn = one_server.connect(autocommit=False)
    row = conn.execute("SELECT pg_backend_pid()").fetchone()
    (home,) = one_server.serving._service._homes.values()
    connect, gate = home.listener._connect, threading.Event()

    async def late() -> Any:
        while not gate.is_set():
            await asyncio.sleep(0.001)
        return await connect()

    home.listener._connect = late
    conn.pgconn.send_query(b"LISTEN a")
    conn.pgconn.flush()
    direct.execute("SELECT pg_terminate_backend(%s, 10000)", row)
    assert one_server.settles(0)
    gate.set()
    (result,) = waiting.wait(generators.execute(conn.pgconn), conn.pgconn.socket)
    assert result.error_field(pq.DiagnosticField.SQLSTATE) == b"25P02"
    conn.rollback()
    direct.execute("NOTIFY a")
    conn.autocommit = True
    assert silent(one_server, conn)


def test_the_status_is_that_of_the_transaction(one_server: Served) -> None:
    conn = one_server.connect()
    conn.execute("BEGIN")
    conn.execute("LISTEN a")
    assert conn.info.transaction_status is pq.TransactionStatus.INTRANS
    conn.execute("COMMIT")
    assert conn.info.transaction_status is pq.TransactionStatus.IDLE
