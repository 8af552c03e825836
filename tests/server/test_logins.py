"""Who gets in, and over what line: real clients of libpq against the whole server."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

import heliosproxy
from heliosproxy.server.login.md5 import md5_of
from heliosproxy.server.login.scram import Verifier
from heliosproxy.server.login.users import is_local
from tests.server.conftest import Served

VERIFIER = Verifier.of("right", iterations=4096).text()


def users(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {"user": [{"name": name, "verifier": verifier} for name, verifier in pairs]}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def as_user(server: Served, user: str, password: str, **keywords: Any) -> psycopg.Connection[Any]:
    given = {**psycopg.conninfo.conninfo_to_dict(server.url), "user": user, "password": password, **keywords}
    return server.connect(**given)


@pytest.mark.parametrize("verifier", [VERIFIER, md5_of("ada", "right")])
def test_the_right_password_lets_in_and_the_servers_login_is_the_proxys(
    served: Callable[..., Served], verifier: str
) -> None:
    server = served(sections=users(("ada", verifier)))
    row = as_user(server, "ada", "right").execute("SELECT current_user").fetchone()
    assert row == (psycopg.conninfo.conninfo_to_dict(server.dsn)["user"],)


@pytest.mark.parametrize("user", ["ada", "nobody"])
def test_a_wrong_password_and_a_wrong_user_are_refused_alike(
    served: Callable[..., Served], user: str
) -> None:
    server = served(sections=users(("ada", VERIFIER)))
    with pytest.raises(psycopg.OperationalError, match=f'password authentication failed for user "{user}"'):
        as_user(server, user, "wrong")
    with pytest.raises(psycopg.OperationalError, match="password"):
        as_user(server, user, "")


def test_auth_query_finds_users_that_the_configuration_has_not(served: Callable[..., Served]) -> None:
    query = "SELECT name, verifier FROM accounts WHERE name = $1"
    server = served(sections={"server": {"auth_query": query}})
    direct = server.direct()
    direct.execute("DROP TABLE IF EXISTS accounts; CREATE TABLE accounts (name text, verifier text)")
    direct.execute("INSERT INTO accounts VALUES ('bob', %s)", (VERIFIER,))
    assert as_user(server, "bob", "right", options="-c search_path=nowhere").execute(
        "SELECT 1"
    ).fetchone() == (1,)
    for user in ("bob", "carol"):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            as_user(server, user, "wrong")


def test_what_is_wrong_with_auth_query_is_for_the_log_alone(
    served: Callable[..., Served], caplog: pytest.LogCaptureFixture
) -> None:
    server = served(sections={"server": {"auth_query": "SELECT secret_column FROM nowhere WHERE name = $1"}})
    with pytest.raises(psycopg.OperationalError, match="users cannot be looked up now") as raised:
        as_user(server, "bob", "right")
    assert "nowhere" not in str(raised.value)
    assert 'auth_query failed for user "bob": relation "nowhere" does not exist' in caplog.text


def test_a_database_that_is_not_there(served: Callable[..., Served]) -> None:
    server = served()
    for number in range(3):
        with pytest.raises(psycopg.OperationalError, match=f'database "missing{number}" does not exist'):
            server.connect(dbname=f"missing{number}")
    assert server.proxy.stats()["pools"] == {}  # nobody can fill the memory with names


def test_a_server_that_cannot_be_reached(served: Callable[..., Served]) -> None:
    server = Served(f"postgresql://app@127.0.0.1:{free_port()}/shop")
    with pytest.raises(psycopg.OperationalError, match=r"connection to server at 127\.0\.0\.1:\d+ failed"):
        server.connect()
    server.serving.close()
    server.proxy.close()


@pytest.mark.parametrize(
    "asked", ["target_session_attrs=read-write", "requirepeer=postgres", "min_protocol_version=3.2"]
)
def test_what_the_dsn_asks_for_and_is_not_done_is_refused_by_name(dsn: str, asked: str) -> None:
    with pytest.raises(heliosproxy.ConfigError, match=f"{asked.partition('=')[0]} in a"):
        Served(psycopg.conninfo.make_conninfo(dsn, **dict([asked.split("=")])))


def test_what_the_environment_comes_to_ask_for_is_refused_when_a_server_is_wanted(
    served: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = served()
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "read-write")
    with pytest.raises(psycopg.OperationalError, match="target_session_attrs in a"):
        server.connect(target_session_attrs="any")


def test_more_than_max_connections_are_turned_away(served: Callable[..., Served]) -> None:
    server = served(helios_max_connections=2)
    server.connect()
    server.connect()
    with pytest.raises(psycopg.OperationalError, match="2 clients are connected"):
        server.connect()


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("/run/x", True),
        ("0.0.0.0:1", False),
        ("10.0.0.1:1", False),
        ("[::]:1", False),
        (":6432", False),
        ("example.org:1", False),
    ],
)
def test_which_addresses_other_machines_can_reach(address: str, local: bool) -> None:
    assert is_local(address) is local


def test_a_listener_that_would_let_everybody_in_does_not_start(dsn: str) -> None:
    config = {"node": [{"name": "primary", "dsn": dsn}]}
    with (
        heliosproxy.Proxy(config) as proxy,
        pytest.raises(heliosproxy.ConfigError, match="everybody would be let in"),
    ):
        from heliosproxy.server.running import Serving

        Serving(proxy, own=False, addresses=["0.0.0.0:6432"])
    with (
        heliosproxy.Proxy({**config, **users(("ada", VERIFIER))}) as proxy,
        pytest.raises(heliosproxy.ConfigError, match="there is no TLS"),
    ):
        from heliosproxy.server.running import Serving

        Serving(proxy, own=False, addresses=["0.0.0.0:6432"])


class TestTls:
    """Over TCP, with a certificate."""

    @pytest.fixture
    def server(self, served: Callable[..., Served], certificates: Path) -> Served:
        section = {
            "tls_cert": str(certificates / "server.crt"),
            "tls_key": str(certificates / "server.key"),
            "tls_required": True,
        }
        address = f"127.0.0.1:{free_port()}"
        return served(sections={"server": section, **users(("ada", VERIFIER))}, addresses=[address])

    def test_verify_full_and_channel_binding(self, server: Served, certificates: Path) -> None:
        keywords = {
            "sslmode": "verify-full",
            "sslrootcert": str(certificates / "ca.crt"),
            "channel_binding": "require",
        }
        conn = as_user(server, "ada", "right", **keywords)
        assert conn.pgconn.ssl_in_use
        for number in range(3):
            assert conn.execute("SELECT %s::int, repeat('x', 100000)", (number,)).fetchone() == (
                number,
                "x" * 100000,
            )

    def test_a_client_without_tls_is_refused(self, server: Served) -> None:
        with pytest.raises(psycopg.OperationalError, match="takes encrypted connections only"):
            as_user(server, "ada", "right", sslmode="disable")

    def test_a_wrong_password_over_tls(self, server: Served) -> None:
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            as_user(server, "ada", "wrong", sslmode="require")

    def test_garbage_in_the_place_of_a_handshake(self, server: Served) -> None:
        given = psycopg.conninfo.conninfo_to_dict(server.url)
        with socket.create_connection((given["host"], int(given["port"]))) as sock:
            sock.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")
            assert sock.recv(1) == b"S"
            sock.sendall(b"nonsense" * 10)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(4096):
                pass
        assert as_user(server, "ada", "right", sslmode="require").execute("SELECT 1").fetchone() == (1,)
