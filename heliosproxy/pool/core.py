"""Who gets which server connection: pure decisions over lists, in the manner of httpcore.

No I/O, no lock, no clock: the shell (`pool.py`, `cap.py`) calls the methods under its one lock, passes the
time in, and afterwards, outside the lock, performs the `Plan` that came back.

Only `Stock.take` and `put` need no lock: each is one atomic operation on the list of idle servers. So everybody
claims an idle server by removing it, and may find that somebody else was faster. Whoever puts looks for waiters
*afterwards*; whoever queues looks for idle servers *afterwards*: at least one of the two sees the other.

Laws, which the tests check after every step:

* leased + idle + connecting never exceed a pool's ``max_size`` nor, over all pools, the cap (unless that was
  lowered below what is leased: then they only fall);
* who waits while its pool may grow waits because the cap is reached and nothing is idle anywhere;
* a pool with a queue has nothing idle, and nobody takes past a queue.
"""

from __future__ import annotations

from typing import Generic

from .parts import Grant, Plan, S, Stock, Waiter

PATIENCE = 0.5
"""Seconds a waiter leaves servers that another, busy pool gives back to that pool's own, younger waiters.
Taking one costs a reconnect: without this, two pools at the cap would reconnect at every release."""


# `plan: Plan[S] = Plan()` throughout: calling `Plan[S]()` takes typing's detour of 5 µs.


