"""Servers that cannot be connected to: what clients are told, and what the log says."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest

import heliosproxy
from heliosproxy.server.login.targets import resolve
from heliosproxy.server.upstream.outage import AGAIN, Outage
from tests.server.conftest import Served


def dsn_of(port: int) -> str:
    return f"postgresql://app@127.0.0.1:{port}/shop?sslmode=disable"


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def stranger() -> Iterator[int]:
    """The port of a server that speaks something else."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def greet() -> None:
            while True:
                try:
                    client, _ = listening.accept()
                except OSError:
                    return
                with client:
                    client.recv(1000)
                    client.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def test_a_server_that_is_down(nobody: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "heliosproxy.server")
    with heliosproxy.serve(dsn_of(nobody)) as server, pytest.raises(psycopg.OperationalError) as told:
        psycopg.connect(server.url)
    text = f"connection to server at 127.0.0.1:{nobody} failed: Connection refused"
    assert text in str(told.value)
    warning, info = caplog.records
    assert (warning.levelname, info.levelname) == ("WARNING", "INFO")
    assert warning.getMessage() == f"no server connection for shop as app on primary (wire): {text}"
    assert info.getMessage() == f"local: user 'app', database 'shop': login refused: {text}"


def test_a_server_that_goes_down_is_no_mistake_of_the_proxy(
    served: Callable[..., Served], nobody: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = served("transaction")
    client = one.connect()
    client.execute("SELECT 1")
    monkeypatch.setattr("heliosproxy.server.homes.resolve", lambda *_: resolve(dsn_of(nobody)))
    one.connect(dbname="heliosproxy").execute("RECONNECT")
    with pytest.raises(psycopg.OperationalError, match="Connection refused") as told:
        client.execute("SELECT 1")
    assert told.value.sqlstate == "08006"
    monkeypatch.undo()
    assert client.execute("SELECT 1").fetchone() == (1,)


def test_a_port_where_something_else_answers(stranger: int) -> None:
    with heliosproxy.serve(dsn_of(stranger)) as server, pytest.raises(psycopg.OperationalError) as told:
        psycopg.connect(server.url)
    assert f"connection to server at 127.0.0.1:{stranger} failed: what answers there" in str(told.value)
    assert "are host and port right?" in str(told.value)


def test_the_log_is_not_flooded(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    outage = Outage("shop as app", lambda: now)
    down, strange = psycopg.OperationalError("refused"), psycopg.errors.InvalidCatalogName("no such")
    strange.sqlstate = "3D000"
    with caplog.at_level(logging.INFO, "heliosproxy.server"):
        outage.over()
        outage.failed(strange)
        assert not caplog.records
        for _ in range(100):
            outage.failed(down)
        now += AGAIN
        outage.failed(down)
        outage.over()
        outage.over()
        outage.failed(down)
    assert [record.getMessage() for record in caplog.records] == [
        "no server connection for shop as app: refused",
        "no server connection for shop as app: refused (101 times now)",
        "server connections for shop as app are there again",
        "no server connection for shop as app: refused",
    ]
