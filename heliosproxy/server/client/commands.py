"""Commands that the proxy carries out itself, because what they are about is a client's and no server's.

LISTEN goes to the listening connection of the pool; DEALLOCATE is about names that no server knows.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import psycopg
from psycopg import errors as e

from ...sql.statement import Kind, Statement
from ...sql.statement import TransactionOp as Op
from ...state import refusals
from ...state.transaction import Status
from ..listen.ears import Ears, usable
from ..protocol import backend
from . import replies
from .express import Express
from .plan import BIND, DESCRIBE, EXECUTE, PARSE, PORTAL, Plan

if TYPE_CHECKING:
    from ...call import Call

LONGEST = 63
"""Bytes of a channel from which on the server may have to cut it, with a NOTICE of its own (NAMEDATALEN)."""

_NO_PARAMETERS = b"\0\0"
_BATCHES = frozenset(
    (*prefix, BIND, *described, EXECUTE) for prefix in ((), (PARSE,)) for described in ((), (DESCRIBE,))
)


class Commands(Express):
    """Carries out what is the client's own affair."""

    def _own_affair(self, plan: Plan, call: Call) -> bool:
        """Carry out the one command of *plan*, if that is ours to do; whether it was."""
        statement = call.statement
        if statement is None or self.own_names:
            return False
        kind = statement.kind
        if plan.swift is not None and kind in (Kind.LISTEN, Kind.DEALLOCATE):
            plan.in_full()
        if statement.name is not None and (statement.name.encode(self.encoding) in self.statements):
            if kind is Kind.PREPARE:
                raise e.DuplicatePreparedStatement(f'prepared statement "{statement.name}" already exists')
            if kind is not Kind.DEALLOCATE and kind not in (Kind.LISTEN, Kind.UNLISTEN):
                self.session.pin("prepare")  # EXECUTE: the server is to know it by this name
        if kind is Kind.LISTEN:
            return self._listen(plan, statement)
        if kind is Kind.DEALLOCATE:
            return self._deallocate(plan, statement)
        if statement.transaction is not None and statement.transaction.op is Op.PREPARE:
            channels = self.session.channels
            if channels is not None and channels.pending:
                raise e.FeatureNotSupported(
                    "cannot PREPARE a transaction that has executed LISTEN, UNLISTEN, or NOTIFY"
                )
        return False

    def _deallocate(self, plan: Plan, statement: Statement) -> bool:
        """DEALLOCATE of what the client has prepared by the protocol, under names of its own."""
        if self.session.tx.status is Status.FAILED:
            return False
        if statement.name is None:
            # There may be statements of SQL's PREPARE; and behind DDL of its own it means that plans are stale.
            if self.session.pins or self.session.tx.ddl:
                return False
            if answer := _answer(plan, b"DEALLOCATE ALL"):
                self.statements.clear()
                self._done(plan, answer)
            return bool(answer)
        name = statement.name.encode(self.encoding)
        if name not in self.statements:
            return False
        if answer := _answer(plan, b"DEALLOCATE"):
            self.closed_statement(name)
            self._done(plan, answer)
        return bool(answer)

    def _listen(self, plan: Plan, statement: Statement) -> bool:
        """LISTEN by the listening connection; one that is not for it binds the client to its server connection."""
        channel = (statement.name or "").encode()
        if "listen" in self.session.pins or len(channel) >= LONGEST or not usable(self):
            return False
        answer = _answer(plan, b"LISTEN")
        if not answer:
            return False
        ears = self.ears or Ears(self, self.home.listener)
        heard = ears.reach(channel)
        if heard.done() and heard.result():
            self._listens(plan, channel, answer)
        else:
            self._wait(plan, self._reached(plan, channel, answer, ears, heard))
        return True

    def _listens(self, plan: Plan, channel: bytes, answer: bytes) -> None:
        channels, status = self.session.channels, self.session.tx.status
        if channels is None:
            raise AssertionError("who reaches for a channel has ears")
        channels.listen(channel, in_transaction=status is not Status.IDLE)
        self._done(plan, answer)

    async def _reached(
        self, plan: Plan, channel: bytes, answer: bytes, ears: Ears, heard: asyncio.Future[bool]
    ) -> None:
        """Answer a LISTEN when the server listens. If it does not, the client's own server connection says why."""
        await asyncio.wait([heard], timeout=self.session.pool.options.timeout)
        self._waits_no_more()
        try:
            refusals.check(self.session, plan.calls[0].statement, statement_mode=self.home.statement_mode)
            # Confirmed, and not lost again before our turn came.
            if heard.done() and heard.result() and ears.reach(channel) is heard:
                self._listens(plan, channel, answer)
            else:
                self._proceed(plan)
                ears.attend()
        except psycopg.Error as error:  # its transaction was lost meanwhile
            self._refuse(plan, error)
        except Exception:  # noqa: BLE001 - logged, and told to the client
            self._broken()
        self.pump()

    def _done(self, plan: Plan, answer: bytes) -> None:
        for op in plan.ops:
            if op.kind == PARSE and op.prepared is not None:
                self.parsed(op.name, op.prepared)
        self.fresh.clear()
        self.portals.pop(b"", None)
        self._observe(plan, None)
        self.write(answer + self._ready())

    def _proceed(self, plan: Plan) -> None:
        """Bring *plan* to a server."""
        raise NotImplementedError


def _answer(plan: Plan, tag: bytes) -> bytes:
    """What a server would answer to *plan*, a command without rows; b"" where only a server can tell."""
    done = backend.command_complete(tag)
    if plan.message:
        return done
    call = plan.calls[0]
    if not plan.sync or plan.refused is not None or len(plan.calls) != 1 or call.kind != "execute":
        return b""
    if tuple(op.kind for op in plan.ops) not in _BATCHES or call.bound is None or call.bound.params:
        return b""
    out = []
    for op in plan.ops:
        _, buffer, start, _ = op.frame
        if op.kind == PARSE:
            if op.prepared is None or op.prepared.types != _NO_PARAMETERS:
                return b""
            out.append(replies.PARSE_COMPLETE)
        elif op.kind == BIND:
            if buffer[start + 5]:
                return b""
            out.append(replies.BIND_COMPLETE)
        elif op.name or (op.kind == DESCRIBE and buffer[start + 5] != PORTAL):
            return b""
        elif op.kind == DESCRIBE:
            out.append(replies.NO_DATA)
    out.append(done)
    return b"".join(out)
