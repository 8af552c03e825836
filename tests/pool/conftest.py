"""A pool of servers that are no servers, with a clock that only the test moves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import heliosproxy.pool.pool as shell
from heliosproxy.pool import Pool, PoolKey, PoolOptions, Pools, Server
from heliosproxy.pool.waiters import ThreadWaiter


class FakeServer(Server):
    __slots__ = ("closed", "dead", "orphaned")

    def __init__(self) -> None:
        super().__init__()
        self.dead = self.closed = self.orphaned = False

    def alive(self) -> bool:
        return not self.dead

    def close(self) -> None:
        self.closed = True

    def orphan(self) -> None:
        self.orphaned = True


class World:
    """Pools under one cap, the clock, and what connecting does."""

    def __init__(self, cap: int | None) -> None:
        self.now = 100.0
        self.pools = Pools(cap, clock=lambda: self.now, random=lambda: 0.5)
        self.opened: list[FakeServer] = []
        self.error: BaseException | None = None
        self.during_connect: Callable[[], Any] = lambda: None
        self.during_connect_async: Callable[[], Any] | None = None

    def pool(self, node: str = "primary", **options: Any) -> Pool[FakeServer]:
        key = PoolKey(node, "", "shop", "app")
        return self.pools.pool(key, PoolOptions(**options), self._connect, self._connect_async)

    def _connect(self, pool: Pool[FakeServer]) -> FakeServer:
        self.during_connect()
        if self.error is not None:
            raise self.error
        self.opened.append(FakeServer())
        return self.opened[-1]

    async def _connect_async(self, pool: Pool[FakeServer]) -> FakeServer:
        if self.during_connect_async is not None:
            await self.during_connect_async()
        return self._connect(pool)


@pytest.fixture
def world() -> Callable[..., World]:
    return lambda cap=None: World(cap)


class Crew:
    """Threads whose test knows when each is asleep in the queue."""

    def __init__(self) -> None:
        self.asleep = threading.Semaphore(0)
        self.threads: list[threading.Thread] = []

    def queue(self, work: Callable[[], Any]) -> list[Any]:
        """Run *work* in a thread until it sleeps in the queue; its outcome will be in the list."""
        outcome: list[Any] = []

        def run() -> None:
            try:
                outcome.append(work())
            except BaseException as error:  # noqa: BLE001 - the outcome may be any
                outcome.append(error)

        # Daemons: a failing test must not hang the run.
        self.threads.append(threading.Thread(target=run, daemon=True))
        self.threads[-1].start()
        self.asleep.acquire()
        return outcome

    def finish(self) -> None:
        for thread in self.threads:
            thread.join()


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch) -> Crew:
    crew = Crew()

    class TellingWaiter(ThreadWaiter[Any]):
        def wait(self, seconds: float) -> bool:
            crew.asleep.release()
            return super().wait(seconds)

    monkeypatch.setattr(shell, "ThreadWaiter", TellingWaiter)
    return crew
