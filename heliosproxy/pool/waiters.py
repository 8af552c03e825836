"""Those who wait for a server connection: threads and asyncio tasks, in one queue.

The core writes a waiter's ``grant`` under the pool's lock; `wake`, called outside it, only rings the bell. So
a bell that is late or lost changes nothing: whoever wakes up, for whatever reason, looks at the grant.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Generic, Protocol

from .parts import S, Stock, Waiter


class ThreadWaiter(Waiter[S], Generic[S]):
    """A thread; a bare lock is the cheapest thing that it can sleep on with a timeout."""

    __slots__ = ("_bell",)

    def __init__(self, stock: Stock[S], signature: object = None) -> None:
        super().__init__(stock, signature)
        self._bell = threading.Lock()
        self._bell.acquire()

    def wait(self, seconds: float) -> bool:
        """Sleep until woken, at most *seconds*; whether woken."""
        return self._bell.acquire(timeout=min(max(seconds, 0.0), threading.TIMEOUT_MAX))

    def wake(self) -> bool:
        self._bell.release()
        return True


class AsyncWaiter(Waiter[S], Generic[S]):
    """A task of the running event loop; `wake` may be called from any thread."""

    __slots__ = ("_future", "_loop")

    def __init__(self, stock: Stock[S], signature: object = None) -> None:
        super().__init__(stock, signature)
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._loop.create_future()

    async def wait(self, seconds: float) -> None:
        """Sleep until woken, at most *seconds*."""
        timer = self._loop.call_later(max(seconds, 0.0), self._ring)
        try:
            await self._future
        finally:
            timer.cancel()

    def wake(self) -> bool:
        """False if the loop is closed: nobody will ever resume this task, its grant must go on."""
        # Within the loop itself a self-pipe write (5 µs) is saved.
        if asyncio._get_running_loop() is self._loop:
            self._ring()
            return True
        try:
            self._loop.call_soon_threadsafe(self._ring)
        except RuntimeError:
            return False
        return True

    def _ring(self) -> None:
        if not self._future.done():
            self._future.set_result(None)


class Owner(Protocol[S]):
    """Who has a `CallWaiter`. Its methods are called in the event loop in which it asked."""

    def granted(self, waiter: CallWaiter[S]) -> None:
        """The wait is over, whichever way: `Pool.collect` says how."""

    def still_waiting(self) -> None:
        """It has waited for long."""

    def handed(self, server: S) -> None:
        """The wait is over, and *server* is leased to it; called by who gave it back."""


class CallWaiter(Waiter[S], Generic[S]):
    """A callback of an event loop: for who has no task, because a task for each wait would cost more than the wait.

    Attributes:
        owner: whose it is.
        told: it was told that it waits.
    """

    direct = True

    __slots__ = ("_loop", "owner", "told")

    def __init__(self, stock: Stock[S], signature: object, owner: Owner[S]) -> None:
        super().__init__(stock, signature)
        self._loop = asyncio.get_running_loop()
        self.owner = owner
        self.told = False

    def wake(self) -> bool:
        """As `AsyncWaiter.wake`; the callback runs in the loop's next round."""
        if asyncio._get_running_loop() is self._loop:
            self._loop.call_soon(self.owner.granted, self)
            return True
        try:
            self._loop.call_soon_threadsafe(self.owner.granted, self)
        except RuntimeError:
            return False
        return True
