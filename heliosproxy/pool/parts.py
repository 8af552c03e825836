"""What the assignment core moves around: a pool's stock, who waits, what is granted, what is left to do."""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from typing import Generic, TypeVar

from .options import PoolOptions
from .server import Server

S = TypeVar("S", bound=Server)


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
    """

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
    """One pool's servers and queue."""

    __slots__ = ("closed", "connecting", "idle", "options", "past_used", "past_uses", "queue", "servers")

    def __init__(self, options: PoolOptions) -> None:
        self.options = options
        self.closed = False
        self.reset()

    def reset(self) -> None:
        self.idle: list[S] = []
        self.servers: set[S] = set()
        self.connecting = 0
        self.queue: OrderedDict[Waiter[S], None] = OrderedDict()
        self.past_uses = 0
        self.past_used = 0.0

    @property
    def size(self) -> int:
        return len(self.servers) + self.connecting

    @property
    def may_grow(self) -> bool:
        return self.options.max_size is None or self.size < self.options.max_size
