"""The ready phase of one client: its messages become statements on the path, and its replies come back in order.

One plan at a time is under way for a client; what it sends meanwhile waits in `inbox`, which the link bounds by not
reading on. Everything that need not wait runs in one go, without a task: a task starts only when a server connection
is not free at once, or a stage has to learn something first.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg

from ...call import Call
from ...drivers.aio import drive
from ...effects import Control, Effect, Follow, Lease
from ...session import Session
from ...state import refusals
from ...state.transaction import LOCAL, Status
from ..protocol import frontend
from ..protocol.errors import ProtocolViolation
from ..upstream.exchange import BEGIN_UNITS, Exchange, Insert
from . import replies
from .encode import Encoder
from .plan import STATEMENT, Frame, Op, Plan, of_batch, of_function_call, of_query
from .statements import Portal, Prepared

if TYPE_CHECKING:
    from ..home import Home
    from ..upstream.connection import Upstream

logger = logging.getLogger("heliosproxy.server")

PARSE, BIND, DESCRIBE, EXECUTE, CLOSE = b"PBDEC"
QUERY, SYNC, FLUSH, CALL, TERMINATE = b"QSHFX"
COPY_DATA, COPY_DONE, COPY_FAIL = b"dcf"
_EXTENDED = frozenset(b"PBDEC")
_COPYING = frozenset(b"dcf")
_STATUS = {ord("I"): Status.IDLE, ord("T"): Status.OPEN, ord("E"): Status.FAILED}


class Conversation:
    """One client after its login; the `Edge` of its session.

    Attributes:
        link: its connection: `write`, `choked`, `hold_reading`, `close`.
        home: its pool.
        session: its state on the path.
        statements, portals: what it has prepared and bound, by its own names.
        inbox: messages that wait for their turn.
        encoding: Python's name of its client_encoding.
    """

    def __init__(self, link: Any, home: Home, session: Session) -> None:
        self.link = link
        self.home = home
        self.session = session
        self.statements: dict[bytes, Prepared] = {}
        self.portals: dict[bytes, Portal] = {}
        self.inbox: deque[Frame] = deque()
        self.encoding = "utf-8"
        self.write = link.write
        self._batch: list[Frame] = []
        self._plan: Plan | None = None
        self._exchange: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._skipping = False
        self._closed = False

    # -- the client's messages -----------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether something is under way for the client."""
        return self._exchange is not None or self._task is not None

    @property
    def own_names(self) -> bool:
        """Whether its names of statements are those of its server connection: it keeps that for good."""
        return "session" in self.session.pins

    @property
    def at_rest(self) -> bool:
        """Whether nothing would be lost if it ended now: no statement under way, no transaction open."""
        return not self.busy and not self._batch and self.session.tx.status in (Status.IDLE, Status.PROMISED)

    @property
    def choked(self) -> bool:
        """Whether the client takes no more data for now."""
        return bool(self.link.choked)

    def when_unchoked(self, call: Any) -> None:
        """Call *call* as soon as it does."""
        self.link.when_unchoked(call)

    def hold_reading(self, hold: bool) -> None:
        """The server takes no more data for now: read no more of the client's."""
        self.link.hold_reading(hold)

    def pump(self) -> None:
        """Take the client's messages in order, as far as that is possible now."""
        inbox = self.inbox
        while inbox and self._task is None and not self._closed:
            exchange = self._exchange
            kind = inbox[0][0]
            if kind & 0xFF == COPY_DATA and self.session.server is not None and self.session.server.partial:
                self._copy(
                    exchange, inbox.popleft()
                )  # the rest of a message, whatever has become of the COPY
                continue
            if exchange is not None:
                if exchange.copying or (exchange.copied and kind == SYNC):
                    self._copy(exchange, inbox.popleft())
                    continue
                if exchange.synced:
                    return
            frame = inbox.popleft()
            try:
                self._take(kind, frame)
            except ProtocolViolation as violation:
                self._violated(violation, ends=kind in (QUERY, SYNC, CALL))
            except psycopg.Error as error:  # of the analysis: a hint nobody understands
                self._refuse(Plan(kind in (QUERY, SYNC, CALL)), error)
        if not inbox:
            self.link.drained()

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
            elif not self._skipping and (batch or sync):
                self._begin(of_batch(self, batch, sync))
        elif kind == QUERY:
            self._begin(of_query(self, frame))
        elif kind == CALL:
            self._begin(of_function_call(self, frame))
        elif kind == TERMINATE:
            self.link.close()
        elif kind & 0xFF not in _COPYING:  # of a COPY that has failed meanwhile: nobody waits for it
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
                exchange.copied = exchange.script is not None
            elif kind == SYNC:
                exchange.copied = False
        else:
            server.send(frontend.copy_fail(b"unexpected message type 0x%02X during COPY from stdin" % kind))
            exchange.copying = False
            self.inbox.appendleft(frame)

    # -- a plan on the path --------------------------------------------------------------------------

    def _begin(self, plan: Plan) -> None:
        session, call = self.session, plan.calls[0]
        try:
            for each in plan.calls:
                refusals.check(session, each.statement, statement_mode=self.home.statement_mode)
                session.guard(each)
            if self._exchange is not None:
                self._more(plan)
                return
            if plan.local and not self.own_names:
                self._answer_locally(plan)
                return
            if call.raw and session.path.lookup:
                entry = session.lookup(call)
                if entry is not None and (results := session.answer(call, entry)) is not None:
                    self._answered(plan, results)
                    return
            if plan.message and self._settled_here(call):
                return
            self._plan = plan
            for hook in session.path.begin:
                if (steps := hook(session, call)) is not None:
                    self._task = asyncio.get_running_loop().create_task(self._travel(plan, steps))
                    return
            if session.server is None:
                server = session.pool.try_lease(session.settings.signature)
                if server is None:
                    self._task = asyncio.get_running_loop().create_task(self._travel(plan, None))
                    return
                session.take(server, self)
            self._transmit(plan)
        except psycopg.Error as error:
            self._refuse(plan, error)

    async def _travel(self, plan: Plan, steps: Any) -> None:
        """What has to be waited for; then the plan goes on."""
        session, call = self.session, plan.calls[0]
        try:
            if steps is not None and await drive(steps, self._perform):
                self._task = None
                self._answered(plan, call.results or [])
                return
            if session.server is None:
                session.take(await session.pool.lease_async(session.settings.signature), self)
            self._task = None
            if not self._closed:
                self._transmit(plan)
        except (psycopg.Error, OSError) as error:
            self._task = None
            self._refuse(plan, error)
        except Exception:  # a mistake of ours: nobody may wait for what will not come
            logger.exception("serving %s failed", self.link.peer)
            self._task = None
            self.link.refuse(ProtocolViolation("internal error: see the log of the proxy", sqlstate="XX000"))
        finally:
            self._task = None
            if self._closed and session.server is not None and self._exchange is None:
                self._retire()
        self.pump()

    async def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Control):
            return await self.home.proxy.control_async(self.home, effect.work)
        if isinstance(effect, Follow):
            return await effect.landing.wait_async(effect.timeout)
        if isinstance(effect, Lease):
            return await effect.pool.lease_async(effect.signature, effect.timeout)
        raise TypeError(f"not an effect: {effect!r}")

    def _transmit(self, plan: Plan) -> None:
        """Send *plan* on the server connection that the session holds."""
        session = self.session
        server: Upstream = session.server
        server.holder = self
        call = plan.calls[0]
        flight = call.flight = session.compose(call, b"")
        for each in plan.calls[1:]:
            session.compose(each, b"")
        out: list[bytes] = []
        if flight is not None and flight.state:
            out.append(frontend.query(b";".join(flight.state)))
            server.prepared.unnamed = None  # a Query takes it away
            if flight.wary:
                flight.state, flight.wary = (), False
                restoring = Exchange(None, self._restored_first)
                server.exchanges.append(restoring)
                self._exchange = restoring
                server.send(out[0])
                return
            server.exchanges.append(Exchange(None, self._restored))
        exchange = Exchange(self, self._finished, synced=plan.sync)
        encoder = Encoder(self, server)
        if flight is not None:
            for command in flight.begin:
                encoder.begin(command)
                exchange.ahead += BEGIN_UNITS
        if plan.message:
            server.prepared.unnamed = None
            encoder.out.append(plan.message)
        else:
            exchange.script = encoder.script
            self._extended(encoder, exchange, plan)
        if call.token is not None and len(plan.calls) == 1:
            exchange.tee, exchange.room = [], self.home.tee
        server.exchanges.append(exchange)
        self._exchange = exchange
        server.send(b"".join([*out, *encoder.out]) if out or len(encoder.out) > 1 else encoder.out[0])

    def _extended(self, encoder: Encoder, exchange: Exchange, plan: Plan) -> None:
        encoder.ops(plan)
        script = encoder.script
        if not exchange.ahead and not exchange.forwarded:
            while script and script[0].__class__ is Insert:
                self._insert(script.popleft())
        if plan.refused is not None:
            # The server must skip to the Sync as the client will: a Bind of no statement makes it.
            encoder.out.append(frontend.bind_nothing(b"helios_refused"))
            exchange.refusal = replies.error(plan.refused)
        if plan.sync:
            encoder.out.append(frontend.SYNC)
        else:
            encoder.out.append(frontend.FLUSH)

    def _insert(self, insert: Any) -> None:
        if insert.done is not None:
            insert.done()
        if insert.data:
            self.write(insert.data)

    def _more(self, plan: Plan) -> None:
        """Messages behind a Flush, in the same exchange."""
        exchange: Any = self._exchange
        session, server = self.session, self.session.server
        if plan.message:
            raise ProtocolViolation(
                "a Query in the middle of an extended batch is not supported: send Sync first"
            )
        if exchange.error:
            if plan.sync:
                exchange.synced = True
                server.send(frontend.SYNC)
            return
        current: Any = self._plan
        for each in plan.calls:
            if each.kind != "command":
                session.compose(each, b"")
                current.calls.append(each)
        encoder = Encoder(self, server)
        waiting = bool(exchange.script) or exchange.ahead
        encoder.ops(plan)
        script = encoder.script
        if not waiting:
            while script and script[0].__class__ is Insert:
                self._insert(script.popleft())
        exchange.script.extend(script)
        encoder.out.append(frontend.SYNC if plan.sync else frontend.FLUSH)
        exchange.synced = plan.sync
        server.send(b"".join(encoder.out))

    # -- replies -------------------------------------------------------------------------------------

    def _restored(self, exchange: Exchange) -> None:
        if exchange.error:  # nobody knows its state now, and the statement is on its way
            self.session.server.final = exchange.error
            self.session.server.transport.abort()

    def _restored_first(self, exchange: Exchange) -> None:
        self._exchange = None
        plan: Any = self._plan
        server = self.session.server
        if exchange.error:
            self.session.failed(plan.calls[0], Status.IDLE, True)
            self._discard(self.session.let_go())
            self._say(plan, replies.severed(exchange.error))
            self._observe(plan, None)
        else:
            server.last = self.session
            self._transmit(plan)

    def _finished(self, exchange: Exchange) -> None:
        """ReadyForQuery came: settle, before the client learns that it is over."""
        session, plan = self.session, self._plan
        self._exchange = self._plan = None
        server: Upstream = session.server
        if plan is None or server is None:
            return
        calls = plan.calls
        status = _STATUS[exchange.status]
        if exchange.error:
            server.prepared.unnamed = None
            if len(calls) == 1:
                session.failed(calls[0], status, False)
            else:
                session.open, session.stumbled = list(calls), True
                session.synced(status)
        elif len(calls) == 1:
            if exchange.tee is not None:
                calls[0].results = [replies.Answer.of(exchange)]
            session.arrived(calls[0], status, exchange.tag)
        else:
            session.open = list(calls)
            session.synced(status)
        if status is Status.IDLE:
            self.portals.clear()
            if not session.pins:
                self.give_back()
        if session.path.observe:
            self._observe(plan, None)

    @property
    def running(self) -> Upstream | None:
        """The server connection that runs something for the client; None when there is nothing to cancel."""
        return self.session.server if self._exchange is not None else None

    def give_back(self) -> None:
        """Give the server connection back, unless a transaction keeps it."""
        session = self.session
        if session.tx.status is not Status.IDLE or session.open:
            return
        server: Upstream = session.let_go()
        server.part()

    def _observe(self, plan: Plan, error: BaseException | None) -> None:
        for hook in self.session.path.observe:
            for call in plan.calls:
                hook(self.session, call, error)

    # -- answers of our own --------------------------------------------------------------------------

    def _ready(self) -> bytes:
        return replies.READY[self.session.tx.status]

    def _answered(self, plan: Plan, results: list[Any]) -> None:
        """The cache had it."""
        session = self.session
        if session.tx.status is Status.PROMISED:
            session.tx.queried = True
        self._plan = None
        parsed = b""
        for op in plan.ops:
            if op.kind == PARSE and op.prepared is not None:
                self.statements[op.name] = op.prepared
                parsed = replies.PARSE_COMPLETE
        self._observe(plan, None)
        self.write(b"".join((parsed, *(result.data for result in results), self._ready())))

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

    def _settled_here(self, call: Call) -> bool:
        """BEGIN, COMMIT and ROLLBACK where no server has to be asked; whether it was one."""
        session, statement = self.session, call.statement
        transaction = None if statement is None else statement.transaction
        if transaction is None or transaction.chain or statement is None or statement.parts:
            return False
        then = LOCAL.get((session.tx.status, transaction.op))
        if then is None or transaction.options.get("isolation", "read committed") not in replies.LAZY:
            return False
        if then is Status.PROMISED:
            session.tx.promise(bytes(call.query))
        else:
            session.local(then)
        self.write(replies.completed(statement) + self._ready())
        return True

    def _refuse(self, plan: Plan, error: psycopg.Error | OSError) -> None:
        """Tell the client of an *error* that no server has sent."""
        self._plan = None
        if self.session.server is not None and self._exchange is None and not self.session.pins:
            self.give_back()
        self._say(plan, replies.of_exception(error))
        self._observe(plan, error)

    def _say(self, plan: Plan, error: bytes) -> None:
        if plan.sync:
            self.write(error + self._ready())
        else:
            self._skipping = True
            self.write(error)

    def _violated(self, violation: ProtocolViolation, *, ends: bool) -> None:
        self.write(replies.error(violation))
        if violation.fatal:
            self.link.close()
        elif ends:
            self.write(self._ready())
        else:
            self._skipping = True

    # -- the end -------------------------------------------------------------------------------------

    def server_gone(self, server: Upstream, exchanges: list[Exchange]) -> None:
        """The server connection died under us."""
        session, plan, exchange = self.session, self._plan, self._exchange
        self._plan = self._exchange = None
        server.holder = None
        if session.server is not server:
            return
        calls = [] if plan is None else plan.calls
        for call in calls:
            session.failed(call, Status.IDLE, True)
        if not calls and session.tx.status in (Status.OPEN, Status.FAILED):
            session.lost_between()
        pinned = bool(session.pins)
        session.let_go()
        server.pool.discard(server)
        if self._closed:
            return
        if pinned or (exchange is not None and server.middle):
            if not server.middle:
                self.write(replies.ended(server.final))
            self.link.close()
        elif plan is not None:
            self._say(plan, replies.severed(server.final))
            self._observe(plan, None)
            self.pump()

    def close(self) -> None:
        """The client is gone: nothing of it may reach who comes next."""
        if self._closed:
            return
        self._closed = True
        self.inbox.clear()
        if self._task is not None:
            self._task.cancel()
        elif self.session.server is not None:
            self._retire()
        elif self.session.tx.status is not Status.IDLE:
            self.session.abandoned()

    def _retire(self) -> None:
        """Give the server connection back as if new, or close it where it is in no state for that."""
        session = self.session
        pinned = bool(session.pins)
        session.open = list(self._plan.calls) if self._plan is not None else []
        session.abandoned()
        session.pins.clear()
        server: Upstream = session.let_go()
        server.holder = None
        if server.exchanges or not server.alive():
            server.part()
            return
        commands = [b"ROLLBACK"] if server.status != ord("I") else []
        if pinned:
            commands.append(self.home.reset)
        if not commands:
            server.part()
            return

        def cleaned(exchange: Exchange) -> None:
            if exchange.error:
                failed.append(exchange.error)
            if server.exchanges:
                return
            if failed or not server.clean():
                self._discard(server)
            else:
                if pinned:
                    server.forget()
                server.part()

        failed: list[bytes] = []
        for _command in commands:
            server.exchanges.append(Exchange(None, cleaned))
        server.send(b"".join(frontend.query(command) for command in commands))

    def _discard(self, server: Upstream) -> None:
        server.holder = None
        server.pool.discard(server)

    # -- for plans and the session -------------------------------------------------------------------

    def prepared(self, text: bytes, types: bytes) -> Prepared:
        """The statement of *text* with parameter *types*, shared by all that prepare it."""
        path = self.session.settings.values.get("search_path", "")
        return self.home.prepared(text, types, path, self.encoding)

    def noted(self, op: Op) -> Callable[[], None] | None:
        """What is to be noted when the server has accepted *op*, whose names are its own."""
        if op.kind == PARSE and op.prepared is not None:
            return partial(self.parsed, op.name, op.prepared)
        if op.kind == CLOSE and op.frame[1][op.frame[2] + 5] == STATEMENT:
            return partial(self.closed_statement, op.name)
        return None

    def parsed(self, name: bytes, prepared: Prepared) -> None:
        """The server accepted a Parse: the client's *name* stands for *prepared* now."""
        self.statements[name] = prepared

    def closed_statement(self, name: bytes) -> None:
        """The client has closed its statement *name*."""
        self.statements.pop(name, None)

    def shown(self, name: bytes) -> str:
        """*name* as text, for a message."""
        return name.decode(self.encoding, "replace")

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
