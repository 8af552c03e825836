"""Many clients on few server connections: nobody sees what another has left, and nothing leaks."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

import psycopg
import pytest
from psycopg import generators, pq, waiting

from heliosproxy.embedded.home import wait_until
from heliosproxy.server import home
from heliosproxy.server.protocol import frontend
from tests.server.conftest import Served


def test_a_login_keeps_no_server_connection(served: Callable[..., Served]) -> None:
    server = served(helios_server_connections=2)
    clients = [server.connect() for _ in range(50)]
    assert server.settles(0)
    for client in clients:
        client.execute("SELECT 1")
    assert server.pool["pool_size"] <= 2


def test_clients_wait_for_their_turn(one_server: Served) -> None:
    total = []

    def work(number: int) -> None:
        with psycopg.connect(one_server.url, autocommit=True) as conn:
            for turn in range(30):
                row = conn.execute("SELECT %s::int, %s::int", (number, turn)).fetchone()
                total.append(row == (number, turn))

    crew = [threading.Thread(target=work, args=(number,)) for number in range(10)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    assert total == [True] * 300
    assert one_server.pool["pool_size"] == 1


def test_who_waits_too_long_is_told_what_for(served: Callable[..., Served]) -> None:
    server = served(helios_server_connections=1, helios_pool_timeout=0.2)
    holder, waiter = server.connect(autocommit=False), server.connect()
    holder.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="pool") as raised:
        waiter.execute("SELECT 2")
    assert raised.value.sqlstate == "53300"
    holder.rollback()
    assert waiter.execute("SELECT 3").fetchone() == (3,)


def test_a_cancel_request_ends_the_wait_for_a_server_connection(one_server: Served) -> None:
    holder, waiter = one_server.connect(autocommit=False), one_server.connect()
    holder.execute("SELECT 1")
    ended: list[str] = []

    def wait() -> None:
        with pytest.raises(psycopg.errors.QueryCanceled):
            waiter.execute("SELECT 2")
        ended.append("cancelled")

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(lambda: one_server.pool["requests_waiting"] == 1, 10, "it waits")
    waiter.cancel_safe()
    thread.join(20)
    assert ended == ["cancelled"]
    assert not one_server.pool["requests_waiting"]
    holder.rollback()
    assert waiter.execute("SELECT 3").fetchone() == (3,)


def test_a_cancel_request_holds_its_server_connection_from_the_first_moment(one_server: Served) -> None:
    one_server.connect().execute("SELECT 1")
    serving, held = one_server.serving, threading.Event()

    def cancel() -> None:  # nothing else runs in the loop meanwhile, no task either
        (home,) = serving._service.homes.values()
        (upstream,) = home.upstreams
        serving._service.cancel_on(upstream)
        if upstream.cancels == 1:
            held.set()

    serving._loop.call_soon_threadsafe(cancel)
    assert held.wait(10)


def test_a_transaction_for_which_there_is_no_server_connection_has_failed(
    served: Callable[..., Served],
) -> None:
    server = served(helios_server_connections=1, helios_pool_timeout=0.2)
    holder, client = server.connect(autocommit=False), server.connect()
    holder.execute("SELECT 1")
    client.execute("BEGIN")
    with pytest.raises(psycopg.OperationalError, match="pool"):
        client.execute("SELECT 1")
    assert client.info.transaction_status == pq.TransactionStatus.INERROR
    holder.close()
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        client.execute("SELECT 2")
    client.execute("ROLLBACK")
    assert client.execute("SELECT 3").fetchone() == (3,)


def test_a_failed_transaction_is_not_answered_from_the_cache(served: Callable[..., Served]) -> None:
    client = served(helios_cache=True).connect()
    client.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
    for _ in range(2):  # the second time all of it goes the short way
        client.execute("BEGIN")
        client.execute("SELECT random()")
        client.execute("SELECT n FROM kept")
        with pytest.raises(psycopg.errors.DivisionByZero):
            client.execute("SELECT 1/0")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            client.execute("SELECT n FROM kept")
        client.execute("ROLLBACK")


def test_who_waits_is_told_so(served: Callable[..., Served], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "PATIENCE", 0.05)
    server = served(helios_server_connections=1, helios_pool_timeout=30)
    holder, waiter = server.connect(autocommit=False), server.connect()
    told: list[str] = []
    waiter.add_notice_handler(lambda diag: told.append(str(diag.message_primary)))
    holder.execute("SELECT 1")

    def release() -> None:
        holder.execute("SELECT pg_sleep(0.5)")
        holder.rollback()

    thread = threading.Thread(target=release)
    thread.start()
    assert waiter.execute("SELECT 2").fetchone() == (2,)
    thread.join()
    assert len(told) == 1
    assert "waiting for a server connection of pool" in told[0]


def test_a_temporary_table_stays_with_its_client(served: Callable[..., Served]) -> None:
    server = served(helios_server_connections=2)
    owner, other = server.connect(), server.connect()
    owner.execute("CREATE TEMP TABLE private (n int)")
    assert owner.execute("SELECT count(*) FROM private").fetchone() == (0,)
    for _ in range(3):
        with pytest.raises(psycopg.errors.UndefinedTable):
            other.execute("SELECT * FROM private")
    owner.close()
    assert server.settles(0)
    for _ in range(3):
        with pytest.raises(psycopg.errors.UndefinedTable):
            server.connect().execute("SELECT * FROM private")


def test_an_advisory_lock_is_released_with_its_client(served: Callable[..., Served]) -> None:
    server = served(helios_server_connections=2)
    owner, other = server.connect(), server.connect()
    owner.execute("SELECT pg_advisory_lock(7)")
    assert other.execute("SELECT pg_try_advisory_lock(7)").fetchone() == (False,)
    owner.close()
    other.execute("SELECT pg_advisory_lock(7)")


def test_a_client_that_goes_in_its_transaction_is_rolled_back(served: Callable[..., Served]) -> None:
    server = served(helios_server_connections=2)
    other = server.connect()
    other.execute("DROP TABLE IF EXISTS gone; CREATE TABLE gone (n int)")
    conn = server.connect(autocommit=False)
    conn.execute("INSERT INTO gone VALUES (1)")
    conn.pgconn.finish()
    assert server.settles(0)
    assert other.execute("SELECT count(*) FROM gone").fetchone() == (0,)


def test_a_client_that_goes_in_the_middle_of_a_statement(served: Callable[..., Served]) -> None:
    server = served(helios_server_connections=2)
    conn = server.connect()
    conn.pgconn.send_query(b"SELECT generate_series(1, 10000000)")
    conn.pgconn.flush()
    conn.pgconn.finish()
    assert server.settles(0)
    assert server.connect().execute("SELECT 1").fetchone() == (1,)


def test_a_client_that_goes_in_the_middle_of_a_copy(served: Callable[..., Served]) -> None:
    server = served(helios_server_connections=2)
    other = server.connect()
    other.execute("DROP TABLE IF EXISTS half; CREATE TABLE half (n int)")
    conn = server.connect()
    assert conn.pgconn.exec_(b"COPY half FROM STDIN").status == pq.ExecStatus.COPY_IN
    conn.pgconn.put_copy_data(b"1\n")
    conn.pgconn.finish()
    assert server.settles(0)
    assert other.execute("SELECT count(*) FROM half").fetchone() == (0,)


@pytest.mark.parametrize("moment", ["idle", "transaction", "statement"])
def test_a_server_connection_that_dies(served: Callable[..., Served], moment: str) -> None:
    server = served(helios_server_connections=2)
    conn, direct = server.connect(autocommit=moment != "transaction"), server.direct()
    (pid,) = conn.execute("SELECT pg_backend_pid()").fetchone()
    if moment == "statement":
        killer = threading.Thread(target=_kill_when_active, args=(server.dsn, pid))
        killer.start()
        with pytest.raises(psycopg.OperationalError) as raised:
            conn.execute("SELECT pg_sleep(60)")
        killer.join()
        assert raised.value.sqlstate == "57P01"
    else:
        direct.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))
    if moment == "transaction":
        with pytest.raises(psycopg.errors.InFailedSqlTransaction, match="lost with its server connection"):
            conn.execute("SELECT 1")
        conn.rollback()
    assert conn.execute("SELECT 1").fetchone() == (1,)


def _kill_when_active(dsn: str, pid: int) -> None:
    with psycopg.connect(dsn, autocommit=True) as direct:
        active = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'"
        while direct.execute(active, (pid,)).fetchone() == (0,):
            pass
        direct.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))


def test_what_ends_a_client_takes_the_unnamed_statement_away(one_server: Served) -> None:
    for number in range(8):
        conn = one_server.connect(autocommit=False)
        for _ in range(2):
            assert conn.execute("SELECT %s::int + 1", (number,), prepare=False).fetchone() == (number + 1,)
        conn.close()  # in its transaction: a ROLLBACK of ours follows


def test_statement_mode_refuses_transactions(served: Callable[..., Served]) -> None:
    conn = served("statement").connect()
    with pytest.raises(psycopg.NotSupportedError, match="statement mode"):
        conn.execute("BEGIN")
    assert conn.execute("SELECT 1").fetchone() == (1,)


def test_begin_alone_asks_no_server(served: Callable[..., Served]) -> None:
    server = served()
    conn = server.connect()
    conn.execute("BEGIN")
    assert conn.info.transaction_status is pq.TransactionStatus.INTRANS
    assert server.settles(0)
    conn.execute("COMMIT")
    assert conn.info.transaction_status is pq.TransactionStatus.IDLE


def test_a_begin_that_fails_takes_its_statement_with_it(served: Callable[..., Served]) -> None:
    server = served()
    direct = server.direct()
    direct.execute("DROP TABLE IF EXISTS never; CREATE TABLE never (n int)")
    conn = server.connect()
    conn.execute("BEGIN READ ONLY")
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        conn.execute("INSERT INTO never VALUES (1)")
    conn.execute("ROLLBACK")
    assert direct.execute("SELECT count(*) FROM never").fetchone() == (0,)


def raw(server: Served) -> socket.socket:
    given = psycopg.conninfo.conninfo_to_dict(server.url)
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(10)
    made.connect(f"{given['host']}/.s.PGSQL.{given['port']}")
    return made


def test_a_protocol_that_is_newer_is_negotiated(served: Callable[..., Served]) -> None:
    server = served()
    given = psycopg.conninfo.conninfo_to_dict(server.url)
    names = {b"user": given["user"].encode(), b"database": given["dbname"].encode(), b"_pq_.unheard": b"1"}
    with raw(server) as sock:
        sock.sendall(frontend.startup(names, 0x30009))
        answer = b""
        while not answer.endswith(b"Z\0\0\0\5I"):
            answer += sock.recv(4096)
    assert answer.startswith(b"v" + b"\0\0\0\x19" + b"\0\3\0\2" + b"\0\0\0\1" + b"_pq_.unheard\0")


GARBAGE: dict[str, bytes] = {
    "nothing": b"",
    "a length of nothing": b"\0\0\0\0",
    "a startup packet that is too long": b"\0\1\0\0\0\3\0\0",
    "an old protocol": b"\0\0\0\x08\0\2\0\0",
    "a startup packet without an end": b"\0\0\0\x0e\0\3\0\0user\0x",
    "SSLRequest twice": frontend.ssl_request() * 2,
    "a cancel request for nobody": frontend.cancel_request(1, b"abcd"),
    "letters": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("case", GARBAGE)
def test_garbage_before_the_login_ends_in_a_closed_socket(served: Callable[..., Served], case: str) -> None:
    server = served()
    with raw(server) as sock:
        sock.sendall(GARBAGE[case])
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        while data := sock.recv(4096):
            answer += data
    assert answer.lstrip(b"N")[:1] in (b"", b"E")
    assert server.connect().execute("SELECT 1").fetchone() == (1,)


def login(server: Served) -> socket.socket:
    sock = raw(server)
    given = psycopg.conninfo.conninfo_to_dict(server.url)
    sock.sendall(frontend.startup({b"user": given["user"].encode(), b"database": given["dbname"].encode()}))
    answer = b""
    while not answer.endswith(b"Z\0\0\0\5I"):
        answer += sock.recv(4096)
    return sock


MESSAGES: dict[str, bytes] = {
    "a kind that does not exist": b"!\0\0\0\4",
    "a length that cannot be": b"Q\0\0\0\3",
    "a query without an end": b"Q\0\0\0\7abc",
    "a bind that lies": frontend.message(b"B", b"\0\0\0\0\x7f\xff"),
    "a describe of nothing": frontend.message(b"D", b"X\0"),
    "stray copy data": frontend.message(b"d", b"abc") + frontend.message(b"c", b""),
    "a bind of nobody's statement": frontend.bind_nothing(b"nobody") + frontend.SYNC,
    "execute of nobody's portal": frontend.EXECUTE_ALL + frontend.SYNC,
    "flush alone": frontend.FLUSH,
    "sync alone": frontend.SYNC * 3,
    "a password nobody asked for": frontend.password(b"secret\0"),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_messages_out_of_order_leave_nothing_behind(served: Callable[..., Served], case: str) -> None:
    server = served()
    with login(server) as sock, contextlib.suppress(ConnectionError):  # it may hang up in between
        sock.sendall(MESSAGES[case])
        sock.sendall(frontend.SYNC + frontend.TERMINATE)
        while sock.recv(4096):
            pass
    assert server.settles(0)
    assert server.connect().execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("case", ["simple", "extended"])
def test_bytes_may_come_one_by_one(served: Callable[..., Served], case: str) -> None:
    messages = frontend.query(b"SELECT 'drop by drop'")
    if case == "extended":
        messages = (
            frontend.parse(b"", b"SELECT 'drop by drop'")
            + frontend.bind_nothing()
            + frontend.EXECUTE_ALL
            + frontend.SYNC
        )
    with login(served()) as sock:
        for byte in messages:
            sock.sendall(bytes((byte,)))
        answer = b""
        while not answer.endswith(b"Z\0\0\0\5I"):
            answer += sock.recv(4096)
    assert b"drop by drop" in answer


def test_flush_is_answered_before_sync(served: Callable[..., Served]) -> None:
    with login(served()) as sock:
        sock.sendall(
            frontend.parse(b"s", b"SELECT $1::int") + frontend.describe(ord("S"), b"s") + frontend.FLUSH
        )
        answer = b""
        while b"T" not in answer:
            answer += sock.recv(4096)
        assert answer.startswith(b"1\0\0\0\4t")
        bind = frontend.message(b"B", b"\0s\0" + b"\0\0" + b"\0\1" + b"\0\0\0\1" + b"7" + b"\0\0")
        sock.sendall(bind + frontend.EXECUTE_ALL + frontend.FLUSH)
        answer = b""
        while b"SELECT 1" not in answer:
            answer += sock.recv(4096)
        assert b"Z\0\0\0\5" not in answer
        sock.sendall(frontend.SYNC)
        answer = b""
        while not answer.endswith(b"Z\0\0\0\5I"):
            answer += sock.recv(4096)


def test_a_name_given_twice_behind_a_flush_is_refused_as_at_the_beginning(
    served: Callable[..., Served],
) -> None:
    with login(served()) as sock:
        parse = frontend.parse(b"twice", b"SELECT 1")
        sock.sendall(parse + frontend.FLUSH)
        answer = b""
        while len(answer) < 5:
            answer += sock.recv(4096)
        sock.sendall(parse + frontend.bind_nothing(b"twice") + frontend.EXECUTE_ALL + frontend.SYNC)
        answer = b""
        while not answer.endswith(b"Z\0\0\0\5I"):
            answer += sock.recv(4096)
    assert b"42P05" in answer
    assert b"helios_refused" not in answer


def test_an_answer_of_a_hundred_megabytes_passes_and_a_slow_client_stalls_nobody(
    served: Callable[..., Served],
) -> None:
    server = served(helios_server_connections=2)
    slow, other = server.connect(), server.connect()
    slow.pgconn.send_query(b"SELECT repeat('x', 1000) FROM generate_series(1, 100000)")
    slow.pgconn.flush()  # nobody reads it for now
    for number in range(20):
        assert other.execute("SELECT %s::int", (number,)).fetchone() == (number,)
    (result,) = waiting.wait(generators.execute(slow.pgconn), slow.pgconn.socket)
    assert result.ntuples == 100000
