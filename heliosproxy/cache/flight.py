"""Single flight: of those who miss the same key at the same time one asks the server, the others wait for it.

No thread and no I/O: a follower waits on a lock (threads) or on a future of its own event loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Hashable
from contextlib import suppress
from types import TracebackType

from . import forking
from .store import Entry


class Flight:
    """One execution on its way. Who got it from `Flights.join` with ``leader`` True must end it.

    Leaders use it as a context manager: whatever happens, cancellation included, the followers are released.

    Attributes:
        leader: True: execute, then call `done`. False: `wait`, or `wait_async`.
    """

    __slots__ = ("_shared", "leader")

    def __init__(self, shared: _Shared, leader: bool) -> None:
        self._shared = shared
        self.leader = leader

    def done(self, entry: Entry | None) -> None:
        """Hand the followers their answer; None: they execute themselves. Only the first call counts."""
        self._shared.done(entry)

    def wait(self, timeout: float) -> Entry | None:
        """Wait as a thread for the leader.

        Returns:
            What the leader stored, to be checked as any other entry; None: execute yourself, because the
            leader failed, needed longer than *timeout* seconds, or is of this very thread.
        """
        return self._shared.wait(timeout)

    async def wait_async(self, timeout: float) -> Entry | None:
        """Wait as a task for the leader, a thread or a task of any event loop; otherwise as `wait`."""
        return await self._shared.wait_async(timeout)

    def __enter__(self) -> Flight:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.leader:
            self.done(None)

    def __del__(self) -> None:
        # A leader whose generator was dropped half-way must not hold the others for their whole timeout.
        if self.leader:
            self.done(None)


class Flights:
    """The flights of one Proxy. Thread-safe, and safe between event loops."""

    __slots__ = ("__weakref__", "_flights", "lock")

    def __init__(self) -> None:
        self.after_fork()
        forking.register(self)

    def after_fork(self) -> None:
        """In a child: the leaders are in the parent."""
        # Of the flights, too. Reentrant: the collector may drop a leader anywhere, and that ends its flight.
        self.lock = threading.RLock()
        self._flights: dict[Hashable, _Shared] = {}

    def join(self, key: Hashable, token: int) -> Flight:
        """Lead the flight of *key*, or follow the one there is.

        A flight that began before the last invalidation is not joined but replaced: its answer may lack what
        the caller has seen acknowledged. Only a session without an open server transaction may follow, else
        leader and follower can wait for each other by a lock in the server.

        Args:
            key: the whole key of the entry.
            token: the version of its slots now, by `Versions.token`.
        """
        with self.lock:
            shared = self._flights.get(key)
            if shared is not None and shared.token == token:
                return Flight(shared, leader=False)
            shared = self._flights[key] = _Shared(self, key, token)
            return Flight(shared, leader=True)

    def __len__(self) -> int:
        """Flights that can be joined."""
        return len(self._flights)

    def forget(self, shared: _Shared) -> None:
        """Nobody joins this flight any more. Under the lock."""
        if self._flights.get(shared.key) is shared:
            del self._flights[shared.key]


class _Shared:
    """What leader and followers of a flight have in common."""

    __slots__ = ("_entry", "_flights", "_futures", "_gate", "_landed", "_thread", "key", "token")

    def __init__(self, flights: Flights, key: Hashable, token: int) -> None:
        self.key = key
        self.token = token
        self._flights = flights
        self._thread = threading.get_ident()
        self._landed = False
        self._entry: Entry | None = None
        self._futures: set[asyncio.Future[None]] = set()
        # Closed until the leader is done. A threading.Event would cost every miss 6 µs, followers or not.
        self._gate = threading.Lock()
        self._gate.acquire()

    def done(self, entry: Entry | None) -> None:
        with self._flights.lock:
            if self._landed:
                return
            self._entry = entry
            self._landed = True
            self._gate.release()
            futures, self._futures = self._futures, set()
            self._flights.forget(self)
        for future in futures:
            with suppress(RuntimeError):  # its event loop is closed: nobody waits there any more
                future.get_loop().call_soon_threadsafe(_release, future)

    def wait(self, timeout: float) -> Entry | None:
        if self._thread == threading.get_ident() and not self._landed:
            return None  # the leader cannot go on while its thread waits here
        if self._gate.acquire(timeout=timeout):
            self._gate.release()  # for the next follower
        else:
            self._give_up()
        return self._entry

    async def wait_async(self, timeout: float) -> Entry | None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._flights.lock:
            if self._landed:
                return self._entry
            self._futures.add(future)
        try:
            async with asyncio.timeout(timeout):
                await future
        except TimeoutError:
            self._give_up()
        finally:
            with self._flights.lock:
                self._futures.discard(future)
        return self._entry

    def _give_up(self) -> None:
        """The next one to come leads anew, instead of waiting as long."""
        with self._flights.lock:
            self._flights.forget(self)


def _release(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
