"""A cancel request ends whatever a client waits for, and takes nothing from anybody else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from heliosproxy.embedded.home import wait_until
from heliosproxy.server.login.targets import resolve
from heliosproxy.server.protocol import frontend
from tests.server.conftest import Served
from tests.server.wire import Wire, errors


class Deaf:
    """A server that takes connections, and says nothing on them."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(20)
        self.dsn = f"postgresql://app@127.0.0.1:{self._listening.getsockname()[1]}/shop?sslmode=disable"
        self.took: socket.socket | None = None

    def takes(self) -> None:
        """Wait until somebody has connected."""
        self.took, _ = self._listening.accept()
        self.took.settimeout(20)

    def left(self) -> bool:
        """Whether who had connected hangs up."""
        assert self.took is not None
        while self.took.recv(1000):
            pass
        return True

    def close(self) -> None:
        self._listening.close()
        if self.took is not None:
            self.took.close()


@pytest.fixture
def deaf() -> Iterator[Deaf]:
    made = Deaf()
    yield made
    made.close()


def cancel(server: Served, client: Wire) -> None:
    """What the service does for a cancel request of *client*."""
    key = next(body for kind, body in client.greeting if kind == b"K")
    done = threading.Event()
    service, loop = server.serving._service, server.serving._loop
    loop.call_soon_threadsafe(service.cancel, int.from_bytes(key[:4], "big"), key[4:], done.set)
    assert done.wait(10)


@pytest.mark.parametrize("begun", [False, True], ids=["alone", "in a transaction"])
def test_connecting_to_a_server_that_is_slow_to_answer(
    one_server: Served, deaf: Deaf, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    with Wire(one_server.url) as client:
        client.value("SELECT 1")
        monkeypatch.setattr("heliosproxy.server.homes.resolve", lambda *_: resolve(deaf.dsn))
        one_server.connect(dbname="heliosproxy").execute("RECONNECT")
        if begun:
            client.ask("BEGIN")
        client.send(frontend.query(b"SELECT 2"))
        deaf.takes()
        cancel(one_server, client)
        answer = client.ready()
        assert errors(answer) == ["57014"]
        assert answer[-1] == (b"Z", b"E" if begun else b"I")
        assert deaf.left()
        monkeypatch.undo()
        if begun:
            assert errors(client.ask("SELECT 3")) == ["25P02"]
            client.ask("ROLLBACK")
        assert client.value("SELECT 4") == "4"
        assert one_server.pool["pool_size"] == 1


def test_what_was_sent_behind_the_statement_is_answered_behind_it(
    one_server: Served, deaf: Deaf, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Wire(one_server.url) as client:
        client.value("SELECT 1")
        monkeypatch.setattr("heliosproxy.server.homes.resolve", lambda *_: resolve(deaf.dsn))
        one_server.connect(dbname="heliosproxy").execute("RECONNECT")
        client.send(frontend.query(b"SELECT 2"))
        deaf.takes()
        monkeypatch.undo()
        client.send(frontend.query(b"SELECT 3"))
        for _ in range(2):  # the second finds the first under way, or nothing: it hits nobody
            cancel(one_server, client)
        assert errors(client.ready()) == ["57014"]
        later = client.ready()
        assert errors(later) in ([], ["57014"])
        assert client.value("SELECT 4") == "4"


def test_who_hangs_up_behind_his_cancel_request_leaves_the_place_to_others(
    one_server: Served, deaf: Deaf, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Wire(one_server.url) as client, Wire(one_server.url) as other:
        client.value("SELECT 1")
        monkeypatch.setattr("heliosproxy.server.homes.resolve", lambda *_: resolve(deaf.dsn))
        one_server.connect(dbname="heliosproxy").execute("RECONNECT")
        client.send(frontend.query(b"SELECT 2"))
        deaf.takes()
        monkeypatch.undo()
        link = next(iter(one_server.serving._service.links.values()))

        def both() -> None:
            link.conversation.cancel_wait()
            link.close()

        one_server.serving._loop.call_soon_threadsafe(both)
        assert deaf.left()
        assert other.value("SELECT 3") == "3"
        assert one_server.pool["pool_size"] == 1


@pytest.fixture
def cached(served: Callable[..., Served]) -> Served:
    server = served(helios_server_connections=3, helios_cache=True)
    server.direct().execute("DROP TABLE IF EXISTS waited; CREATE TABLE waited AS SELECT 1 AS n")
    return server


def test_who_follows_anothers_question_gives_up_alone(cached: Served) -> None:
    with Wire(cached.url) as leader, Wire(cached.url) as follower, Wire(cached.url) as second:
        clients = (leader, follower, second)
        for client in clients:
            client.value("SELECT count(*) FROM pg_class WHERE oid = 0")
        blocker = cached.direct(autocommit=False)
        blocker.execute("LOCK TABLE waited")
        question = frontend.query(b"SELECT n FROM waited")
        for number, client in enumerate(clients):
            client.send(question)
            wait_until(lambda wanted=number + 1: busy(cached) == wanted, 10, "it is under way")
        assert cached.leased == 1
        cancel(cached, follower)
        assert errors(follower.ready()) == ["57014"]
        assert leader.silent
        assert second.silent
        assert cached.leased == 1
        blocker.rollback()
        assert not errors(leader.ready())
        assert not errors(second.ready())
        assert follower.value("SELECT n FROM waited") == "1"


def busy(server: Served) -> int:
    """Clients for which something is under way."""
    links = list(server.serving._service.links.values())
    return sum(link.served and link.conversation.busy for link in links)


def test_the_look_at_the_catalogue_is_taken_by_who_comes_next(
    cached: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking, look_on = threading.Event(), threading.Event()
    control = cached.proxy.control

    def slow(home: Any, work: Any) -> Any:
        looking.set()
        assert look_on.wait(20)
        return control(home, work)

    with Wire(cached.url) as client:
        monkeypatch.setattr(cached.proxy, "control", slow)
        client.send(frontend.query(b"SELECT n FROM waited"))
        assert looking.wait(20)
        cancel(cached, client)
        assert errors(client.ready()) == ["57014"]
        assert not cached.leased
        look_on.set()
        for _ in range(2):
            assert client.value("SELECT n FROM waited") == "1"
        assert cached.proxy.cache.stats()["hits"] == 1


def test_a_listening_connection_that_is_slow_to_come(
    served: Callable[..., Served], deaf: Deaf, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = served(helios_server_connections=2)
    with Wire(server.url) as client:
        client.value("SELECT 1")
        monkeypatch.setattr("heliosproxy.server.homes.resolve", lambda *_: resolve(deaf.dsn))
        client.send(frontend.query(b"LISTEN slow"))
        deaf.takes()
        cancel(server, client)
        assert errors(client.ready()) == ["57014"]
        assert client.value("SELECT 2") == "2"
