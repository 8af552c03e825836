"""TLS that begins with the first byte, and what ALPN has to say: by hand, and by libpq where it is new enough."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import ssl
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import generators, waiting

from heliosproxy.server import running
from heliosproxy.server.login.hello import offered_protocols
from heliosproxy.server.login.scram import Verifier
from heliosproxy.server.protocol import frontend
from tests.server.conftest import Served
from tests.server.test_logins import as_user, free_port, users
from tests.server.test_pooling import raw

VERIFIER = Verifier.of("right", iterations=4096).text()
READY = b"Z\0\0\0\5I"
SSL_REQUEST = frontend.ssl_request()


@pytest.fixture(params=["uvloop", "asyncio"])
def server(
    served: Callable[..., Served],
    certificates: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Served:
    """A listener with TLS that lets everybody of this machine in, on either event loop."""
    if request.param == "asyncio":
        monkeypatch.setattr(running, "new_loop", asyncio.new_event_loop)
    else:
        pytest.importorskip("uvloop")
    section = {"tls_cert": str(certificates / "server.crt"), "tls_key": str(certificates / "server.key")}
    return served(sections={"server": section}, addresses=[f"127.0.0.1:{free_port()}"])


def context(*protocols: str, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    made.maximum_version = version
    if protocols:
        made.set_alpn_protocols(list(protocols))
    return made


def connected(server: Served) -> socket.socket:
    given = psycopg.conninfo.conninfo_to_dict(server.url)
    sock = socket.create_connection((given["host"], int(given["port"])))
    sock.settimeout(10)
    return sock


def startup(server: Served) -> bytes:
    given = psycopg.conninfo.conninfo_to_dict(server.url)
    return frontend.startup(
        {b"user": str(given["user"]).encode(), b"database": str(given["dbname"]).encode()}
    )


def until(sock: socket.socket, end: bytes) -> bytes:
    said = b""
    while not said.endswith(end):
        data = sock.recv(65536)
        assert data, said
        said += data
    return said


def last_words(sock: socket.socket) -> bytes:
    said = b""
    while data := sock.recv(65536):
        said += data
    return said


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_may_begin_with_the_first_byte(server: Served, version: ssl.TLSVersion) -> None:
    with context("postgresql", version=version).wrap_socket(connected(server)) as sock:
        assert sock.selected_alpn_protocol() == "postgresql"
        sock.sendall(startup(server))
        until(sock, READY)
        sock.sendall(frontend.query(b"SELECT 'it is ' || 6 * 7"))
        assert b"it is 42" in until(sock, READY)


@pytest.mark.skipif(psycopg.pq.version() < 170000, reason="libpq before 17: its direct TLS is NOT tested")
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_libpq_begins_tls_directly(
    served: Callable[..., Served], certificates: Path, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if loop == "asyncio":
        monkeypatch.setattr(running, "new_loop", asyncio.new_event_loop)
    section = {
        "tls_cert": str(certificates / "server.crt"),
        "tls_key": str(certificates / "server.key"),
        "tls_required": True,
    }
    server = served(
        sections={"server": section, **users(("ada", VERIFIER))}, addresses=[f"127.0.0.1:{free_port()}"]
    )
    keywords = {
        "sslmode": "verify-full",
        "sslrootcert": str(certificates / "ca.crt"),
        "sslnegotiation": "direct",
        "channel_binding": "require",
    }
    conn = as_user(server, "ada", "right", **keywords)
    assert conn.pgconn.ssl_in_use
    large = random.Random(1).randbytes(20_000_000)
    for number in range(3):
        row = conn.execute("SELECT %s::int, %b::bytea", (number, large), binary=True).fetchone()
        assert row == (number, large)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        as_user(server, "ada", "wrong", **keywords)


def shake_hands(sock: socket.socket, made: ssl.SSLContext, piece: int) -> tuple[Any, ssl.MemoryBIO, bytes]:
    """A handshake whose bytes are sent *piece* by piece; the last of them are returned, unsent."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = made.wrap_bio(incoming, outgoing)
    while True:
        try:
            session.do_handshake()
            return session, outgoing, outgoing.read()
        except ssl.SSLWantReadError:
            data = outgoing.read()
            for at in range(0, len(data), piece):
                sock.sendall(data[at : at + piece])
            incoming.write(sock.recv(65536))


@pytest.mark.parametrize("piece", [1, 7, 100_000])
@pytest.mark.parametrize("asks", [True, False])
def test_a_handshake_may_come_in_pieces_and_what_follows_it_at_once(
    server: Served, piece: int, asks: bool
) -> None:
    with connected(server) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if asks:
            sock.sendall(SSL_REQUEST)
            assert sock.recv(1) == b"S"
        session, outgoing, rest = shake_hands(sock, context("postgresql"), piece)
        session.write(startup(server))
        session.write(frontend.query(b"SELECT 'in one go'") + frontend.TERMINATE)
        sock.sendall(rest + outgoing.read())  # Finished, a login and a statement
        received = last_words(sock)
    assert len(received) > 300  # encrypted; who has read it all was served
    assert server.settles(0)


def test_who_says_goodbye_by_tls_is_gone(server: Served) -> None:
    sock = context("postgresql").wrap_socket(connected(server))
    sock.sendall(startup(server))
    until(sock, READY)
    sock.sendall(frontend.query(b"BEGIN") + frontend.query(b"SELECT 1"))
    until(sock, b"SELECT 1\0Z\0\0\0\5T")
    plain = sock.unwrap()  # answered by the same of the server
    assert plain.recv(1) == b""
    plain.close()
    assert server.settles(0)