class Core(Generic[S]):
    """All pools under one cap; *cap* None = no limit."""

    def __init__(self, cap: int | None) -> None:
        self.cap = cap
        self.size = 0
        self.waiting = 0
        self.tickets = 0
        self.epoch = 0
        self.stocks: dict[Stock[S], None] = {}
        self.queued: dict[Stock[S], None] = {}
        self.leavers: list[Waiter[S]] = []

    # Without the lock.

    def put(self, stock: Stock[S], server: S, now: float) -> bool:
        """A leased server comes back to the stack; whether `settle` must now be called, under the lock."""
        if not server.leased:
            self._refuse_twice(stock, server)
            return False
        server.leased = False
        server.returned_at = now
        stock.idle.append(server)
        return self.waiting > 0 or stock.emptying

    # Asking, connecting, leaving.

    def settle(self, stock: Stock[S], now: float, plan: Plan[S] | None = None) -> Plan[S]:
        """Hand what is idle in *stock* to whoever waits; close it if the pool is closed, or paused."""
        if plan is None:
            plan = Plan()
        self._trim(plan)
        while stock.idle:
            mine = None if stock.paused else next(iter(stock.queue), None)
            other = self._eldest(besides=stock)
            if other is not None and mine is not None:
                in_need = other.stock.size == 0 or now - other.since >= PATIENCE
                if other.ticket > mine.ticket or not in_need:
                    other = None
            if other is None and mine is None and not stock.emptying:
                break
            server = stock.claim()
            if server is None:
                break
            if other is not None or mine is None:
                self._remove(stock, server, plan)
                self._refill(plan)
            else:
                server.leased = True
                self._grant(mine, server, plan)
        return plan

    def ask(self, waiter: Waiter[S], now: float) -> Plan[S] | None:
        """Decide at once if possible, else queue: ``waiter.grant`` tells which."""
        stock = waiter.stock
        waiter.since = now
        waiter.epoch = self.epoch
        if stock.queue:
            # Since somebody waits here whoever gives back settles, so nothing lies idle that could be ours.
            if 0 < stock.options.max_waiting <= len(stock.queue):
                waiter.grant = Grant.FULL
            else:
                self._line_up(waiter)
            return None
        plan: Plan[S] = Plan()
        if stock.closed:
            waiter.grant = Grant.CLOSED
        elif (server := stock.take(waiter.signature)) is not None:
            waiter.grant = server
        elif stock.may_grow and self._eldest() is None and self._make_place(plan):
            self._reserve(stock)
            waiter.grant = Grant.CONNECT
        else:
            self._line_up(waiter)
            self.queued[stock] = None
            for other in list(self.stocks):  # put back, without the lock, since we looked?
                if other.idle:
                    self.settle(other, now, plan)
        return plan

    def _line_up(self, waiter: Waiter[S]) -> None:
        self.tickets += 1
        waiter.ticket = self.tickets
        waiter.stock.queue[waiter] = None
        self.waiting += 1

    def hand_over(self, stock: Stock[S]) -> Waiter[S] | None:
        """The longest waiting of *stock*, to have a server of it that comes back; None where others have a say."""
        if len(self.queued) != 1 or stock.emptying or (self.cap is not None and self.size > self.cap):
            return None
        waiter = next(iter(stock.queue), None)
        if waiter is None or not waiter.direct:
            return None
        self._unqueue(waiter)
        waiter.grant = Grant.GONE
        return waiter

    def reserve(self, waiter: Waiter[S]) -> bool:
        """A place for `Pool.warm`, if the pool is below ``min_size`` and nobody has to give way."""
        stock = waiter.stock
        wanted = not stock.closed and stock.size < stock.options.min_size and self.has_place
        if wanted:
            self._reserve(stock)
            waiter.epoch = self.epoch
            waiter.grant = Grant.CONNECT
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
        plan: Plan[S] = Plan()
        self._remove(stock, server, plan)
        return self._refill(plan)

    def swap(self, waiter: Waiter[S], server: S) -> Plan[S]:
        """*waiter* was handed a dead server: close that, and let it connect in its place instead."""
        plan: Plan[S] = Plan()
        self._remove(waiter.stock, server, plan)
        self._reserve(waiter.stock)
        waiter.grant = Grant.CONNECT
        return plan

    def withdraw(self, waiter: Waiter[S], now: float) -> Plan[S] | None:
        """The waiter leaves; what it was granted in that moment goes to the next. Harmless when repeated."""
        grant, waiter.grant = waiter.grant, Grant.GONE
        if waiter.epoch != self.epoch:  # the parent's, before a fork
            return None
        if grant is None:
            self._unqueue(waiter)
        elif grant is Grant.CONNECT:
            return self.refused(waiter.stock)
        elif not isinstance(grant, Grant) and self.put(waiter.stock, grant, now):
            return self.settle(waiter.stock, now)
        return None

    # Closing.

    def sweep(self, now: float) -> Plan[S] | None:
        """Close what is idle beyond ``max_idle`` (above ``min_size``) or beyond its lifetime."""
        plan: Plan[S] = Plan()
        self._trim(plan)
        for stock in self.stocks:
            options = stock.options
            for server in stock.idle.copy():  # longest idle first
                idle_for = now - server.returned_at
                unused = idle_for >= options.max_idle and stock.size > options.min_size
                if (unused or server.expires_at <= now) and stock.claim(server):
                    self._remove(stock, server, plan)
        return self._refill(plan) if plan.close else None

    def close(self, stock: Stock[S]) -> Plan[S]:
        """Close what is idle, send the waiters away; what is leased is closed when it comes back."""
        plan: Plan[S] = Plan()
        stock.closed = stock.emptying = True
        while (server := stock.claim()) is not None:
            self._remove(stock, server, plan)
        for waiter in list(stock.queue):
            self._grant(waiter, Grant.CLOSED, plan)
        return self._refill(plan)

    def pause(self, stock: Stock[S]) -> Plan[S]:
        """Serve nobody of this pool until `resume`: close what is idle now, what is leased when it comes back."""
        plan: Plan[S] = Plan()
        stock.paused = stock.emptying = True
        while (server := stock.claim()) is not None:
            self._remove(stock, server, plan)
        return self._refill(plan)

    def resume(self, stock: Stock[S]) -> Plan[S]:
        """Serve again, first those who wait, in their order."""
        stock.paused, stock.emptying = False, stock.closed
        return self._refill(Plan())

    def resize(self, cap: int | None) -> Plan[S]:
        """Another cap: what is idle above it is closed now, what is leased when it comes back."""
        plan: Plan[S] = Plan()
        self.cap = cap
        self._trim(plan)
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
        self.epoch += 1
        return servers

    # Pieces.

    @property
    def has_place(self) -> bool:
        return self.cap is None or self.size < self.cap

    def _eldest(self, besides: Stock[S] | None = None) -> Waiter[S] | None:
        """The longest waiting of those whose pool may grow."""
        if not self.queued:
            return None
        heads = [next(iter(s.queue)) for s in self.queued if s is not besides and s.may_grow]
        return min(heads, key=lambda waiter: waiter.ticket, default=None)

    def _make_place(self, plan: Plan[S]) -> bool:
        """Whether there is a place, if need be after *plan*.

        Gives up the longest idle server of all pools, of those above their ``min_size`` first.
        """
        while not self.has_place:
            if not self._give_up_one(plan):
                return False
        return True

    def _trim(self, plan: Plan[S]) -> None:
        """Give up what is idle above the cap, after that was lowered."""
        while self.cap is not None and self.size > self.cap and self._give_up_one(plan):
            pass

    def _give_up_one(self, plan: Plan[S]) -> bool:
        """Close one idle server, or find that somebody was faster; False when there is none."""
        idle = [(stock, stock.idle[:1]) for stock in self.stocks]
        some = [(stock, bottom[0]) for stock, bottom in idle if bottom]
        if not some:
            return False
        stock, server = min(some, key=lambda s: (s[0].size <= s[0].options.min_size, s[1].returned_at))
        if stock.claim(server):
            self._remove(stock, server, plan)
        return True

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
        del stock.queue[waiter]
        self.waiting -= 1
        if not stock.queue:
            del self.queued[stock]

    def _remove(self, stock: Stock[S], server: S, plan: Plan[S]) -> None:
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
