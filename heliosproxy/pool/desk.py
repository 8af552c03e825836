"""The desk of a pool: the steps of leasing and giving back, and what they count.

Until the last step of a lease its grant stays with the waiter, where `_give_up` finds it whatever went wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, cast

from . import trouble
from .options import PoolOptions
from .parts import Grant, Plan, S, Stock, Waiter
from .stats import Counters

if TYPE_CHECKING:
    from .cap import Pools


class Desk(Generic[S]):
    """What threads and tasks do alike; `Pool` adds the waiting, once for each."""

    __slots__ = (
        "__weakref__",
        "_check",
        "_clock",
        "_core",
        "_counters",
        "_pools",
        "_stock",
        "ddl_epoch",
        "name",
        "options",
    )

    def __init__(self, pools: Pools, options: PoolOptions, name: str) -> None:
        self.options = options
        self.name = name
        self.ddl_epoch = 0
        self._pools = pools
        self._core = pools.core
        self._clock = pools.clock
        self._check = options.check
        self._stock: Stock[S] = Stock(options)
        self._counters = Counters()

    def start_anew(self) -> None:
        """In a forked child: counters at zero."""
        self._counters = Counters()

    def _queued(self, waiter: Waiter[S]) -> bool:
        self._pools.act(self._core.ask, waiter, self._clock())
        return waiter.grant is None

    def _must_connect(self, waiter: Waiter[S]) -> bool:
        """After the wait, however it ended: look at the grant. Raises if there is none to hope for."""
        now = self._clock()
        with self._pools.lock:
            grant = waiter.grant
            if waiter.ticket:
                self._counters.waited(now - waiter.since)
            if grant is None:
                raise trouble.timed_out(self.name, self._stock, self._core, now - waiter.since)
            if grant is Grant.FULL:
                raise trouble.too_many(self.name, self._stock)
            if grant is Grant.CLOSED:
                raise trouble.closed(self.name, self._pools.closed)
        if isinstance(grant, Grant):
            return True
        if grant.expires_at > now and (not self._check or grant.alive()):
            return False
        self._pools.act(self._swap, waiter, grant, grant.expires_at > now)
        return True

    def _adopt(self, waiter: Waiter[S], server: S, started: float) -> S:
        """Fill the place that *waiter* holds; the server is leased to it."""
        now = self._clock()
        server.pool = cast(Any, self)  # this desk is always a Pool
        server.created_at = now
        server.expires_at = now + self.options.max_lifetime * (1.0 - 0.1 * self._pools.random())
        server.ddl_epoch = self.ddl_epoch
        server.uses = 0
        server.used = 0.0
        self._pools.act(self._connected, waiter, server, now - started)
        if waiter.grant is Grant.CLOSED:
            raise trouble.closed(self.name, self._pools.closed)
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