@pytest.mark.parametrize("offered", [(), ("http/1.1",)])
def test_direct_tls_without_alpn_is_refused(
    server: Served, offered: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "heliosproxy.server")
    with context(*offered).wrap_socket(connected(server)) as sock:
        said = last_words(sock)
    assert b"VFATAL\0C08P01\0" in said
    told = 'TLS was begun directly, without agreeing to the protocol "postgresql" by ALPN'
    assert told.encode() in said
    assert told in caplog.text


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        ((), True),
        (("postgresql",), True),
        (("h2", "postgresql"), True),
        (("h2", "http/1.1"), False),
    ],
)
def test_alpn_of_negotiated_tls_must_be_ours_if_there_is_any(
    server: Served, offered: tuple[str, ...], taken: bool
) -> None:
    with connected(server) as plain:
        plain.sendall(SSL_REQUEST)
        assert plain.recv(1) == b"S"
        with context(*offered).wrap_socket(plain) as sock:
            sock.sendall(startup(server))
            if taken:
                until(sock, READY)
            else:
                said = last_words(sock)
                assert b"C08P01\0" in said
                assert b'lack "postgresql": h2, http/1.1' in said


def test_direct_tls_on_a_listener_without_tls_is_hung_up_on(
    served: Callable[..., Served], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "heliosproxy.server")
    server = served(addresses=[f"127.0.0.1:{free_port()}"])
    with connected(server) as sock, pytest.raises((ssl.SSLError, ConnectionError)):
        context("postgresql").wrap_socket(sock)
    assert "a listener without server.tls_cert" in caplog.text


def test_direct_tls_on_a_unix_socket_is_hung_up_on(served: Callable[..., Served]) -> None:
    server = served()
    with raw(server) as sock:
        sock.sendall(b"\x16\x03\x01")
        assert sock.recv(1) == b""
    assert server.connect().execute("SELECT 1").fetchone() == (1,)


def test_plain_bytes_behind_an_ssl_request_are_refused(server: Served) -> None:
    with connected(server) as sock:
        sock.sendall(SSL_REQUEST + startup(server))
        assert b"received unencrypted data after SSL request" in last_words(sock)


def test_tls_within_tls_is_no_startup_packet(server: Served) -> None:
    with context("postgresql").wrap_socket(connected(server)) as sock:
        sock.sendall(b"\x16\x03\x01\x02\0\1\0\1\xfc\3\3")
        assert b"invalid length of startup packet" in last_words(sock)


def test_tls_after_a_refusal_of_gssapi_is_not_direct(server: Served) -> None:
    with connected(server) as sock:
        sock.sendall(struct.pack("!ii", 8, frontend.GSSENC_REQUEST))
        assert sock.recv(1) == b"N"
        sock.sendall(b"\x16\x03\x01\x02\0\1\0\1\xfc\3\3")
        assert b"invalid length of startup packet" in last_words(sock)


def test_garbage_that_begins_like_tls_harms_nobody(server: Served) -> None:
    chance = random.Random(7)
    for size in (0, 1, 4, 50, 2000, 300_000):
        with connected(server) as sock, contextlib.suppress(OSError):  # it hangs up in between
            sock.sendall(b"\x16" + chance.randbytes(size))
            sock.shutdown(socket.SHUT_WR)
            last_words(sock)
    assert server.connect(sslmode="require").execute("SELECT 1").fetchone() == (1,)


def test_a_handshake_without_an_end_is_ended_by_the_login_timeout(
    served: Callable[..., Served], certificates: Path
) -> None:
    section = {
        "tls_cert": str(certificates / "server.crt"),
        "tls_key": str(certificates / "server.key"),
        "login_timeout": 0.1,
    }
    server = served(sections={"server": section}, addresses=[f"127.0.0.1:{free_port()}"])
    with connected(server) as sock:
        sock.sendall(b"\x16\x03")
        assert last_words(sock) == b""


def test_a_reader_that_is_slow_stalls_nobody_else(server: Served) -> None:
    slow, other = server.connect(sslmode="require"), server.connect(sslmode="require")
    assert slow.pgconn.ssl_in_use
    slow.pgconn.send_query(b"SELECT repeat('x', 1000) FROM generate_series(1, 50000)")
    slow.pgconn.flush()
    for number in range(20):
        assert other.execute("SELECT %s::int", (number,)).fetchone() == (number,)
    (result,) = waiting.wait(generators.execute(slow.pgconn), slow.pgconn.socket)
    assert result is not None
    assert result.ntuples == 50000


def hello(*protocols: str, name: str = "") -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context(*protocols).wrap_bio(incoming, outgoing, server_hostname=name or None)
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("name", ["", "db.example.org"])
def test_what_a_hello_offers(name: str) -> None:
    assert offered_protocols(hello(name=name)) == []
    assert offered_protocols(hello("postgresql", name=name)) == [b"postgresql"]
    whole = hello("h2", "postgresql", "x" * 255, name=name)
    assert offered_protocols(whole) == [b"h2", b"postgresql", b"x" * 255]
    body = whole[5:]
    parts = [body[at : at + 11] for at in range(0, len(body), 11)]
    records = b"".join(whole[:3] + len(part).to_bytes(2, "big") + part for part in parts)
    assert offered_protocols(records + b"\x14\3\3\0\1\1" + records) == [b"h2", b"postgresql", b"x" * 255]


def test_what_is_no_hello_offers_nothing() -> None:
    assert offered_protocols(b"") == []
    assert offered_protocols(b"\x16\3\1\0\4\2\0\0\0") == []
    whole = hello("postgresql")
    for end in range(len(whole)):
        offered_protocols(whole[:end])  # comes to an end, whatever it finds
