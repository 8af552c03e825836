"""The ready phase of one client: its messages become statements on the path, and its replies come back in order.

One plan at a time is under way for a client; what it sends meanwhile waits in `inbox`, which the link bounds by not
reading on. Everything that need not wait runs in one go, without a task: a task starts only when a server connection
is not free at once, or a stage has to learn something first.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import psycopg

from ...call import Call
from ...drivers.aio import drive
from ...effects import Control, Effect, Follow, Lease
from ...sql.statement import TransactionOp as Op
from ...state import refusals
from ...state.transaction import LOCAL, Status
from ..protocol import frontend
from ..protocol.errors import ProtocolViolation
from . import replies, swift
from .commands import Commands
from .plan import BIND, PARSE, Frame, Plan, of_batch, of_function_call, of_query, of_read
from .settling import HELD, NOTHING
from .told import suspects

if TYPE_CHECKING:
    from ..upstream.connection import Upstream

logger = logging.getLogger("heliosproxy.server")

QUERY, SYNC, FLUSH, CALL, TERMINATE = b"QSHFX"
COPY_DATA, COPY_DONE, COPY_FAIL = b"dcf"
_EXTENDED = frozenset(b"PBDEC")
_COPYING = frozenset(b"dcf")
_OF_DATABASES = frozenset({"DROP DATABASE", "ALTER DATABASE", "CREATE DATABASE"})
"""What PostgreSQL refuses, or some of it, while anybody is connected to the database; the proxy would always be."""


class Conversation(Commands):
    """One client after its login; the `Edge` of its session."""

    def pump(self) -> None:
        """Take the client's messages in order, as far as that is possible now."""
        inbox = self.inbox
        while inbox and self._task is None and self._waiter is None and not self._closed:
            if self.link.choked:
                return  # it is called again: who does not read is answered no more, or the answers would pile up here
            exchange = self._exchange
            kind = inbox[0][0]
            if kind & 0xFF == COPY_DATA and self.session.server is not None and self.session.server.partial:
                # The rest of a message, whatever has become of the COPY.
                self._copy(exchange, inbox.popleft())
                continue
            if exchange is not None:
                if exchange.copying:
                    self._copy(exchange, inbox.popleft())
                    continue
                if exchange.synced or self._crowded(exchange):
                    return
                if kind & 0xFF in _COPYING and self.worked_on is not None:
                    # Only with the answers to what is ahead it is known whether anybody wants it.
                    self.hasten()
                    return
            frame = inbox.popleft()
            try:
                self._take(kind, frame)
            except ProtocolViolation as violation:
                self._violated(violation, ends=kind in (QUERY, SYNC, CALL))
            except psycopg.Error as error:  # of the analysis: a hint nobody understands
                self._refuse(Plan(kind in (QUERY, SYNC, CALL)), error)
        if not inbox:
            self.inbox = NOTHING
            self.rested()

    def whole(self, data: bytes) -> bool:
        """Whether *data*, all that was read and nothing before it, could be taken as a whole."""
        if self.busy or self._batch or self._skipping or self._closed or self.own_names:
            return False
        kind = data[0]
        if kind == QUERY:
            if 1 + int.from_bytes(data[1:5], "big") != len(data):
                return False
            try:
                self._begin(of_query(self, (QUERY, data, 0, len(data))))
            except ProtocolViolation as violation:
                self._violated(violation, ends=True)
            except psycopg.Error as error:
                self._refuse(Plan(True), error)
            return True
        if kind not in (PARSE, BIND) or self.encoding != "utf-8":
            return False
        batch = swift.read(self, data)
        if batch is None:
            return False
        self._begin(of_read(data, batch[4].known, batch))
        return True

    def rested(self) -> None:
        """Nothing more of the client's waits to be looked at."""
        if self._batch and self._task is None and self._waiter is None and not self._closed:
            self._unended()
        self.link.drained()

    def _unended(self) -> None:
        """Send what came without an end: a server works on it at once, and an error in it is told at once."""
        if self._exchange is None or not self._exchange.synced:
            batch, self._batch = self._batch, []
            try:
                self._begin(of_batch(self, batch, False))
            except ProtocolViolation as violation:
                self._violated(violation, ends=False)
            except psycopg.Error as error:
                self._refuse(Plan(False), error)

    def _take(self, kind: int, frame: Frame) -> None:
        if kind in _EXTENDED:
            if not self._skipping:
                self._batch.append(frame)
        elif kind in (SYNC, FLUSH):
            batch, self._batch = self._batch, []
            sync = kind == SYNC
            if sync and self._skipping:
                self._skipping = False
                self.write(self._ready())
            elif sync and not batch and self._exchange is None:
                self.write(self._ready())
            elif not sync and not batch:
                if self._exchange is not None and not self._exchange.synced:
                    self.session.server.send(frontend.FLUSH)  # what it is about was sent before
            elif not self._skipping:
                plan = of_batch(self, batch, sync)
                plan.flush = not sync
                self._begin(plan)
        elif kind in (QUERY, CALL):
            if self._batch:
                self.inbox.appendleft(frame)
                self._unended()  # it came first, and is answered first
            elif not self._skipping:
                self._begin((of_query if kind == QUERY else of_function_call)(self, frame))
        elif kind == TERMINATE:
            self.link.close()
        elif kind & 0xFF in _COPYING:
            if self._batch:
                self.inbox.appendleft(frame)
                self._unended()  # perhaps it begins a COPY
            # Else it is of a COPY that has failed meanwhile: nobody waits for it.
        else:
            raise ProtocolViolation(f"invalid frontend message type {kind}")

    def _copy(self, exchange: Any, frame: Frame) -> None:
        kind, buffer, start, end = frame
        server: Upstream = self.session.server
        if kind & 0xFF == COPY_DATA:
            server.send(buffer[start:end])
            server.partial = kind != COPY_DATA
        elif kind in (COPY_DONE, COPY_FAIL, SYNC, FLUSH):
            server.send(buffer[start:end])
            if kind in (COPY_DONE, COPY_FAIL):
                exchange.copying = False
        else:
            server.send(frontend.copy_fail(b"unexpected message type 0x%02X during COPY from stdin" % kind))
            exchange.copying = False
            self.inbox.appendleft(frame)

    def _begin(self, plan: Plan) -> None:
        session, call = self.session, plan.calls[0]
        if self._exchange is not None and self._exchange.fails:
            self._more(plan)  # nothing of it is looked at
            return
        try:
            for each in plan.calls:
                refusals.check(session, each.statement, statement_mode=self.home.statement_mode)
                session.guard(each)
            if self._exchange is not None:
                self._more(plan)
                return
            if plan.local and not self.own_names and (plan.refused is None or not self.session.tx.status):
                self._answer_locally(plan)
                return
            if call.raw and session.path.lookup and not (self.told and suspects(self, plan)):
                entry = session.lookup(call)
                if entry is not None and (results := session.answer(call, entry)) is not None:
                    self._answered(plan, results)
                    return
            if not call.quiet and (self._settled_here(plan, call) or self._own_affair(plan, call)):
                return
            if not call.quiet and call.statement is not None and call.statement.verb in _OF_DATABASES:
                self.link.service.vacate(call.statement.text)
                self.link.service.peers.tell("others", "vacate", call.statement.text)
            self._proceed(plan)
        except psycopg.Error as error:
            self._refuse(plan, error)

    def _proceed(self, plan: Plan) -> None:
        """Bring *plan* to a server."""
        session, call = self.session, plan.calls[0]
        try:
            self._plan = plan
            for hook in session.path.begin:
                if (steps := hook(session, call)) is not None:
                    self._wait(plan, self._travel(plan, steps))
                    return
            if session.server is None:
                server = session.pool.try_lease(session.settings.signature)
                if server is None:
                    self._queue()
                    return
                session.take(server, self)
            elif self.home.paused and self.at_rest:
                self._waiter = HELD
                self.home.held[self._unheld] = None
                return
            self._transmit(plan)
        except psycopg.Error as error:
            self._refuse(plan, error)

    def _unheld(self) -> None:
        plan: Any = self._plan
        self._waiter = None
        self._go(plan)

    def _queue(self) -> None:
        """Queue for a server connection."""
        self._waiter = self.session.pool.queue(self.session.settings.signature, self)
        self.home.watch()

    def still_waiting(self) -> None:
        """Tell the client why nothing comes (hazards/wire.md, 12)."""
        pool = self.session.pool
        self.write(
            replies.notice(
                f"waiting for a server connection of pool {pool.name}: all are in use,"
                f" and the wait ends after {pool.options.timeout:g} seconds"
            )
        )

    def cancel_wait(self) -> None:
        """A cancel request: what waits need not wait any more, for whatever it is."""
        if self._task is not None:
            self._call_off()
        elif self._waiter is not None:
            self._leave_queue()
            self._called_off(self._waited())

    def _called_off(self, plan: Plan) -> None:
        self._refuse(plan, psycopg.errors.QueryCanceled("canceling statement due to user request"))
        self.pump()

    def granted(self, waiter: Any) -> None:
        """The wait is over, whichever way."""
        if waiter is not self._waiter:
            return
        try:
            server = self.session.pool.collect(waiter)
            if server is None:
                self._place = waiter
                plan = self._waited()
                self._wait(plan, self._travel(plan, None))
                return
        except psycopg.Error as error:
            self._refuse(self._waited(), error)
            self.pump()
        except Exception:  # noqa: BLE001 - logged, and told to the client
            self._broken()
        else:
            self.handed(server)

    def _waited(self) -> Plan:
        """The wait is over: its plan goes the long way."""
        self._waiter = None
        if self._passage is not None:
            self._plan, self._passage = self._passage.plan(), None
        if self._plan is None:
            raise AssertionError("nobody waits without a plan")
        plan: Plan = self._plan
        return plan

    def _broken(self) -> None:
        """A mistake of ours, in an exception handler: nobody may wait for what will not come."""
        logger.exception("serving %s failed", self.link.peer)
        self.link.refuse(ProtocolViolation("internal error: see the log of the proxy", sqlstate="XX000"))

    async def _travel(self, plan: Plan, steps: Any) -> None:
        """What has to be waited for; then the plan goes on."""
        session, call = self.session, plan.calls[0]
        try:
            answered = steps is not None and await drive(steps, self._perform)
            if self._plan is not plan:
                self._waits_no_more()  # its server connection has died meanwhile, and the client was told so
            elif answered:
                self._waits_no_more()
                self._answered(plan, call.results or [])
            else:
                if self._place is not None:
                    server = await session.pool.open(self._place)
                    self._place = None
                    session.take(server, self)
                elif session.server is None:
                    session.take(await session.pool.lease_async(session.settings.signature), self)
                self._waits_no_more()
                if not self._closed:
                    self._transmit(plan)
        except (psycopg.Error, OSError) as error:
            self._waits_no_more()
            if self._plan is plan:
                self._refuse(plan, error)
        except Exception:  # noqa: BLE001 - logged, and told to the client
            self._waits_no_more()
            self._broken()
        self.pump()

    async def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Control):
            return await self.home.proxy.control_async(self.home, effect.work)
        if isinstance(effect, Follow):
            return await effect.landing.wait_async(effect.timeout)
        if isinstance(effect, Lease):
            return await effect.pool.lease_async(effect.signature, effect.timeout)
        raise TypeError(f"not an effect: {effect!r}")

    def _answered(self, plan: Plan, results: list[Any]) -> None:
        """The cache had it."""
        session = self.session
        if session.tx.status is Status.PROMISED:
            session.tx.queried = True
        self._plan = None
        parsed = b""
        if plan.swift is not None and plan.swift[1]:
            self.statements[b""] = plan.swift[4]
            parsed = replies.PARSE_COMPLETE
        for op in plan.ops:
            if op.kind == PARSE and op.prepared is not None:
                self.statements[op.name] = op.prepared
                parsed = replies.PARSE_COMPLETE
        self._observe(plan, None)
        self.home.queries += 1
        self.home.hits += 1
        data = b"".join((parsed, *(result.data for result in results), self._ready()))
        self.home.sent += len(data)
        self.write(data)

    def _answer_locally(self, plan: Plan) -> None:
        out = []
        for op in plan.ops:
            self.closed_statement(op.name)
            out.append(replies.CLOSE_COMPLETE)
        if plan.refused is not None:
            out.append(replies.error(plan.refused))
            self._skipping = not plan.sync
        if plan.sync:
            out.append(self._ready())
        self.write(b"".join(out))

    def _settled_here(self, plan: Plan, call: Call) -> bool:
        """BEGIN, COMMIT and ROLLBACK where no server has to be asked; whether it was one."""
        session, statement = self.session, call.statement
        transaction = None if statement is None else statement.transaction
        if (
            transaction is None
            or transaction.chain
            or not plan.message
            or statement is None
            or statement.parts
        ):
            return False
        then = LOCAL.get((session.tx.status, transaction.op))
        if then is None or transaction.options.get("isolation", "read committed") not in replies.LAZY:
            return False
        if then is Status.PROMISED:
            session.tx.promise(bytes(call.query))
        else:
            session.local(then, committed=transaction.op is not Op.ROLLBACK)
        self.write(replies.completed(statement) + self._ready())
        return True

    def _refuse(self, plan: Plan, error: psycopg.Error | OSError) -> None:
        """Tell the client of an *error* that no server has sent."""
        alone = self._exchange is None
        self._turn_down(plan, replies.of_exception(error))
        if alone:
            self._observe(plan, error)

    def _violated(self, violation: ProtocolViolation, *, ends: bool) -> None:
        if violation.fatal:
            self.write(replies.error(violation))
            self.link.close()
        else:
            self._turn_down(Plan(ends), replies.error(violation))

    def _turn_down(self, plan: Plan, error: bytes) -> None:
        """Answer *plan* by *error*, which fails its transaction as any error does: no COMMIT must keep half of it."""
        session = self.session
        if self._exchange is not None:
            if not self._exchange.fails:
                self._refuse_more(plan, error)
            return
        self._plan = None
        if session.tx.status is Status.OPEN:
            self._fail(plan.sync, error)
            return
        if session.tx.status is Status.PROMISED:
            session.lost_between()
        if session.server is not None and not session.pins:
            self.give_back()
        self._say(plan, error)

    def adopt(self, server: Any) -> None:
        """Edge: from now on the session's statements go to *server*."""
        server.holder = self

    def begin_command(self) -> bytes:
        """Edge: nothing, the client sends its own BEGIN."""
        return b""

    def reply(self, call: Call) -> tuple[Status, bytes | None]:
        """Edge: never asked, the replies are settled as they come."""
        raise NotImplementedError("the wire face settles its replies as they come")

    def repeat(self, call: Call) -> Call:
        """Edge: for recoveries, which this face does not have yet."""
        raise NotImplementedError("this face has no recoveries yet")

    def stumbled(self) -> tuple[Status, bool]:
        """Edge: never asked, as `reply`."""
        raise NotImplementedError("the wire face settles its replies as they come")
