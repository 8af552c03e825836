"""The pool of one key: the shell around the assignment core, for threads and asyncio tasks alike.

Decisions are taken under one lock, shared by all pools under one cap, except the two of the hot path, which
need none (see `core.py`); connecting, closing, testing and waking happen outside it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Generic

from . import trouble
from .key import PoolKey
from .options import PoolOptions
from .parts import Grant, Plan, S, Stock, Waiter
from .stats import Counters
from .waiters import AsyncWaiter, ThreadWaiter

if TYPE_CHECKING:
    from .cap import Pools


class Pool(Generic[S]):
    """Server connections that may serve each other's sessions. Made by `Pools.pool`.

    Attributes:
        key, options: what it was made for, and with.
        name: for messages and statistics; unique within its `Pools`.
        ddl_epoch: raised by whoever learns of DDL, so that connections re-prepare; new ones start with it.
        connect, connect_async: open one server connection; whatever they raise reaches who asked for it.
    """

    __slots__ = (
        "__weakref__",
        "_check",
        "_clock",
        "_core",
        "_counters",
        "_lock",
        "_pools",
        "_stock",
        "connect",
        "connect_async",
        "ddl_epoch",
        "key",
        "name",
        "options",
    )

    def __init__(
        self,
        pools: Pools,
        key: PoolKey,
        options: PoolOptions,
        connect: Callable[[Pool[S]], S],
        connect_async: Callable[[Pool[S]], Awaitable[S]],
        name: str,
    ) -> None:
        self.key = key
        self.options = options
        self.connect = connect
        self.connect_async = connect_async
        self.name = name
        self.ddl_epoch = 0
        self._pools = pools
        self._core = pools.core
        self._clock = pools.clock
        self._check = options.check
        self._stock: Stock[S] = Stock(options)
        self.renew()

    def renew(self) -> None:
        """Take over the lock, with counters at zero: when new, and in a forked child."""
        self._lock = self._pools.lock
        self._counters = Counters()

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
            server: S | None = self._core.take(self._stock, signature)
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

    def warm(self) -> None:
        """Open connections until ``min_size`` is reached or the cap is; blocks. Otherwise use opens them.

        Raises:
            psycopg.OperationalError: connecting failed; what was opened before stays.
        """
        while True:
            waiter = ThreadWaiter(self._stock)
            with self._lock:
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
        with self._lock:
            return self._counters.report(self._stock, self._core.cap)

    # The steps of a lease. Until the last one the grant stays with the waiter, where `_give_up` finds it.

    def _queued(self, waiter: Waiter[S]) -> bool:
        self._pools.act(self._core.ask, waiter, self._clock())
        return waiter.grant is None

    def _must_connect(self, waiter: Waiter[S]) -> bool:
        """After the wait, however it ended: look at the grant. Raises if there is none to hope for."""
        now = self._clock()
        with self._lock:
            grant = waiter.grant
            if waiter.ticket:
                self._counters.waited(now - waiter.since)
            if grant is None:
                raise trouble.timed_out(self.name, self._stock, self._core, now - waiter.since)
            if grant is Grant.FULL:
                raise trouble.too_many(self.name, self._stock)
            if grant is Grant.CLOSED:
                raise trouble.closed(self.name)
        if isinstance(grant, Grant):
            return True
        if grant.expires_at > now and (not self._check or grant.alive()):
            return False
        self._pools.act(self._swap, waiter, grant, grant.expires_at > now)
        return True

    def _adopt(self, waiter: Waiter[S], server: S, started: float) -> S:
        """Fill the place that *waiter* holds; the server is leased to it."""
        now = self._clock()
        server.pool = self
        server.created_at = now
        server.expires_at = now + self.options.max_lifetime * (1.0 - 0.1 * self._pools.random())
        server.ddl_epoch = self.ddl_epoch
        server.uses = 0
        server.used = 0.0
        self._pools.act(self._connected, waiter, server, now - started)
        if waiter.grant is Grant.CLOSED:
            raise trouble.closed(self.name)
        return self._accept(waiter)

    def _accept(self, waiter: Waiter[S]) -> S:
        server = waiter.grant
        if server is None or isinstance(server, Grant):
            raise AssertionError(f"no server connection was granted but {server}")
        server.leased_at = self._clock()
        server.uses += 1
        waiter.grant = Grant.GONE
        return server

    def _give_up(self, waiter: Waiter[S]) -> None:
        # GeneratorExit comes from the garbage collector, which may run while this thread holds the lock.
        self._pools.later(self._withdraw, waiter, self._clock())

    # Under the lock.

    def _drop(self, server: S, bad: bool = False, lost: bool = False) -> Plan[S] | None:
        if server.leased:
            self._counters.returns_bad += bad
            self._counters.connections_lost += lost
            if not lost:
                server.used += self._clock() - server.leased_at
        return self._core.drop(self._stock, server)

    def _abandoned(self, server: S) -> Plan[S] | None:
        return self._drop(server, True) if server.leased else None

    def _swap(self, waiter: Waiter[S], server: S, lost: bool) -> Plan[S]:
        self._counters.connections_lost += lost
        return self._core.swap(waiter, server)

    def _connected(self, waiter: Waiter[S], server: S, seconds: float) -> Plan[S] | None:
        self._counters.connections_num += 1
        self._counters.connections_time += seconds
        waiter.grant = Grant.CLOSED if self._stock.closed else server
        return self._core.connected(self._stock, server)

    def _withdraw(self, waiter: Waiter[S], now: float) -> Plan[S] | None:
        self._counters.requests_errors += 1
        if waiter.grant is Grant.CONNECT:
            self._counters.connections_num += 1
            self._counters.connections_errors += 1
        return self._core.withdraw(waiter, now)
