"""A cancel request for a client of another worker: who asks is hung up on once it is delivered, not before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.server.conftest import Served


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
