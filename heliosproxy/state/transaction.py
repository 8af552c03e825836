"""The logical transaction of a session: its status is ours, because most of the time no server holds it.

    status      what it means                                                  psycopg sees
    IDLE        no transaction                                                 IDLE
    PROMISED    BEGIN was asked for, and goes out with the first statement     INTRANS
                that needs a server; so far answers came from the cache
    OPEN        a server connection is in the transaction                      INTRANS
    FAILED      … and a statement in it failed: 25P02 until ROLLBACK           INERROR
    LOST        its server connection died: gone, but the client was not yet   INERROR
                told so by a ROLLBACK of its own

What a command does to it, where no server is asked, is the table `LOCAL`.
"""

from __future__ import annotations

from enum import IntEnum

from ..sql.statement import TransactionOp as Op


class Status(IntEnum):
    """See the head of this file."""

    IDLE = 0
    PROMISED = 1
    OPEN = 2
    FAILED = 3
    LOST = 4


# (status, command) → next status, for what is settled without a server. What is not here goes to the server.
LOCAL: dict[tuple[Status, Op], Status] = {
    (Status.IDLE, Op.BEGIN): Status.PROMISED,
    (Status.PROMISED, Op.COMMIT): Status.IDLE,
    (Status.PROMISED, Op.ROLLBACK): Status.IDLE,
    (Status.LOST, Op.ROLLBACK): Status.IDLE,
}


class Transaction:
    """The transaction of one session.

    Attributes:
        status: see the head of this file.
        begin: the BEGIN command that was promised, b"" when none is.
        queried: a statement in it was answered from the cache: for the client it has had its first query, so
            SET TRANSACTION must fail from here on (25001), as after any query.
        wrote: it wrote, or may have written: no cache until it ends.
        ddl: it changed the catalogue: what other server connections have prepared may be stale once it commits.
        locked: it took row, table or advisory locks: bypass until it ends, lock-then-read sees the database.
        loud: something in it was not known to leave the session alone, and the catalogue.
    """

    __slots__ = ("begin", "ddl", "locked", "loud", "queried", "status", "wrote")

    def __init__(self) -> None:
        self.status = Status.IDLE
        self.begin = b""
        self.ddl = False
        self.queried = False
        self.wrote = False
        self.locked = False
        self.loud = False

    def promise(self, begin: bytes) -> None:
        """BEGIN was asked for."""
        self.status = Status.PROMISED
        self.begin = begin

    def end(self) -> None:
        """Over, whichever way."""
        self.status = Status.IDLE
        self.begin = b""
        self.ddl = self.queried = self.wrote = self.locked = self.loud = False
