"""What clients hear by the one connection that listens: nothing lost, doubled, early, or in the middle."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import psycopg
import pytest

from heliosproxy.server.listen import audience
from heliosproxy.server.protocol import frontend
from tests.server.conftest import Served
from tests.server.hearing import KILL, OURS, Conn, Words, ask, heard, notifications, until
from tests.server.test_pooling import login


def test_a_transaction_that_listens_hears_what_it_says(one_server: Served) -> None:
    conn = one_server.connect()
    with conn.transaction():
        conn.execute("LISTEN a")
        conn.execute("NOTIFY a, 'x'")
    (notify,) = conn.notifies(timeout=10, stop_after=1)
    assert (notify.payload, notify.pid) == ("x", conn.info.backend_pid)


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
