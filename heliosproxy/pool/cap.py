"""All pools of one Proxy, under one cap, and what they share: lock, clock, sweeping, forking.

The lock is an ordinary one, never held while calling out. Destructors are special: the garbage collector may
start one in a thread that holds the lock. They go through `later`, which never blocks: it leaves the decision
in ``deferred``, and whoever holds the lock looks there after releasing it.
"""

from __future__ import annotations

import logging
import os
import random as random_module
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any
from weakref import WeakSet

from ..errors import PoolClosed
from .core import Core
from .key import PoolKey
from .options import PoolOptions
from .parts import Grant, Plan, S, Stock
from .pool import Pool
from .server import Server
from .waiters import ThreadWaiter

logger = logging.getLogger("heliosproxy.pool")

SWEEP_EVERY = 1.0
"""Seconds between two looks for connections that were idle for too long."""


class Pools:
    """Every pool of one Proxy.

    Attributes:
        server_connections: the cap over all pools together; None = unlimited.
        on_ddl: called with the name of a database in which DDL has passed; None = nobody else need know.
        on_fork: called in a forked child, in order, after its pools were emptied; an error is logged.
        closed: whether `close` was called.
    """

    def __init__(
        self,
        server_connections: int | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self.server_connections = server_connections
        self.clock = clock
        self.random = random
        self.core: Core[Any] = Core(server_connections)
        self.lock = threading.Lock()
        self.deferred: deque[Callable[[], Plan[Any] | None]] = deque()
        self.sweep_at = 0.0
        self.on_ddl: Callable[[str], None] | None = None
        self.on_fork: list[Callable[[], None]] = []
        self.closed = False
        self._by_key: dict[PoolKey, Pool[Any]] = {}
        self._every: WeakSet[Pool[Any]] = WeakSet()  # closed ones too, while somebody still holds them
        _watch_forks(self)

    def pool(
        self,
        key: PoolKey,
        options: PoolOptions,
        connect: Callable[[Pool[S]], S],
        connect_async: Callable[[Pool[S]], Awaitable[S]],
        name: str = "",
    ) -> Pool[S]:
        """The pool of *key*, made at first asking, and again after it was closed.

        Args:
            connect, connect_async: open one connection for the pool; those of the first asking are kept.
            name: for messages and statistics; "" (default) = "database as user on node";
                numbered if another pool has it.

        Raises:
            PoolClosed: the Proxy is closed, or was while asking.
            ValueError: the pool exists with other options.
        """
        pool = self._by_key.get(key)
        if pool is None or pool.closed:
            with self.lock:
                pool = self._by_key.get(key)
                if self.closed:
                    raise PoolClosed("the Proxy was closed: open a new one")
                if pool is None or pool.closed:
                    pool = Pool(
                        self, key, options, connect, connect_async, self._unique(name or str(key), key)
                    )
                    self._by_key[key] = pool
                    self._every.add(pool)
                    self.core.stocks[pool.stock] = None
        if pool.options != options:
            raise ValueError(f"pool {pool.name} exists with other options: {pool.options}")
        return pool

    def forget(self, pool: Pool[Any]) -> None:
        """Close *pool*, and remember it no more: nothing ever connected by its key."""
        pool.close()
        with self.lock:
            if self._by_key.get(pool.key) is pool:
                del self._by_key[pool.key]

    def __iter__(self) -> Iterator[Pool[Any]]:
        return iter(list(self._by_key.values()))

    def close(self, timeout: float = 5.0) -> int:
        """Close every pool; see `Pool.close`. Blocks the thread up to *timeout* seconds while any is leased.

        Returns:
            How many connections are still leased or being opened; they are closed when they come back.
        """
        with self.lock:
            self.closed = True
        for pool in self:
            pool.close()
        with self.lock:
            stocks = list(self.core.stocks)  # those closed before, and made anew, as well
        return self.wait_empty(stocks, timeout)

    def saw_ddl(self, database: str, *, pass_on: bool = True) -> None:
        """Let the connections to *database* prepare anew what they know."""
        for pool in self:
            if pool.key.database == database:
                pool.ddl_epoch += 1
        if pass_on and self.on_ddl is not None:
            self.on_ddl(database)

    def resize(self, server_connections: int | None) -> None:
        """Another cap. What is above it goes as soon as it is idle."""
        self.server_connections = server_connections
        self.act(self.core.resize, server_connections)

    def stats(self) -> dict[str, Any]:
        """``server_connections`` (the cap or None), ``size`` and ``waiting`` over all, and each pool's."""
        return {
            "server_connections": self.server_connections,
            "size": self.core.size,
            "waiting": self.core.waiting,
            "pools": {pool.name: pool.stats() for pool in self},
        }

    def _unique(self, name: str, key: PoolKey) -> str:
        # Same database, user and node, but other parameters or environment.
        taken = {pool.name for other, pool in self._by_key.items() if other != key}
        number, unique = 1, name
        while unique in taken:
            number += 1
            unique = f"{name} ({number})"
        return unique

    # For the pools.

    def act(self, decide: Callable[..., Plan[Any] | None], *args: Any) -> None:
        """Decide under the lock, perform outside it."""
        with self.lock:
            plan = decide(*args)
        if plan is not None:
            self.carry_out(plan)
        if self.deferred:
            self.catch_up()

    def later(self, decide: Callable[..., Plan[Any] | None], *args: Any) -> None:
        """As `act`, but safe in a destructor: now if the lock is free, else after its holder is done."""
        self.deferred.append(partial(decide, *args))
        self.catch_up()

    def catch_up(self) -> None:
        """Take the deferred decisions, unless the lock is held: then its holder will."""
        while self.deferred and self.lock.acquire(blocking=False):
            plans = []
            try:
                while self.deferred:
                    plans.append(self.deferred.popleft()())
            finally:
                self.lock.release()
            for plan in plans:
                if plan is not None:
                    self.carry_out(plan)

    def carry_out(self, plan: Plan[Any]) -> None:
        """Close and wake. The grant of a waiter that cannot be reached goes to the next one."""
        plans = [plan]
        while plans:
            plan = plans.pop()
            for server in plan.close:
                server.close()
            for waiter in plan.wake:
                if not waiter.wake():
                    with self.lock:
                        further = self.core.withdraw(waiter, self.clock())
                    if further is not None:
                        plans.append(further)

    def sweep(self, now: float) -> None:
        """Close what is idle for too long, in all pools: the pools nobody uses are the ones that have it."""
        self.sweep_at = now + SWEEP_EVERY
        self.act(self.core.sweep, now)

    def wait_empty(self, stocks: Sequence[Stock[Any]], timeout: float) -> int:
        """Wait until these closed stocks are empty, at most *timeout* seconds; returns what is left."""
        end = self.clock() + timeout
        in_time = True
        while True:
            with self.lock:
                left = sum(stock.size for stock in stocks)
                if not left or not in_time or timeout <= 0:
                    return left
                waiter = ThreadWaiter[Any](stocks[0])
                waiter.grant = Grant.GONE
                self.core.leavers.append(waiter)
            in_time = waiter.wait(end - self.clock())

    def forked(self) -> None:
        """In a forked child: the servers are the parent's. Start anew, without touching their sockets."""
        self.lock = threading.Lock()  # another thread of the parent may have held the old one
        self.deferred = deque()
        servers = self.core.forget()
        for pool in self._every:
            pool.start_anew()
        _parents.extend(servers)
        for step in [*(server.orphan for server in servers), *self.on_fork]:
            try:
                step()
            except Exception:  # the others must be forgotten all the same
                logger.exception("after fork: %r failed", step)


_forkable: WeakSet[Pools] | None = None
_forkable_lock = threading.Lock()
_parents: list[Server] = []
"""In a child: its parent's servers, referenced for ever, so that no destructor sends Terminate for them."""


def _watch_forks(pools: Pools) -> None:
    # Registered with the first Pools: importing does nothing.
    global _forkable
    with _forkable_lock:
        if _forkable is None:
            _forkable = WeakSet()
            os.register_at_fork(after_in_child=_after_fork)
        _forkable.add(pools)


def _after_fork() -> None:
    global _forkable_lock
    _forkable_lock = threading.Lock()
    for pools in list(_forkable or ()):
        pools.forked()
