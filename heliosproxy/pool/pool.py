"""The pool of one key: the shell around the assignment core, for threads and asyncio tasks alike.

Decisions are taken under one lock, shared by all pools under one cap, except the two of the hot path, which
need none (see `core.py`); connecting, closing, testing and waking happen outside it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, cast

from .desk import Desk
from .key import PoolKey
from .options import PoolOptions
from .parts import S, Stock
from .waiters import AsyncWaiter, CallWaiter, Owner, ThreadWaiter

if TYPE_CHECKING:
    from .cap import Pools


class Pool(Desk[S], Generic[S]):
    """Server connections that may serve each other's sessions. Made by `Pools.pool`.

    Attributes:
        key, options: what it was made for, and with.
        name: for messages and statistics; unique within its `Pools`.
        ddl_epoch: raised by whoever learns of DDL, so that connections re-prepare; new ones start with it.
        connect, connect_async: open one server connection; whatever they raise reaches who asked for it.
    """

    __slots__ = ("connect", "connect_async", "ddl_epoch", "key")

    def __init__(
        self,
        pools: Pools,
        key: PoolKey,
        options: PoolOptions,
        connect: Callable[[Pool[S]], S],
        connect_async: Callable[[Pool[S]], Awaitable[S]],
        name: str,
    ) -> None:
        super().__init__(pools, options, name)
        self.key = key
        self.connect = connect
        self.connect_async = connect_async

    @property
    def closed(self) -> bool:
        """Whether `close` was called. Leased connections may still be out."""
        return self._stock.closed

    @property
    def stock(self) -> Stock[S]:
        """The servers and the queue, for `Pools` and for tests; to be touched under the lock only."""
        return self._stock

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    # Leasing.

    def try_lease(self, signature: object = None) -> S | None:
        """An idle server connection, at once: never waits, never connects.

        Args:
            signature: state wanted; connections that carry it are preferred. None = fresh.

        Returns:
            None if nothing is idle, which is also so whenever somebody is queued. Then call `lease`.
        """
        while True:
            server: S | None = self._stock.take(signature)
            if server is None:
                return None
            now = self._clock()
            if server.expires_at > now and (not self._check or server.alive()):
                server.leased_at = now
                server.uses += 1
                return server
            self._pools.act(self._drop, server, False, server.expires_at > now)

    def lease(self, signature: object = None, timeout: float | None = None) -> S:
        """A server connection; waits for its turn, or connects if there is a place. Blocks the thread.

        Args:
            signature: as for `try_lease`.
            timeout: seconds to wait in the queue; None (default) = the pool's; 0 = do not wait. Connecting
                takes as long as libpq's ``connect_timeout`` allows, on top.

        Raises:
            PoolTimeout: all places stayed taken for the whole *timeout*.
            TooManyRequests: ``max_waiting`` others were queued before.
            PoolClosed: the pool was closed before, while waiting, or while connecting.
            psycopg.OperationalError: connecting failed. Each waiter that gets a place learns this for itself.
        """
        server = self.try_lease(signature)
        if server is not None:
            return server
        waiter = ThreadWaiter(self._stock, signature)
        seconds = self.options.timeout if timeout is None else timeout
        try:
            if self._queued(waiter) and seconds > 0:
                waiter.wait(seconds)
            if self._must_connect(waiter):
                started = self._clock()
                return self._adopt(waiter, self.connect(self), started)
            return self._accept(waiter)
        except BaseException:
            self._give_up(waiter)
            raise

    async def lease_async(
        self,
        signature: object = None,
        timeout: float | None = None,
    ) -> S:
        """As `lease`, for a task of any event loop. Cancelling it hands on what it was granted meanwhile."""
        server = self.try_lease(signature)
        if server is not None:
            return server
        waiter = AsyncWaiter(self._stock, signature)
        seconds = self.options.timeout if timeout is None else timeout
        try:
            if self._queued(waiter) and seconds > 0:
                await waiter.wait(seconds)
            if self._must_connect(waiter):
                started = self._clock()
                return self._adopt(waiter, await self.connect_async(self), started)
            return self._accept(waiter)
        except BaseException:
            self._give_up(waiter)
            raise

    def queue(self, signature: object, owner: Owner[S]) -> CallWaiter[S]:
        """Ask for a server connection without waiting: *owner* is called in the running loop when it is time.

        When it was granted something it must `collect`, or `give_up` when it has lost interest. Nobody else ends the
        wait: who has waited for `PoolOptions.timeout` must collect, too, and is refused.
        """
        waiter = CallWaiter(self._stock, signature, owner)
        if not self._queued(waiter):
            waiter.wake()
        return waiter

    def collect(self, waiter: CallWaiter[S]) -> S | None:
        """What *waiter* was granted; None: a place, in which to `open`. Raises as `lease` does."""
        try:
            return None if self._must_connect(waiter) else self._accept(waiter)
        except BaseException:
            self._give_up(waiter)
            raise

    async def open(self, waiter: CallWaiter[S]) -> S:
        """Connect in the place that *waiter* was granted. Raises as `lease` does."""
        try:
            started = self._clock()
            return self._adopt(waiter, await self.connect_async(self), started)
        except BaseException:
            self._give_up(waiter)
            raise

    def give_up(self, waiter: CallWaiter[S]) -> None:
        """*waiter* is not interested any more: what it was granted goes to the next."""
        self._give_up(waiter)

    def waiting(self, least: float = 0.0) -> list[tuple[Any, float]]:
        """Who has waited for *least* seconds or longer, and how long; the longest first."""
        now, found = self._clock(), []
        with self._pools.lock:
            for waiter in self._stock.queue:
                if now - waiter.since < least:
                    break
                found.append((waiter, now - waiter.since))
        return found

    def warm(self) -> None:
        """Open connections until ``min_size`` is reached or the cap is; blocks. Otherwise use opens them.

        Raises:
            psycopg.OperationalError: connecting failed; what was opened before stays.
        """
        while True:
            waiter = ThreadWaiter(self._stock)
            with self._pools.lock:
                if not self._core.reserve(waiter):
                    return
            started = self._clock()
            try:
                server = self._adopt(waiter, self.connect(self), started)
            except BaseException:
                self._give_up(waiter)
                raise
            server.uses -= 1  # nobody asked for it
            self.release(server)

    # Giving back.

    def release(self, server: S, reusable: bool = True) -> None:
        """Give a leased server connection back: to the first waiter, or on top of the idle ones.

        Args:
            server: leased from this pool. After a fork, those of the parent are silently ignored.
            reusable: False closes it instead (broken, or its state is unknown).

        Raises:
            ValueError: it was given back before, or belongs to another pool.
        """
        if server.pool is not self:
            raise ValueError(f"this server connection does not belong to pool {self.name}")
        now = self._clock()
        if not reusable or server.expires_at <= now:
            self._pools.act(self._drop, server, not reusable)
            return
        server.used += now - server.leased_at  # still its user's alone: no lock needed
        if self._core.put(self._stock, server, now):
            self._pools.act(self._core.settle, self._stock, now)
        if now >= self._pools.sweep_at:
            self._pools.sweep(now)

    def pass_on(self, server: S) -> Owner[S] | None:
        """As `release`, of one that may be reused, in the event loop that all who `queue` here have in common.

        Returns:
            Who waits longest, and has *server* now: the caller must call its ``handed``. None: it was released.
        """
        if self._stock.queue and server.alive():
            now = self._clock()
            with self._pools.lock:
                waiter = self._core.hand_over(self._stock) if server.expires_at > now else None
                if waiter is not None:
                    self._counters.waited(now - waiter.since)
            if waiter is not None:
                server.used += now - server.leased_at
                server.leased_at = now
                server.uses += 1
                return cast(CallWaiter[S], waiter).owner
        self.release(server)
        return None

    def discard(self, server: S) -> None:
        """Close a leased server connection and free its place, which lets the next waiter connect.

        Raises:
            ValueError: it was given back before and is still in the pool.
        """
        self._pools.act(self._drop, server)

    def abandon(self, server: S) -> None:
        """As `discard`, but may be called by a destructor, which may run while this thread holds the lock."""
        self._pools.later(self._abandoned, server)

    def expire(self) -> None:
        """Close idle connections beyond ``max_idle`` or ``max_lifetime``, of all pools under the cap.

        At most once per second; `release` calls it, so that no thread is needed. An application that stops
        using the database keeps its idle connections until it calls this, or `close`.
        """
        now = self._clock()
        if now >= self._pools.sweep_at:
            self._pools.sweep(now)

    def saw_ddl(self) -> None:
        """DDL has passed: whatever was prepared for this database before may have other columns now."""
        self._pools.saw_ddl(self.key.database)

    def pause(self) -> None:
        """Serve nobody until `resume`; who asks is queued, as long as his patience lasts. Idle connections close."""
        self._pools.act(self._core.pause, self._stock)

    def resume(self) -> None:
        """Serve again, first those who wait, in their order."""
        self._pools.act(self._core.resume, self._stock)

    def renew(self) -> None:
        """Replace every connection: idle ones are closed now, leased ones when they come back."""
        with self._pools.lock:
            for server in self._stock.servers:
                server.expires_at = 0.0
        self._pools.sweep(self._clock())

    def close(self, timeout: float = 0.0) -> int:
        """Close idle connections and refuse waiters now, leased connections as soon as they are released.

        Args:
            timeout: seconds to wait for the leased ones; default 0. Blocks the thread: under asyncio, 0.

        Returns:
            How many connections are still leased or being opened.
        """
        self._pools.act(self._core.close, self._stock)
        return self._pools.wait_empty([self._stock], timeout)

    def stats(self) -> dict[str, float]:
        """Counters and measures under psycopg_pool's names, times in milliseconds.

        ``pool_max`` 0 means unlimited. ``requests_wait_p50_ms`` and so on are over those requests that had to
        queue, exact to a factor of two.
        """
        with self._pools.lock:
            return self._counters.report(self._stock, self._core.cap)
