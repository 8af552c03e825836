"""Who gets which server connection: pure decisions over lists, in the manner of httpcore.

No I/O, no lock, no clock: the shell (`pool.py`, `cap.py`) calls every method under its one lock, passes the
time in, and afterwards, outside the lock, performs the `Plan` that came back.

Laws, which the tests check after every step:

* leased + idle + connecting never exceed a pool's ``max_size`` nor, over all pools, the cap;
* who waits while its pool may grow waits because the cap is reached and nothing is idle anywhere;
* a pool with a queue has nothing idle: so taking what is idle never overtakes anybody.
"""

from __future__ import annotations

from typing import Generic

from .parts import Grant, Plan, S, Stock, Waiter

SCAN = 8
"""How far below the top of the stack an idle server with the wanted signature is looked for."""

PATIENCE = 0.5
"""Seconds a waiter leaves servers that another, busy pool gives back to that pool's own, younger waiters.
Taking one costs a reconnect: without this, two pools at the cap would reconnect at every release."""


class Core(Generic[S]):
    """All pools under one cap; *cap* None = no limit."""

    def __init__(self, cap: int | None) -> None:
        self.cap = cap
        self.size = 0
        self.waiting = 0
        self.tickets = 0
        self.stocks: dict[Stock[S], None] = {}
        self.queued: dict[Stock[S], None] = {}
        self.leavers: list[Waiter[S]] = []

    # The hot path: nobody waits, something is idle.

    def take(self, stock: Stock[S], signature: object) -> S | None:
        """An idle server, now leased, or None. Prefers an equal signature, then the most recently used."""
        idle = stock.idle
        if not idle:
            return None
        server = idle[-1]
        if server.signature == signature:
            idle.pop()
        else:
            for place in range(len(idle) - 2, max(len(idle) - 2 - SCAN, -1), -1):
                if idle[place].signature == signature:
                    server = idle.pop(place)
                    break
            else:
                idle.pop()
        server.leased = True
        return server

    def put(self, stock: Stock[S], server: S, now: float) -> Plan[S] | None:
        """A leased server comes back: to the stack, or to whoever waits."""
        if not server.leased:
            self._refuse_twice(stock, server)
            return None
        if self.waiting or stock.closed:
            return self._hand_over(stock, server, now)
        server.leased = False
        server.returned_at = now
        stock.idle.append(server)
        return None

    # Asking, connecting, leaving.

    def ask(self, waiter: Waiter[S], now: float) -> Plan[S] | None:
        """Decide at once if possible, else queue: ``waiter.grant`` tells which."""
        stock = waiter.stock
        waiter.since = now
        if stock.closed:
            waiter.grant = Grant.CLOSED
        elif (server := self.take(stock, waiter.signature)) is not None:
            waiter.grant = server
        elif stock.may_grow and (plan := self._make_place()) is not None:
            self._reserve(stock)
            waiter.grant = Grant.CONNECT
            return plan if plan.close else None
        elif 0 < stock.options.max_waiting <= len(stock.queue):
            waiter.grant = Grant.FULL
        else:
            self.tickets += 1
            waiter.ticket = self.tickets
            stock.queue[waiter] = None
            self.queued[stock] = None
            self.waiting += 1
        return None

    def reserve(self, stock: Stock[S]) -> bool:
        """A place for `Pool.warm`, if the pool is below ``min_size`` and nobody has to give way."""
        wanted = not stock.closed and stock.size < stock.options.min_size and self.has_place
        if wanted:
            self._reserve(stock)
        return wanted

    def connected(self, stock: Stock[S], server: S) -> Plan[S] | None:
        """A reserved place is filled; the server counts as leased (and is closed if the pool is, by now)."""
        stock.connecting -= 1
        stock.servers.add(server)
        server.leased = True
        return self.drop(stock, server) if stock.closed else None

    def refused(self, stock: Stock[S]) -> Plan[S]:
        """Connecting in a reserved place failed: the place goes to the next."""
        stock.connecting -= 1
        self.size -= 1
        return self._refill(Plan())

    def drop(self, stock: Stock[S], server: S) -> Plan[S] | None:
        """A leased server is of no more use: close it and let the next waiter connect."""
        if not server.leased:
            self._refuse_twice(stock, server)
            return None
        plan = Plan[S]()
        self._remove(stock, server, plan)
        return self._refill(plan)

    def swap(self, waiter: Waiter[S], server: S) -> Plan[S]:
        """*waiter* was handed a dead server: close that, and let it connect in its place instead."""
        plan = Plan[S]()
        self._remove(waiter.stock, server, plan)
        self._reserve(waiter.stock)
        waiter.grant = Grant.CONNECT
        return plan

    def withdraw(self, waiter: Waiter[S], now: float) -> Plan[S] | None:
        """The waiter leaves; what it was granted in that moment goes to the next. Harmless when repeated."""
        grant, waiter.grant = waiter.grant, Grant.GONE
        if grant is None:
            self._unqueue(waiter)
        elif grant is Grant.CONNECT:
            return self.refused(waiter.stock)
        elif not isinstance(grant, Grant):
            return self.put(waiter.stock, grant, now)
        return None

    # Closing.

    def sweep(self, now: float) -> Plan[S] | None:
        """Close what is idle beyond ``max_idle`` (above ``min_size``) or beyond its lifetime."""
        plan = Plan[S]()
        for stock in self.stocks:
            options = stock.options
            for server in stock.idle.copy():  # longest idle first
                idle_for = now - server.returned_at
                unused = idle_for >= options.max_idle and stock.size > options.min_size
                if unused or server.expires_at <= now:
                    self._remove(stock, server, plan)
        return self._refill(plan) if plan.close else None

    def close(self, stock: Stock[S]) -> Plan[S]:
        """Close what is idle, send the waiters away; what is leased is closed when it comes back."""
        plan = Plan[S]()
        stock.closed = True
        for server in stock.idle.copy():
            self._remove(stock, server, plan)
        for waiter in list(stock.queue):
            self._grant(waiter, Grant.CLOSED, plan)
        return self._refill(plan)

    def forget(self) -> list[S]:
        """In a forked child: empty every stock as if it were new; returns the servers, the parent's."""
        servers = [server for stock in self.stocks for server in stock.servers]
        for server in servers:
            server.leased = False
        for stock in self.stocks:
            stock.reset()
        self.stocks = {stock: None for stock in self.stocks if not stock.closed}
        self.queued = {}
        self.leavers = []
        self.size = self.waiting = 0
        return servers

    # Pieces.

    @property
    def has_place(self) -> bool:
        return self.cap is None or self.size < self.cap

    def _hand_over(self, stock: Stock[S], server: S, now: float) -> Plan[S] | None:
        plan = Plan[S]()
        mine = next(iter(stock.queue), None)
        other = self._eldest(besides=stock)
        if other is not None and mine is not None:
            in_need = other.stock.size == 0 or now - other.since >= PATIENCE
            if other.ticket > mine.ticket or not in_need:
                other = None
        if other is not None or stock.closed:
            self._remove(stock, server, plan)
            return self._refill(plan)
        if mine is not None:
            self._grant(mine, server, plan)
            return plan
        server.leased = False
        server.returned_at = now
        stock.idle.append(server)
        return None

    def _eldest(self, besides: Stock[S] | None = None) -> Waiter[S] | None:
        """The longest waiting of those whose pool may grow."""
        heads = [next(iter(s.queue)) for s in self.queued if s is not besides and s.may_grow]
        return min(heads, key=lambda waiter: waiter.ticket, default=None)

    def _make_place(self) -> Plan[S] | None:
        """A plan after which there is a place; None if there cannot be one.

        Gives up the longest idle server of all pools, of those above their ``min_size`` first.
        """
        plan = Plan[S]()
        if self.has_place:
            return plan
        idle = [stock for stock in self.stocks if stock.idle]
        if not idle:
            return None
        stock = min(idle, key=lambda s: (s.size <= s.options.min_size, s.idle[0].returned_at))
        self._remove(stock, stock.idle[0], plan)
        return plan

    def _refill(self, plan: Plan[S]) -> Plan[S]:
        while self.queued and self.has_place:
            waiter = self._eldest()
            if waiter is None:
                break
            self._reserve(waiter.stock)
            self._grant(waiter, Grant.CONNECT, plan)
        # Whoever waits for pools to empty looks for himself whether they have.
        plan.wake += self.leavers
        self.leavers = []
        for stock in [s for s in self.stocks if s.closed and not s.size]:
            del self.stocks[stock]
        return plan

    def _reserve(self, stock: Stock[S]) -> None:
        stock.connecting += 1
        self.size += 1

    def _grant(self, waiter: Waiter[S], grant: S | Grant, plan: Plan[S]) -> None:
        self._unqueue(waiter)
        waiter.grant = grant
        plan.wake.append(waiter)

    def _unqueue(self, waiter: Waiter[S]) -> None:
        stock = waiter.stock
        # A queue that was emptied meanwhile (a forked child) no longer knows it.
        if waiter in stock.queue:
            del stock.queue[waiter]
            self.waiting -= 1
            if not stock.queue:
                del self.queued[stock]

    def _remove(self, stock: Stock[S], server: S, plan: Plan[S]) -> None:
        if not server.leased:
            stock.idle.remove(server)
        server.leased = False
        stock.servers.remove(server)
        stock.past_uses += server.uses
        stock.past_used += server.used
        self.size -= 1
        plan.close.append(server)

    def _refuse_twice(self, stock: Stock[S], server: S) -> None:
        # Not leased and not ours any more is harmless: closed or forked away meanwhile.
        if server in stock.servers:
            raise ValueError("this server connection was given back before; somebody else may be using it")
