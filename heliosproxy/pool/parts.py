"""What the assignment core moves around: a pool's stock, who waits, what is granted, what is left to do."""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from typing import Generic, TypeVar

from .options import PoolOptions
from .server import Server

S = TypeVar("S", bound=Server)

SCAN = 8
"""How far below the top of the stack an idle server with the wanted signature is looked for."""


class Grant(Enum):
    """What a waiter is told instead of being given a server."""

    CONNECT = "it has a place and may open a connection in it"
    FULL = "max_waiting are waiting already"
    CLOSED = "the pool was closed"
    GONE = "it has left: timed out, cancelled, or served"


class Waiter(Generic[S]):
    """One request. Its grant stays here until it is used, so that it can always be handed on from here.

    Attributes:
        grant: None while queued.
        since: when it asked, seconds on the pool's clock.
        ticket: its number over all pools; 0 if it never had to queue.
        epoch: how many forks there were before it asked.
        direct: it may be handed a server by who gives that back, without being woken.
    """

    direct = False

    __slots__ = ("epoch", "grant", "signature", "since", "stock", "ticket")

    def __init__(self, stock: Stock[S], signature: object = None) -> None:
        self.stock = stock
        self.signature = signature
        self.grant: S | Grant | None = None
        self.since = 0.0
        self.ticket = 0
        self.epoch = 0

    def wake(self) -> bool:
        """Called outside the lock after ``grant`` was set; False if this waiter can no longer be reached."""
        raise NotImplementedError


class Plan(Generic[S]):
    """What is left to do outside the lock: first close, so that the place is really free, then wake."""

    __slots__ = ("close", "wake")

    def __init__(self) -> None:
        self.close: list[S] = []
        self.wake: list[Waiter[S]] = []


class Stock(Generic[S]):
    """One pool's servers and queue.

    Attributes:
        closed: nobody is served any more.
        paused: nobody is served for now, and whoever asks is queued.
        emptying: either of them, so what comes back is closed.
    """

    __slots__ = (
        "closed",
        "connecting",
        "emptying",
        "idle",
        "options",
        "past_used",
        "past_uses",
        "paused",
        "queue",
        "servers",
    )

    def __init__(self, options: PoolOptions) -> None:
        self.options = options
        self.closed = self.paused = self.emptying = False
        self.reset()

    def reset(self) -> None:
        self.idle: list[S] = []
        self.servers: set[S] = set()
        self.connecting = 0
        self.queue: OrderedDict[Waiter[S], None] = OrderedDict()
        self.past_uses = 0
        self.past_used = 0.0

    def take(self, signature: object) -> S | None:
        """An idle server, now leased, or None. Prefers an equal signature, then the most recently used.

        Needs no lock: the list's own operations are atomic. None, too, when somebody is queued.
        """
        idle = self.idle
        if not idle or self.queue:
            return None
        try:
            server = None if idle[-1].signature == signature else self._like(signature)
            if server is None:
                server = idle.pop()
        except IndexError:  # somebody was faster
            return None
        server.leased = True
        return server

    def claim(self, server: S | None = None) -> S | None:
        """Remove *server*, or else the longest idle one, from the idle ones; None if somebody was faster."""
        try:
            if server is None:
                return self.idle.pop(0)
            self.idle.remove(server)
        except (IndexError, ValueError):
            return None
        return server

    def _like(self, signature: object) -> S | None:
        for server in self.idle[-SCAN - 1 : -1][::-1]:
            if server.signature == signature and self.claim(server):
                return server
        return None

    @property
    def size(self) -> int:
        return len(self.servers) + self.connecting

    @property
    def may_grow(self) -> bool:
        if self.paused:
            return False
        return self.options.max_size is None or self.size < self.options.max_size
