"""A connection of heliosproxy and its peer, a connection of psycopg, which do the same."""

from __future__ import annotations

import contextlib
from typing import Any

import psycopg
from psycopg import pq

from tests.dbapi.operations import Operation


class Side:
    """One of the two connections that do the same.

    Attributes:
        side: "ours" or "theirs".
        blocks: the transaction() blocks entered and not left.
        steps: how many operations were done.
    """

    def __init__(self, side: str, conn: Any) -> None:
        self.side = side
        self.conn = conn
        self.blocks: list[Any] = []
        self.steps = 0

    def do(self, operation: Operation, n: int) -> tuple[Any, ...]:
        self.steps += 1
        try:
            answer: Any = operation(self, n)
        except (AssertionError, psycopg.transaction.OutOfOrderTransactionNesting):
            answer = "out of order"  # when the COMMIT of a block came as text
        except psycopg.Error as error:
            position = error.diag.statement_position
            # The words of an error that the server did not send tell the address of an object.
            words = error.diag.message_primary or type(error).__name__
            answer = (type(error).__name__, error.sqlstate, position, words)
        conn = self.conn
        if self.side == "theirs" and " ALL" in operation.__name__:
            self.forget_prepared()
        return answer, pq.TransactionStatus(conn.info.transaction_status).name, conn.closed

    def forget_prepared(self) -> None:
        """psycopg does so at the first DISCARD ALL or DEALLOCATE ALL of a text, not at the next one."""
        self.conn._prepared.clear()
        self.conn._prepared._to_flush.clear()

    def answers(self, cursor: Any) -> list[Any]:
        answers = []
        more: bool | None = True
        while more:
            rows = cursor.fetchall() if cursor.description else None
            names = [column.name for column in cursor.description or ()]
            answers.append((rows, names, cursor.statusmessage, cursor.rowcount))
            more = cursor.nextset()
        return answers

    def finish(self) -> None:
        while self.blocks:
            with contextlib.suppress(psycopg.Error, ValueError):
                self.blocks.pop().__exit__(ValueError, ValueError(), None)
        self.conn._num_transactions = 0  # psycopg loses count when a block's COMMIT comes as text


class Pair:
    """A logical connection and its peer."""

    def __init__(self, n: int, ours: Any, theirs: Any) -> None:
        self.n = n
        self.ours = Side("ours", ours)
        self.theirs = Side("theirs", theirs)
        self.streamed = False

    @property
    def holds(self) -> bool:
        return self.ours.conn._session.server is not None

    def compare(self, operation: Operation, done: list[Any]) -> None:
        done.append((self.n, operation.__name__))
        ours, theirs = self.ours.do(operation, self.n), self.theirs.do(operation, self.n)
        assert ours == theirs, "\n".join([*map(str, done), f"ours {ours}", f"psycopg's {theirs}"])

    def let_go(self, discard: bool = True) -> None:
        """Whatever keeps the server connection: end it, on both sides."""
        for side in (self.ours, self.theirs):
            side.finish()
            side.conn.rollback()
            autocommit, side.conn.autocommit = side.conn.autocommit, True
            if discard:
                side.conn.execute("DISCARD ALL")
                if side is self.theirs:
                    side.forget_prepared()
            side.conn.autocommit = autocommit
