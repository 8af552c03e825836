"""The channels a session listens to where one connection listens for many, and how transactions undo that.

LISTEN and UNLISTEN take effect at COMMIT; ROLLBACK and ROLLBACK TO undo them (PostgreSQL, SQL Commands, LISTEN). So
do they with the session's own NOTIFY, which is remembered until it was heard: by the number of the server process
alone nobody could tell it from that of another client who had the same server connection.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .savepoints import Savepoints

NONE: frozenset[bytes] = frozenset()
MOST = 1000
"""Notifications of its own that a session remembers; those beyond are heard as another's."""


class Notice(NamedTuple):
    """What tells a notification: the process number of the server that sent it, channel and payload."""

    pid: int
    channel: bytes
    payload: bytes


class Channels:
    """The channels of one session.

    Attributes:
        now: as its open transaction has them; outside of one, those it listens to.
    """

    __slots__ = ("_at_begin", "_fresh", "_own", "_savepoints", "_sent", "now")

    def __init__(self, savepoints: Iterable[str] = ()) -> None:
        """Nothing yet; *savepoints* are those of the open transaction."""
        self.now = NONE
        self._at_begin: frozenset[bytes] | None = None
        self._sent: tuple[Notice, ...] = ()
        self._own: dict[Notice, int] = {}
        self._fresh: list[Notice] = []
        self._savepoints: Savepoints[tuple[frozenset[bytes], tuple[Notice, ...]]] = Savepoints()
        for name in savepoints:
            self.savepoint(name)

    @property
    def pending(self) -> bool:
        """Whether the open transaction has changed something."""
        return self._at_begin is not None and self._at_begin != self.now

    @property
    def active(self) -> frozenset[bytes]:
        """Those it listens to, whatever its open transaction will make of them."""
        return self.now if self._at_begin is None else self._at_begin

    def listen(self, channel: bytes, *, in_transaction: bool) -> None:
        """LISTEN *channel*; again is nothing."""
        if channel not in self.now:
            self._change(self.now | {channel}, in_transaction)

    def unlisten(self, channel: bytes | None, *, in_transaction: bool) -> None:
        """UNLISTEN *channel*; None is every one."""
        if channel is None:
            self._change(NONE, in_transaction)
        elif channel in self.now:
            self._change(self.now - {channel}, in_transaction)

    def _change(self, now: frozenset[bytes], in_transaction: bool) -> None:
        if in_transaction and self._at_begin is None:
            self._at_begin = self.now
        self.now = now
        if not in_transaction:
            self.end()

    def sent(self, notice: Notice, *, in_transaction: bool) -> None:
        """The session has sent *notice* itself; equal ones of a transaction are one (SQL Commands, NOTIFY)."""
        if notice not in self._sent and len(self._sent) < MOST:
            self._sent += (notice,)
        if not in_transaction:
            self.end()

    def is_own(self, notice: Notice) -> bool:
        """Whether *notice*, which was heard, is the session's own; asked once for each."""
        count = self._own.pop(notice, 0)
        if count > 1:
            self._own[notice] = count - 1
        return count > 0

    def fresh(self) -> list[Notice]:
        """Those of its own that were committed since the last time: the session is told of them at once."""
        if not self._fresh:
            return self._fresh
        found, self._fresh = self._fresh, []
        return [notice for notice in found if notice.channel in self.now]

    # -- the transaction -------------------------------------------------------------------------

    def savepoint(self, name: str) -> None:
        """SAVEPOINT *name*."""
        self._savepoints.keep(name, (self.now, self._sent))

    def release(self, name: str) -> None:
        """RELEASE *name*."""
        self._savepoints.release(name)

    def rollback_to(self, name: str) -> None:
        """ROLLBACK TO *name*."""
        if (kept := self._savepoints.back_to(name)) is not None:
            self.now, self._sent = kept

    def end(self, *, committed: bool = True) -> None:
        """The transaction is over."""
        if not committed:
            self.now = self.active
        elif self._sent:
            for notice in self._sent:
                self._own[notice] = self._own.get(notice, 0) + 1
            self._fresh += [notice for notice in self._sent if notice.channel in self.now]
            while len(self._own) > MOST:
                del self._own[next(iter(self._own))]
        self._at_begin = None
        self._sent = ()
        self._savepoints.clear()
        if self._own:  # what it does not listen to is never heard
            self._own = {notice: count for notice, count in self._own.items() if notice.channel in self.now}
