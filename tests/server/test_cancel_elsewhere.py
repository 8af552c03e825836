"""A cancel request for a client of another worker: who asks is hung up on once it is delivered, not before."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from benchmarks.endurance.raw import Peer, cancel, names
from heliosproxy.server.protocol import frontend
from tests.server.conftest import Served
from tests.server.test_workers import Served as Workers
from tests.server.test_workers import sleeping, soon, workers
from tests.server.wire import errors

__all__ = ["workers"]  # a fixture


class OtherWorkers:
    """Peers that take their time."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.delivered = asyncio.Event()

    async def ask(self, whom: str, do: str, *args: object, within: float) -> list[object]:
        self.asked.append((whom, do, *args))
        await self.delivered.wait()
        return []


def test_it_is_done_when_the_other_worker_says_so(served: Callable[..., Served]) -> None:
    serving = served().serving
    service = serving._service

    async def play() -> None:
        peers = OtherWorkers()
        service.peers = peers  # type: ignore[assignment]  # as much of it as is needed
        done = asyncio.Event()
        service.cancel(4711, b"\1\2\3\4", done.set)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert peers.asked == [("others", "cancel", 4711, "01020304")]
        assert not done.is_set()
        peers.delivered.set()
        await asyncio.wait_for(done.wait(), 10)

    asyncio.run_coroutine_threadsafe(play(), serving._loop).result(20)


class HeldBack:
    """A relay to the server of *dsn* that keeps cancel requests until it is told to deliver them."""

    def __init__(self, dsn: str) -> None:
        parts = urlsplit(dsn)
        self._server = (parts.hostname or "", parts.port or 0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.dsn = dsn.replace(f":{parts.port}/", f":{self._listener.getsockname()[1]}/")
        self.held = 0
        self.deliver = threading.Event()
        self._sockets = [self._listener]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, work: Callable[..., None], *args: socket.socket) -> None:
        self._threads.append(threading.Thread(target=work, args=args, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                self._sockets += [client, server]
                self._start(self._pass, client, server)
                self._start(self._pass, server, client)

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                if data[4:8] == frontend.CANCEL_REQUEST.to_bytes(4, "big"):
                    self.held += 1
                    self.deliver.wait()
                other.sendall(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.deliver.set()
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()


@pytest.fixture
def held_back(dsn: str) -> Iterator[HeldBack]:
    made = HeldBack(dsn)
    yield made
    made.close()


def test_whoever_cancels_is_hung_up_on_behind_the_delivery_whichever_worker_it_reaches(
    workers: Callable[..., Workers], held_back: HeldBack, tmp_path: Path
) -> None:
    file = tmp_path / "heliosproxy.toml"
    file.write_text(f'[pool]\nmode = "transaction"\n[[node]]\nname = "primary"\ndsn = "{held_back.dsn}"\n')
    served = workers(2, "--config", str(file))
    where = ("127.0.0.1", served.port)
    client = Peer(where, names(served.dsn))
    client.send(frontend.query(b"SELECT pg_sleep(60)"))
    assert soon(lambda: sleeping(served) == 1)
    # By luck all reach one worker, once in two thousand times. Not by libpq: it waits with Python's lock held.
    asking = [threading.Thread(target=cancel, args=(where, client.pid, client.key)) for _ in range(12)]
    for each in asking:
        each.start()
    assert soon(lambda: held_back.held == len(asking))
    assert all(each.is_alive() for each in asking)
    assert client.silent
    held_back.deliver.set()
    for each in asking:
        each.join(20)
        assert not each.is_alive()
    assert errors(client.answer()) == ["57014"]
    client.close()
