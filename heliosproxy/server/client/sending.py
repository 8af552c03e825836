"""A plan on its way: what is sent for it on the server connection the session holds, and what its end settles."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from psycopg import errors as e

from ...state.consequences import outstanding
from ...state.hidden import come_to_light
from ...state.transaction import Status
from ..protocol import frontend
from ..upstream.exchange import BEGIN_UNITS, Exchange, Insert
from . import replies
from .encode import Encoder
from .plan import BIND, Plan, nothing
from .settling import Settling
from .swift import for_server
from .told import question, refuse, suspects

if TYPE_CHECKING:
    from ..upstream.connection import Upstream

CROWD = 1000
"""Statements of a batch without its Sync after which those that were answered are forgotten, as far as can be."""

REMEMBERED = 100_000
"""Statements of such a batch that cannot be settled before its end (SET, SAVEPOINT): about 50 MB."""

_IDLE, _IN_ERROR = b"IE"
_STATUS = {ord("I"): Status.IDLE, ord("T"): Status.OPEN, ord("E"): Status.FAILED}


class Sending(Settling):
    """Sends plans, and settles them."""

    def _transmit(self, plan: Plan, *, asked: bool = False) -> None:
        """Send *plan* on the server connection that the session holds; *asked*: what its columns are now."""
        session = self.session
        server: Upstream = session.server
        server.holder = self
        call = plan.calls[0]
        if (
            session.pins
            and not self._owns
            and "prepare" in session.pins
            and session.tx.status is not Status.FAILED
        ):
            self._own(plan)
        flight = call.flight = session.compose(call, b"")
        for each in plan.calls[1:]:
            session.compose(each, b"")
        out: list[bytes] = []
        if flight is not None and flight.state:
            if flight.wary:
                message = server.ask(b";".join(flight.state), self._restored_first)
                flight.state, flight.wary = (), False
                self._exchange = server.exchanges[-1]
                server.send(message)
                return
            out.append(server.ask(b";".join(flight.state), self._restored))
        if self.told and (doubts := suspects(self, plan)):
            if not asked:
                out.append(question(self, doubts, self._asked))
                self._exchange = server.exchanges[-1]
                server.send(b"".join(out))
                return
            if any(prepared.columns[1] != told for prepared, told in doubts):
                refuse(plan)
        exchange = Exchange(self, self._finished, synced=plan.sync)
        if (plan.message or plan.swift is not None) and (flight is None or not flight.begin):
            if plan.swift is not None:
                out.append(for_server(plan.swift, server, exchange))
            else:
                server.prepared.unnamed = None
                exchange.simple = True
                out.append(plan.message)
            if call.token is not None:
                exchange.tee, exchange.room = [], self.home.tee
            server.exchanges.append(exchange)
            self._exchange = exchange
            server.send(b"".join(out) if len(out) > 1 else out[0])
            return
        if plan.swift is not None:
            plan.in_full()
        exchange.coming = set()
        encoder = Encoder(self, server, exchange.coming)
        if not plan.message:
            exchange.ahead = encoder.make_room()
        if flight is not None:
            for command in flight.begin:
                encoder.begin(command)
                exchange.ahead += BEGIN_UNITS
        if plan.message:
            server.prepared.unnamed = None
            exchange.simple = True
            encoder.out.append(plan.message)
        else:
            exchange.script = encoder.script
            self._extended(encoder, exchange, plan)
        if call.token is not None and len(plan.calls) == 1:
            exchange.tee, exchange.room = [], self.home.tee
        server.exchanges.append(exchange)
        self._exchange = exchange
        out += encoder.out
        if out:
            server.send(b"".join(out) if len(out) > 1 else out[0])

    def _own(self, plan: Plan) -> None:
        """From now on its names of statements are its server connection's, as those are that SQL has given."""
        server: Upstream = self.session.server
        self._owns = True
        self.told.clear()
        if plan.swift is not None:
            plan.in_full()
        server.prepared.unnamed = None
        for name, prepared in self.statements.items():
            if name:
                server.exchanges.append(Exchange(None, self._owned))
                server.send(frontend.parse_raw(name, prepared.text, prepared.types) + frontend.SYNC)

    def _owned(self, exchange: Exchange) -> None:
        """A server has taken over a statement, or has not: then nobody can use it, and is told so when he tries."""

    def _extended(self, encoder: Encoder, exchange: Exchange, plan: Plan) -> None:
        encoder.ops(plan)
        script = encoder.script
        if not exchange.ahead:
            while script and script[0].__class__ is Insert:
                exchange.prefix += self._inserted(script.popleft())
        self._end(encoder, exchange, plan)
        if exchange.prefix and not encoder.out:
            self.write(exchange.prefix)  # nothing comes that it could be sent with
            exchange.prefix = b""

    def _end(self, encoder: Encoder, exchange: Exchange, plan: Plan) -> None:
        if plan.refused is not None:
            encoder.out.append(self._refusal(exchange, replies.error(plan.refused)))
        if plan.sync:
            encoder.out.append(frontend.SYNC)
        elif plan.flush:
            encoder.out.append(frontend.FLUSH)

    def _refusal(self, exchange: Exchange, error: bytes) -> bytes:
        """What makes the server skip to the Sync as the client will: a Bind of no statement."""
        exchange.refusal = error
        return frontend.bind_nothing(b"helios_refused")

    def _fail(self, sync: bool, error: bytes) -> None:
        """Have the server fail the open transaction, whose statement was answered by *error*."""
        server: Upstream = self.session.server
        self._plan = plan = nothing(sync)
        exchange = self._exchange = Exchange(self, self._finished, deque(), synced=plan.sync)
        server.exchanges.append(exchange)
        server.send(self._refusal(exchange, error) + (frontend.SYNC if sync else b""))

    def _refuse_more(self, plan: Plan, error: bytes) -> None:
        """Messages behind a Flush that no server gets to see: their batch fails, and all of it is undone."""
        exchange: Any = self._exchange
        exchange.synced = plan.sync
        self.session.server.send(self._refusal(exchange, error) + (frontend.SYNC if plan.sync else b""))

    def _inserted(self, insert: Any) -> bytes:
        if insert.done is not None:
            insert.done()
        data: bytes = insert.data
        return data

    def _more(self, plan: Plan) -> None:
        """Messages behind a Flush, in the same exchange."""
        exchange: Any = self._exchange
        session, server = self.session, self.session.server
        if exchange.fails:
            if plan.sync and not plan.message:
                exchange.synced = True
                server.send(frontend.SYNC)
            return
        current: Any = self._plan
        if exchange.remembered >= REMEMBERED and plan.calls[0].kind != "command":
            raise e.ProgramLimitExceeded(
                f"more than {REMEMBERED} statements without a Sync that change what the session has set:"
                " send Sync more often"
            )
        for each in plan.calls:
            if each.kind != "command":
                session.compose(each, b"")
                current.calls.append(each)
        if plan.message:  # it ends what Sync would have ended
            server.prepared.unnamed = None
            exchange.queried = exchange.synced = True
            server.send(plan.message)
            return
        encoder = Encoder(self, server, exchange.coming)
        waiting = bool(exchange.script) or exchange.ahead
        encoder.ops(plan)
        script = encoder.script
        if not waiting:
            while script and script[0].__class__ is Insert:
                self.write(self._inserted(script.popleft()))
        exchange.script.extend(script)
        self._end(encoder, exchange, plan)
        exchange.synced = plan.sync
        if encoder.out:
            server.send(b"".join(encoder.out))

    def _crowded(self, exchange: Exchange) -> bool:
        """Whether a batch without its Sync has to wait until what there is of it was answered, and is forgotten."""
        plan = self._plan
        if plan is None or len(plan.calls) < exchange.remembered + CROWD or exchange.fails:
            return False
        if exchange.script or exchange.ahead:
            self.hasten()
            return True
        self._thin_out(plan, exchange)
        return False

    def _thin_out(self, plan: Plan, exchange: Exchange) -> None:
        """All of *plan* so far was answered without error: keep what has to be settled at its end."""
        session, calls = self.session, plan.calls
        left = outstanding(calls) or [calls[-1]]
        keep = set(map(id, left))
        plan.calls = [call for call in calls if id(call) not in keep]
        for call in plan.calls:
            for hook in session.path.result:
                hook(session, call, None)
        self.home.queries += len(plan.calls)
        self._observe(plan, None)
        plan.calls = left
        exchange.remembered = len(left)

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
        self.pump()  # what came meanwhile may belong to the same batch, or end it

    def _asked(self, exchange: Exchange) -> None:
        """A server has said what the columns of a statement are now, or that there is no such statement any more."""
        plan: Any = self._plan
        if exchange.status != _IN_ERROR:
            self._exchange = None
            # An error comes again, then for the client and in its transaction.
            self._transmit(plan, asked=True)
            self.pump()
            return
        self._finished(exchange)
        self._say(plan, exchange.error)
        self.pump()

    def _reported(self, plan: Plan, exchange: Exchange) -> None:
        """Settings have become others in *exchange*, perhaps by what the text of *plan* does not say."""
        reported: Any = exchange.reported
        session, in_transaction = self.session, exchange.status != _IDLE
        if come_to_light(session, plan.calls, reported, in_transaction=in_transaction) and exchange.coming:
            # What is prepared behind it in the same exchange has a name that says otherwise.
            ahead = next(
                (op.prepared.name for op in plan.ops if op.kind == BIND and op.prepared is not None), b""
            )
            if exchange.coming != {ahead}:
                session.server.ddl_epoch = -1

    def settle(self, plan: Plan, exchange: Exchange) -> None:
        """The answer to *plan*, which was sent on the short way, is complete."""
        self._plan = plan
        self._finished(exchange)

    def _finished(self, exchange: Exchange) -> None:
        """ReadyForQuery came: settle, before the client learns that it is over."""
        session, plan = self.session, self._plan
        self._exchange = self._plan = None
        self.fresh.clear()
        server: Upstream = session.server
        if plan is None or server is None:
            return
        calls = plan.calls
        self.home.queries += len(calls)
        status = _STATUS[exchange.status]
        if plan.swift is not None and plan.swift[1]:
            self.statements[b""] = plan.swift[4]  # though it failed: at worst it is parsed anew
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
        if exchange.reported is not None and not exchange.error and not self.own_names:
            self._reported(plan, exchange)
        if session.settings.reading != self._reading and not self.own_names:
            self._read_anew()
        if status is Status.IDLE:
            self.portals.clear()
            if not session.pins:
                self._owns = False
                self.give_back()
        if session.path.observe:
            self._observe(plan, None)
