"""Clients that move between processes, where something is in the way: each is served on, or told why not."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from heliosproxy.server.workers import moving
from heliosproxy.server.workers import worker as room
from heliosproxy.server.workers.peers import Peers
from heliosproxy.server.workers.worker import Worker
from tests.server.conftest import Served
from tests.server.test_workers import Served as Workers
from tests.server.test_workers import soon, workers
from tests.server.test_workers_faults import generations

__all__ = ["workers"]  # a fixture


@pytest.fixture
def other_database(dsn: str) -> Iterator[str]:
    with psycopg.connect(dsn, autocommit=True) as direct:
        direct.execute("DROP DATABASE IF EXISTS moved_away")
        direct.execute("CREATE DATABASE moved_away")
        yield "moved_away"
        direct.execute("DROP DATABASE moved_away WITH (FORCE)")


def test_a_client_whose_database_lets_nobody_in_any_more_is_told_so(
    workers: Callable[..., Workers], other_database: str
) -> None:
    served = workers(1, HELIOSPROXY_SERVER__MAX_USER_CONNECTIONS="2")
    client = served.connect(dbname=other_database)
    assert client.execute("SELECT 1").fetchone() == (1,)
    served.direct().execute(f"ALTER DATABASE {other_database} ALLOW_CONNECTIONS false")
    served.console("RESTART")
    assert soon(lambda: generations(served) == [2] and len(served.workers()) == 1)
    with pytest.raises(psycopg.OperationalError, match="not currently accepting connections"):
        client.execute("SELECT 1")
    for _ in range(2):  # its place is free again
        served.connect()
    with pytest.raises(psycopg.OperationalError, match="has 2 clients connected"):
        served.connect()


def state(served: Served, **other: Any) -> dict[str, Any]:
    """What another process tells of a client that it gives away."""
    given = psycopg.conninfo.conninfo_to_dict(served.dsn)
    return {
        "user": given["user"], "database": given["dbname"], "minor": 0, "begun_with": [], "pid": 4711,
        "key": "01020304", "since": 0.0, "place": None, "settings": [], "encoding": "utf-8",
        "statements": [], "told": [], **other,
    }  # fmt: skip


def adopted(served: Served, **other: Any) -> socket.socket:
    """The client's end of a line that is taken over."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(10)
    serving = served.serving
    work = moving._adopt(serving._service, ours, state(served, **other))
    asyncio.run_coroutine_threadsafe(work, serving._loop).result(20)
    return theirs


def test_a_client_that_a_mistake_of_ours_keeps_from_moving_is_told_so(
    served: Callable[..., Served], caplog: pytest.LogCaptureFixture
) -> None:
    made = served()
    with adopted(made, statements=[["no", "three"]]) as client:
        said = b""
        while data := client.recv(4096):
            said += data
    assert b"SFATAL\0" in said
    assert b"CXX000\0" in said
    assert "could not be taken over" in caplog.text
    assert 4711 not in made.serving._service.links


def test_a_client_that_moves_goes_on_with_what_it_had(served: Callable[..., Served]) -> None:
    made = served()
    seven = [base64.b85encode(each).decode() for each in (b"seven", b"SELECT 7", b"\0\0")]
    with adopted(made, statements=[seven]) as client:
        bind = b"B\0\0\0\x11" + b"\0" + b"seven\0" + bytes(6)
        client.sendall(bind + b"E\0\0\0\x09" + bytes(5) + b"S\0\0\0\4")
        said = b""
        while not said.endswith(b"Z\0\0\0\5I"):
            data = client.recv(4096)
            assert data, said
            said += data
        assert b"D\0\0\0\x0b\0\1\0\0\0\1" + b"7" in said


def test_a_place_is_known_of_while_nothing_is_limited(
    workers: Callable[..., Workers], dsn: str, tmp_path: Path
) -> None:
    file = tmp_path / "heliosproxy.toml"
    limited = (
        f'[pool]\nmode = "transaction"\n[[node]]\nname = "primary"\ndsn = "{dsn}"\n'
        "[server]\nmax_user_connections = 2\n"
    )
    file.write_text(limited)
    served = workers(1, "--config", str(file))
    client = served.connect()
    for generation, text in ((2, limited.replace("max_user_connections = 2", "")), (3, limited)):
        file.write_text(text)
        served.console("RELOAD")
        assert soon(lambda: generations(served) == [generation] and len(served.workers()) == 1)  # noqa: B023
    served.connect()
    with pytest.raises(psycopg.OperationalError, match="has 2 clients connected"):
        served.connect()
    client.close()
    assert soon(lambda: _lets_in(served))
    with pytest.raises(psycopg.OperationalError, match="has 2 clients connected"):
        served.connect()


def _lets_in(served: Workers) -> bool:
    try:
        served.connect()
    except psycopg.OperationalError:
        return False
    return True


def test_a_client_that_never_can_move_is_not_asked_again_and_served_on(
    served: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = served()
    client = made.connect()
    asked: list[int] = []

    def too_large(link: Any, line: socket.socket) -> None:
        asked.append(link.pid)

    monkeypatch.setattr(moving, "send", too_large)
    for pause in ("_STAND_STILL", "_LOOK_EVERY", "_SELDOM"):
        monkeypatch.setattr(room, pause, 0.001)
    serving = made.serving

    async def retire() -> None:
        a, b = socket.socketpair()
        with a, b:
            worker = Worker(serving._service, [], a, (a, b), None, 1)
            await worker._retire(0.2, True)

    running = asyncio.run_coroutine_threadsafe(retire(), serving._loop)
    while not running.done():
        assert client.execute("SELECT 1").fetchone() == (1,)
    running.result()
    assert asked == [client.info.backend_pid]


def test_nobody_is_asked_when_the_supervisor_is_gone() -> None:
    class Gone:
        def is_closing(self) -> bool:
            return True

    async def ask() -> list[Any]:
        peers = Peers({}, lambda: None)
        peers.connection_made(Gone())
        return await asyncio.wait_for(peers.ask("others", "cancel", 1, "00"), 10)

    assert asyncio.run(ask()) == []
