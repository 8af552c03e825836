"""The assignment core against its laws, step by step, with no thread and no clock."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from heliosproxy.pool import PoolOptions, Server
from heliosproxy.pool.core import PATIENCE, Core
from heliosproxy.pool.parts import SCAN, Grant, Plan, Stock, Waiter

CAPS = st.sampled_from([None, 1, 2, 3])
OPTIONS = st.builds(
    PoolOptions,
    min_size=st.integers(0, 1),
    max_size=st.sampled_from([None, 1, 2]),
    max_waiting=st.integers(0, 3),
)


class Laws(RuleBasedStateMachine):
    """Random requests over three pools; `close` and `wake` are carried out at once, as the shell would."""

    @initialize(cap=CAPS, options=st.tuples(OPTIONS, OPTIONS, OPTIONS))
    def start(self, cap: int | None, options: tuple[PoolOptions, ...]) -> None:
        self.core: Core[Server] = Core(cap)
        self.now = 0.0
        self.stocks = [Stock[Server](o) for o in options]
        for stock in self.stocks:
            self.core.stocks[stock] = None
        self.waiting: list[Waiter[Server]] = []
        self.connecting: list[Waiter[Server]] = []
        self.held: list[tuple[Stock[Server], Server]] = []
        self.gone: set[Server] = set()
        self.unsettled: list[Stock[Server]] = []
        self.excess = 0

    def perform(self, plan: Plan[Server] | None) -> None:
        if plan is None:
            return
        for server in plan.close:
            assert server not in self.gone, "closed twice"
            assert server not in [held for _, held in self.held], "closed in use"
            self.gone.add(server)
        woken: dict[Stock[Server], list[int]] = {}
        for waiter in plan.wake:
            self.waiting.remove(waiter)
            woken.setdefault(waiter.stock, []).append(waiter.ticket)
            self.receive(waiter)
        for stock, tickets in woken.items():
            assert tickets == sorted(tickets)
            assert all(tickets[-1] < later.ticket for later in self.waiting if later.stock is stock), (
                "overtaken"
            )

    def receive(self, waiter: Waiter[Server]) -> None:
        if waiter.grant is Grant.CONNECT:
            self.connecting.append(waiter)
        elif isinstance(waiter.grant, Server):
            self.held.append((waiter.stock, waiter.grant))
        else:
            assert waiter.grant in (Grant.FULL, Grant.CLOSED)

    @rule(place=st.integers(0, 2), signature=st.sampled_from([None, "a", "b"]))
    def ask(self, place: int, signature: str | None) -> None:
        waiter = Waiter(self.stocks[place], signature)
        plan = self.core.ask(waiter, self.now)
        if waiter.grant is None:
            self.waiting.append(waiter)
        else:
            self.receive(waiter)
        self.perform(plan)

    @rule(place=st.integers(0, 2))
    def take(self, place: int) -> None:
        server = self.stocks[place].take(None)
        if server is not None:
            assert not self.stocks[place].queue, "took past a queue"
            self.held.append((self.stocks[place], server))

    @precondition(lambda self: self.connecting)
    @rule(data=st.data(), works=st.booleans())
    def connect(self, data: Any, works: bool) -> None:
        waiter = self.connecting.pop(data.draw(st.integers(0, len(self.connecting) - 1)))
        if not works:
            self.perform(self.core.withdraw(waiter, self.now))
            return
        server = Server()
        waiter.grant = server
        plan = self.core.connected(waiter.stock, server)
        if plan is None:
            self.held.append((waiter.stock, server))
        self.perform(plan)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), signature=st.sampled_from([None, "a", "b"]), delayed=st.booleans())
    def put(self, data: Any, signature: str | None, delayed: bool) -> None:
        """A delayed settling: put() takes no lock, others may come in between."""
        stock, server = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        server.signature = signature
        if self.core.put(stock, server, self.now):
            self.unsettled.append(stock)
            if not delayed:
                self.settle()

    @rule()
    def settle(self) -> None:
        while self.unsettled:
            self.perform(self.core.settle(self.unsettled.pop(0), self.now))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def drop(self, data: Any) -> None:
        stock, server = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.perform(self.core.drop(stock, server))
        assert server in self.gone

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data: Any) -> None:
        waiter = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
        self.perform(self.core.withdraw(waiter, self.now))
        assert self.core.withdraw(waiter, self.now) is None, "leaving twice is harmless"

    @rule(seconds=st.sampled_from([0.1, PATIENCE, 1000.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.perform(self.core.sweep(self.now))

    @precondition(lambda self: any(not s.closed for s in self.stocks[1:]))
    @rule(place=st.integers(1, 2))
    def close(self, place: int) -> None:
        self.perform(self.core.close(self.stocks[place]))

    @rule(place=st.integers(0, 2))
    def pause(self, place: int) -> None:
        self.perform(self.core.pause(self.stocks[place]))
        assert not self.stocks[place].idle

    @rule(place=st.integers(0, 2))
    def resume(self, place: int) -> None:
        self.settle()
        self.perform(self.core.resume(self.stocks[place]))

    @rule(cap=CAPS)
    def resize(self, cap: int | None) -> None:
        self.excess = 0  # closed when it comes back: until then nothing may grow
        self.perform(self.core.resize(cap))
        self.excess = max(0, self.core.size - (cap or self.core.size))

    @rule()
    def nobody_starves(self) -> None:
        """Whatever happened: once everybody gives back what he has, everybody who waits is served."""
        self.settle()
        for stock in self.stocks:
            self.perform(self.core.resume(stock))
        for _ in range(len(self.waiting) + 1):
            if not self.waiting:
                break
            self.now += PATIENCE
            for waiter in self.connecting.copy():
                self.connecting.remove(waiter)
                self.perform(self.core.withdraw(waiter, self.now))
            for stock, server in self.held.copy():
                self.held.remove((stock, server))
                if self.core.put(stock, server, self.now):
                    self.perform(self.core.settle(stock, self.now))
        assert not self.waiting

    @invariant()
    def places_are_kept(self) -> None:
        if not hasattr(self, "core"):
            return
        core = self.core
        assert core.size == sum(stock.size for stock in self.stocks)
        self.excess = min(self.excess, max(0, core.size - (core.cap or core.size)))
        assert core.cap is None or core.size <= core.cap + self.excess
        for stock in self.stocks:
            held = {server for owner, server in self.held if owner is stock}
            assert stock.servers == held | set(stock.idle), "nothing is lost, nothing is invented"
            assert not held & set(stock.idle)
            assert stock.connecting == sum(w.stock is stock for w in self.connecting)
            assert stock.options.max_size is None or stock.size <= stock.options.max_size
            assert not (stock.closed and stock.queue)
            assert not stock.emptying or not stock.idle or self.unsettled

    @invariant()
    def who_waits_waits_for_a_reason(self) -> None:
        if not hasattr(self, "core"):
            return
        core = self.core
        assert core.waiting == len(self.waiting) == sum(len(stock.queue) for stock in self.stocks)
        assert set(core.queued) == {stock for stock in self.stocks if stock.queue}
        for stock in core.queued:
            limit = stock.options.max_waiting
            assert not limit or len(stock.queue) <= limit
            if self.unsettled:
                continue
            assert not stock.idle
            if stock.may_grow:
                assert not core.has_place
                assert not any(other.idle for other in self.stocks)


class TestLaws(Laws.TestCase):  # type: ignore[misc]  # hypothesis makes the class at run time
    settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def stock_of(core: Core[Server], idle: int, **options: Any) -> Stock[Server]:
    stock = Stock[Server](PoolOptions(**options))
    core.stocks[stock] = None
    for number in range(idle):
        waiter = Waiter(stock)
        core.ask(waiter, 0.0)
        assert waiter.grant is Grant.CONNECT
        server = Server()
        server.returned_at = float(number)
        core.connected(stock, server)
    for server in list(stock.servers):
        core.put(stock, server, server.returned_at)
    return stock


def test_an_equal_signature_is_preferred_within_a_bounded_search() -> None:
    core: Core[Server] = Core(None)
    stock = stock_of(core, SCAN + 2)
    wanted = stock.idle[1]  # as deep as the search goes
    too_deep = stock.idle[0]
    wanted.signature = "tenant"
    too_deep.signature = "other"
    assert stock.take("tenant") is wanted
    assert stock.take("other") is too_deep  # one is gone: now it is near enough
    core.put(stock, too_deep, 0.0)
    stock.idle.remove(too_deep)
    stock.idle[:0] = [too_deep, wanted]
    top = stock.idle[-1]
    assert stock.take("other") is top


def test_the_cap_takes_the_longest_idle_server_of_pools_above_their_min_size() -> None:
    core: Core[Server] = Core(4)
    kept = stock_of(core, 1, min_size=1)
    spare = stock_of(core, 3)
    kept.idle[0].returned_at = -1.0  # idle for longer, but the last one of its pool
    oldest = min(spare.idle, key=lambda server: server.returned_at)
    spare.idle.sort(key=lambda server: server.returned_at)
    waiter = Waiter(stock_of(core, 0))
    plan = core.ask(waiter, 9.0)
    assert waiter.grant is Grant.CONNECT
    assert plan.close == [oldest]


def test_a_busy_pool_keeps_its_server_until_the_other_pools_waiter_was_patient() -> None:
    core: Core[Server] = Core(2)
    busy, other = stock_of(core, 1), stock_of(core, 1)
    mine, theirs = busy.take(None), other.take(None)
    assert mine is not None
    assert theirs is not None
    older, younger, third = Waiter(other), Waiter(busy), Waiter(busy)
    core.ask(older, 10.0)
    core.ask(younger, 10.0)
    core.ask(third, 10.0)
    assert core.put(busy, mine, 10.1)
    assert core.settle(busy, 10.1).close == []
    assert younger.grant is mine
    assert core.put(busy, mine, 10.0 + PATIENCE)
    assert core.settle(busy, 10.0 + PATIENCE).close == [mine]
    assert older.grant is Grant.CONNECT


def test_an_older_waiter_of_the_same_pool_goes_before_a_pool_without_connections() -> None:
    core: Core[Server] = Core(1)
    stock = stock_of(core, 1)
    server = stock.take(None)
    assert server is not None
    older, younger = Waiter(stock), Waiter(stock_of(core, 0))
    core.ask(older, 0.0)
    core.ask(younger, 0.0)
    assert core.put(stock, server, 0.0)
    assert core.settle(stock, 0.0).wake == [older]
    assert core.put(stock, server, 0.0)
    assert core.settle(stock, 0.0).wake == [younger]


def test_a_server_given_back_twice_is_refused() -> None:
    core: Core[Server] = Core(None)
    stock = stock_of(core, 1)
    server = stock.take(None)
    assert server is not None
    core.put(stock, server, 0.0)
    with pytest.raises(ValueError, match="given back before"):
        core.put(stock, server, 0.0)
    with pytest.raises(ValueError, match="given back before"):
        core.drop(stock, server)


def test_a_server_put_back_between_looking_and_queueing_is_found() -> None:
    """put() takes no lock: it may come between ask()'s look at the idle ones and its entry into the queue."""
    core: Core[Server] = Core(1)
    stock = stock_of(core, 1)
    server = stock.take(None)
    assert server is not None

    seen_waiting: list[bool] = []

    class LatePut(Waiter[Server]):
        __slots__ = ()

        def __hash__(self) -> int:  # the moment of entry into the queue
            if not seen_waiting:
                seen_waiting.append(core.put(stock, server, 0.0))
            return id(self)

    waiter = LatePut(stock)
    plan = core.ask(waiter, 0.0)
    assert seen_waiting == [False]
    assert waiter.grant is server
    assert plan.wake == [waiter]


def test_between_a_put_and_its_settling_nobody_overtakes_the_queue() -> None:
    """put() takes no lock: others may ask before the one who put comes back to hand over."""
    core: Core[Server] = Core(1)
    stock = stock_of(core, 1)
    server = stock.take(None)
    assert server is not None
    elder, mine, younger = Waiter(stock_of(core, 0)), Waiter(stock), Waiter(stock_of(core, 0))
    core.ask(elder, 0.0)
    core.ask(mine, 0.0)
    assert core.put(stock, server, 0.0)
    assert stock.take(None) is None
    plan = core.ask(younger, 0.0)
    assert younger.grant is None
    assert plan.wake == [elder]
    assert plan.close == [server]


def test_what_was_granted_before_a_fork_is_no_place_in_the_child() -> None:
    core: Core[Server] = Core(1)
    stock = stock_of(core, 0)
    connecting, waiting = Waiter(stock), Waiter(stock)
    core.ask(connecting, 0.0)
    core.ask(waiting, 0.0)
    core.forget()
    for waiter in (connecting, waiting):
        assert core.withdraw(waiter, 0.0) is None
    assert core.size == core.waiting == stock.size == 0
