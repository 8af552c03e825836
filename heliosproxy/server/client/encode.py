"""A plan as one server connection needs it: the client's messages under the names that this one knows."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from ...sql.statement import Statement, TransactionOp
from ...state.transaction import Status
from ..protocol import frontend
from ..upstream.exchange import Insert, Script, Unit
from .plan import BIND, CLOSE, DESCRIBE, EXECUTE, PARSE, STATEMENT, Op, Plan
from .statements import Prepared

if TYPE_CHECKING:
    from ..upstream.connection import Upstream
    from .settling import Settling

PARSE_COMPLETE = b"1\0\0\0\4"
CLOSE_COMPLETE = b"3\0\0\0\4"

PROMOTED = 3
"""Binds of the same text after which an unnamed statement is kept prepared: it saves parsing, and planning where
PostgreSQL finds a generic plan as good (PREPARE, Notes). Texts that come once or twice do not fill the servers."""


_LEAVING = frozenset(
    {TransactionOp.COMMIT, TransactionOp.ROLLBACK, TransactionOp.ROLLBACK_TO, TransactionOp.PREPARE}
)


def _leaves(statement: Statement) -> bool:
    """Whether a failed transaction takes *statement*."""
    return statement.transaction is not None and statement.transaction.op in _LEAVING


class Encoder:
    """What is sent to *upstream* for a plan, and the script by which its replies are taken apart.

    Args:
        coming: names of ours that are being prepared in the same exchange; more are added.
    """

    __slots__ = ("_barred", "_coming", "_conversation", "_own", "_unnamed", "_upstream", "out", "script")

    def __init__(self, conversation: Settling, upstream: Upstream, coming: set[bytes]) -> None:
        self._conversation = conversation
        self._upstream = upstream
        self._own = conversation.own_names
        self._barred = conversation.session.tx.status is Status.FAILED
        self._coming = coming
        self._unnamed: Any = upstream.prepared.unnamed
        self.out: list[bytes] = []
        self.script: Script = deque()

    def make_room(self) -> int:
        """Close the longest unused statements beyond what is kept, ahead of everything; returns how many.

        Behind the client's messages a Close could come into the COPY that they have begun, and break it.
        """
        known = self._upstream.prepared
        surplus = known.surplus()
        for name in surplus:
            self.out.append(frontend.close(STATEMENT, name))
            known.discard(name)
        return len(surplus)

    def begin(self, command: bytes) -> None:
        """*command*, a BEGIN, ahead of everything, for ourselves."""
        self.out += (frontend.parse(b"", command), frontend.bind_nothing(), frontend.EXECUTE_ALL)
        self._unnamed = self._upstream.prepared.unnamed = None

    def ops(self, plan: Plan) -> None:
        """The messages of *plan*."""
        for op in plan.ops:
            if self._own:
                self._own_name(op)
            elif op.kind == PARSE:
                self._parse(op)
            elif op.kind == BIND:
                self._bind(op)
            elif op.prepared is not None and op.kind == DESCRIBE:
                self.out.append(frontend.describe(STATEMENT, self._at_hand(op.prepared)))
                told = partial(self._conversation.described, op.name, op.prepared)
                self.script.append(Unit(True, told=told))
            elif op.kind == CLOSE and op.frame[1][op.frame[2] + 5] == STATEMENT:
                self.script.append(
                    Insert(CLOSE_COMPLETE, partial(self._conversation.closed_statement, op.name))
                )
            else:
                self._raw(op)
                self._barred = self._barred and op.kind != EXECUTE  # it may end the transaction
        self._upstream.prepared.unnamed = self._unnamed

    def _own_name(self, op: Op) -> None:
        """A message whose names are the server connection's, too."""
        if not op.name and op.prepared is not None:
            if op.kind != PARSE and op.prepared is not self._unnamed:
                # The cache had the answer when it was parsed, so the server has not seen it.
                self.out.append(frontend.parse_raw(b"", op.prepared.text, op.prepared.types))
                self.script.append(Unit(False))
            self._unnamed = op.prepared
        self._raw(op, self._conversation.noted(op))

    def _parse(self, op: Op) -> None:
        prepared: Any = op.prepared
        known = self._upstream.prepared
        done = partial(self._conversation.parsed, op.name, prepared)
        if not op.name and prepared.uses < PROMOTED:
            self._unnamed = prepared
            self._raw(op, done)
        elif self._barred and not _leaves(prepared.known.statement):
            self._prepare(prepared, True, done)  # a failed transaction refuses what the server knows, too
        elif prepared.name in known or prepared.name in self._coming:
            self.script.append(Insert(PARSE_COMPLETE, done))
        else:
            self._prepare(prepared, True, done)

    def _bind(self, op: Op) -> None:
        prepared = op.prepared
        if prepared is None:
            self._raw(op)  # the server says that there is no such statement
            return
        prepared.uses += 1
        target = self._at_hand(prepared, unnamed=not op.name)
        _, buffer, start, end = op.frame
        self.out.append(frontend.rename_bind(buffer, start, end, op.rest, target))
        self.script.append(Unit(True))

    def _at_hand(self, prepared: Prepared, unnamed: bool = False) -> bytes:
        """The name under which the server will know *prepared* when it gets there."""
        if unnamed and self._unnamed is prepared:
            return b""
        if prepared.name not in self._upstream.prepared and prepared.name not in self._coming:
            self._prepare(prepared, False, None)
        return prepared.name

    def _prepare(self, prepared: Prepared, asked: bool, done: Any) -> None:
        known = self._upstream.prepared
        self._coming.add(prepared.name)
        self.out.append(frontend.parse_raw(prepared.name, prepared.text, prepared.types))

        def confirmed() -> None:
            known.add(prepared.name)
            if done is not None:
                done()

        self.script.append(Unit(asked, confirmed))

    def _raw(self, op: Op, done: Any = None) -> None:
        _, buffer, start, end = op.frame
        self.out.append(buffer if start == 0 and end == len(buffer) else buffer[start:end])
        self.script.append(Unit(True, done))
