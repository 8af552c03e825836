"""The short way to a server and back, for a client's statement that leaves nothing to decide.

Most statements of most programs are such: one read holds the whole of it, its text or the shape of its text is known,
it leaves the session's own state alone, and no stage has anything to do with it. For these, what `Conversation` and
`Session` would do comes down to a few assignments, which cost less in one function. An answer from memory is shorter
still. Anything out of the ordinary, on the way there or back, goes the long way, which decides everything anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import psycopg

from ...state.transaction import Status
from ..upstream.exchange import Exchange
from . import replies
from .plan import BIND, PARSE, Plan, of_read
from .sending import Sending
from .swift import PLAIN_TAIL, for_server, read
from .told import doubted

if TYPE_CHECKING:
    from ...call import Call
    from ..home import Known
    from ..upstream.connection import Upstream
    from .swift import Fields

QUERY = ord("Q")
_PLAIN = len(PLAIN_TAIL)
_IDLE, _OPEN, _PROMISED = Status.IDLE, Status.OPEN, Status.PROMISED
_READY_IDLE = ord("I")


class Passage(Exchange):
    """The exchange of a statement on the short way.

    Attributes:
        known: what is known of the statement.
        data: all the client sent.
        batch: of extended messages, where what is in *data*; None = it is a Query.
    """

    passing = True

    def __init__(self, client: Express, known: Known, data: bytes, batch: Fields | None) -> None:
        self.client = client
        self.known = known
        self.data = data
        self.batch = batch

    def plan(self) -> Plan:
        """The plan that it would have been the long way."""
        return of_read(self.data, self.known, self.batch)

    def end(self) -> None:
        """Something out of the ordinary came: settle it the long way."""
        self.client.settle(self.plan(), self)

    def land(self, server: Upstream, data: bytes) -> None:
        """*data* is the whole answer, without error, and leaves the transaction status as it was."""
        client: Express = self.client
        server.exchanges.popleft()
        if self.naming:
            server.prepared.add(self.naming)
        client._exchange = None
        if data[-1] == _READY_IDLE:
            client.session.server = None
            server.holder = None
            # Given back before the client can see that it is over: its next statement finds it.
            if server.cancels or server.exchanges:
                server.part()
            elif (next_one := server.pool.pass_on(server)) is not None:
                next_one.handed(server)
        if self.prefix:
            data = self.prefix + data
        home = client.home
        home.queries += 1
        home.sent += len(data)
        client.write(data)
        if client.inbox:
            client.pump()


class Express(Sending):
    """One client after its login, as far as it goes the short way."""

    def swiftly(self, data: bytes) -> bool:
        """Whether *data*, all that was read and nothing before it, was answered, or is on its way to a server."""
        if self._exchange is not None or self._task is not None or self._waiter is not None:
            return False
        home, session = self.home, self.session
        if self._batch or self._skipping or self._closed or session.pins or not home.short_way:
            return False
        kind = data[0]
        batch: Fields | None = None
        known: Known | None
        if kind == QUERY:
            if len(data) != 1 + int.from_bytes(data[1:5], "big") or data[-1] or self.encoding != "utf-8":
                return False
            text = data[5:-1]
            known = home.recent.get(text)
            if known is None:
                known = home.of_shape(text)
                if known is None:
                    return False
            if not known.passing:
                return False
            if known.reads and home.peek is not None:
                payload = home.peek(session, ("Q", text))
                if payload is not None:
                    self._answer(payload, False)
                    return True
        elif kind == BIND or kind == PARSE:  # noqa: SIM109 - a set costs more
            if self.encoding != "utf-8":
                return False
            batch = read(self, data)
            if batch is None:
                return False
            _, bind, rest, tail, prepared = batch
            known = prepared.known
            if not known.passing or (self.told and self._doubted(batch)):
                return False
            if known.reads and home.peek is not None:
                described = len(data) - tail != _PLAIN
                payload = home.peek(session, ("B", prepared.text, prepared.types, data[rest:tail], described))
                if payload is not None:
                    if bind:
                        self.statements[b""] = prepared
                    self._answer(payload, bind > 0)
                    return True
        else:
            return False
        server: Upstream | None = session.server
        if session.tx.status is not (_IDLE if server is None else _OPEN):
            return False
        passage = Passage(self, known, data, batch)
        call: Call | None = None
        if home.plain:
            call = passage.plan().calls[0]
            for hook in home.plain:
                if not hook(session, call, known):
                    return False
        if server is None:
            server = session.pool.try_lease(session.settings.signature)
            if server is None:
                self._passage = passage
                self._queue()
                return True
        self._embark(passage, server, call)
        return True

    def _embark(self, passage: Passage, server: Upstream, call: Call | None) -> None:
        """Send *passage* on *server*."""
        session, home = self.session, self.home
        session.server = server
        if server.last is not session:
            if server.tainted or server.settings is not session.settings.values:
                self._go(passage.plan())
                return
            server.last = session
        if server.ddl_epoch != session.pool.ddl_epoch or (self.told and self._doubted(passage.batch)):
            self._go(passage.plan())
            return
        for hook in home.passing:
            if not hook(session, call):
                self._go(passage.plan())
                return
        server.holder = self
        server.exchanges.append(passage)
        self._exchange = passage
        batch = passage.batch
        if batch is None:
            server.prepared.unnamed = None  # a Query takes it away
            passage.simple = True
            server.transport.write(passage.data)
        else:
            if batch[1]:
                self.statements[b""] = batch[4]  # though it may fail: at worst it is parsed anew
            server.transport.write(for_server(batch, server, passage))

    def _doubted(self, batch: Fields | None) -> bool:
        """Whether the client may have been told of other columns than its statement has now."""
        if batch is None or batch[1]:
            return False
        data, _, rest, _, prepared = batch
        return doubted(self, data[6 : rest - 1], prepared) is not None

    def handed(self, server: Upstream) -> None:
        """The wait for a server connection is over: it has *server*."""
        self._waiter = None
        passage, self._passage = self._passage, None
        try:
            if passage is not None and not self.home.plain:
                self._embark(passage, server, None)
            else:  # a stage may think otherwise by now
                self.session.server = server
                self._go(passage.plan() if passage is not None else cast(Plan, self._plan))
        except Exception:  # noqa: BLE001 - logged, and told to the client: who gave it back has another one
            self._broken()

    def _go(self, plan: Plan) -> None:
        """With the server connection that the session holds, *plan* takes the long way after all."""
        self._plan = plan
        try:
            self._transmit(plan)
        except psycopg.Error as error:
            self._refuse(plan, error)
            self.pump()

    def _queue(self) -> None:
        """Queue for a server connection."""
        raise NotImplementedError

    def _broken(self) -> None:
        """A mistake of ours: nobody may wait for what will not come."""
        raise NotImplementedError

    def _refuse(self, plan: Plan, error: psycopg.Error | OSError) -> None:
        """Tell the client of an *error* that no server has sent."""
        raise NotImplementedError

    def _answer(self, payload: Any, parsed: bool) -> None:
        """The cache had it."""
        home, tx = self.home, self.session.tx
        if tx.status is _PROMISED:
            tx.queried = True
        (result,) = payload
        data = result.data + replies.READY[tx.status]
        if parsed:
            data = replies.PARSE_COMPLETE + data
        home.queries += 1
        home.hits += 1
        home.sent += len(data)
        self.write(data)
