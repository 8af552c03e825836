"""One real connection, as the pool sees it; what it consists of (PGconn, wire codec) is the edge's affair."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .pool import Pool


class Server:
    """A server connection; the edge subclasses it. Whoever leases it is its only user until it is released.

    Attributes:
        pool: the pool it belongs to; set when the pool adopts it.
        signature: the session state it carries, compared with ``==`` under the pool's lock (so: plain tuples,
            strings, None); None = fresh. Its user updates it before releasing.
        created_at, leased_at, returned_at: seconds on the pool's clock.
        expires_at: seconds on the pool's clock, then it is not leased again; its user may lower it.
        leased: whether somebody uses it now.
        ddl_epoch: the pool's ``ddl_epoch`` this connection has caught up with.
        uses: how often it was leased.
        used: seconds it was leased, finished leases only.
    """

    __slots__ = (
        "created_at",
        "ddl_epoch",
        "expires_at",
        "leased",
        "leased_at",
        "pool",
        "returned_at",
        "signature",
        "used",
        "uses",
    )

    pool: Pool[Any]
    signature: object

    def __init__(self) -> None:
        self.signature = None
        self.created_at = self.leased_at = self.returned_at = 0.0
        self.expires_at = inf
        self.leased = False
        self.ddl_epoch = 0
        self.uses = 0
        self.used = 0.0

    def alive(self) -> bool:
        """Whether it still looks usable. Called at every lease: must be cheap, not block, not raise."""
        return True

    def close(self) -> None:
        """Close it. Must not block for long nor raise; called outside the pool's lock, in any thread."""

    def orphan(self) -> None:
        """In a forked child: forget the socket, which is the parent's, without touching it."""
