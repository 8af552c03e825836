"""The short way to a server and back, for a client's statement that leaves nothing to decide.

Most statements of most programs are such: one read holds the whole of it, its text or the shape of its text is known,
it leaves the session's own state alone, and no stage has anything to do with it. For these, what `Conversation` and
`Session` would do comes down to a few assignments, which cost less in one function. An answer from memory is shorter
still. Anything out of the ordinary, on the way there or back, goes the long way, which decides everything anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...state.transaction import Status
from ..upstream.exchange import Exchange
from . import replies
from .plan import BIND, PARSE, Plan, of_read
from .swift import PLAIN_TAIL, for_server, read

if TYPE_CHECKING:
    from ..home import Known
    from ..upstream.connection import Upstream
    from .conversation import Conversation
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

    script, synced, passing = None, True, True

    def __init__(self, client: Conversation, known: Known, data: bytes, batch: Fields | None) -> None:
        self.client = client
        self.known = known
        self.data = data
        self.batch = batch

    def plan(self) -> Plan:
        """The plan that it would have been the long way."""
        return of_read(self.data, self.known, self.batch)

    def done(self, exchange: Exchange) -> None:
        """Something out of the ordinary came: settle it the long way."""
        self.client.settle(self.plan(), self)

    def land(self, server: Upstream, data: bytes) -> None:
        """*data* is the whole answer, without error, and leaves the transaction status as it was."""
        client = self.client
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
            else:
                server.pool.release(server)
        if self.prefix:
            data = self.prefix + data
        home = client.home
        home.queries += 1
        home.sent += len(data)
        client.write(data)
        if client.inbox:
            client.pump()


def depart(self: Conversation, data: bytes) -> bool:
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
                _answer(self, payload, False)
                return True
    elif kind == BIND or kind == PARSE:  # noqa: SIM109 - a set costs more
        if self.encoding != "utf-8":
            return False
        batch = read(self, data)
        if batch is None:
            return False
        _, bind, rest, tail, prepared = batch
        known = prepared.known
        if not known.passing:
            return False
        if known.reads and home.peek is not None:
            described = len(data) - tail != _PLAIN
            payload = home.peek(session, ("B", prepared.text, prepared.types, data[rest:tail], described))
            if payload is not None:
                if bind:
                    self.statements[b""] = prepared
                _answer(self, payload, bind > 0)
                return True
    else:
        return False
    server = session.server
    if session.tx.status is not (_IDLE if server is None else _OPEN):
        return False
    passage = Passage(self, known, data, batch)
    call = None
    if home.plain:
        call = passage.plan().calls[0]
        for hook in home.plain:
            if not hook(session, call, known):
                return False
    if server is None:
        server = session.pool.try_lease(session.settings.signature)
        if server is None:
            return False
        session.server = server
    if server.last is not session:
        if server.tainted or server.settings is not session.settings.values:
            return _long(self, passage)
        server.last = session
    if server.ddl_epoch != session.pool.ddl_epoch:
        return _long(self, passage)
    for hook in home.passing:
        if not hook(session, call):
            return _long(self, passage)
    server.holder = self
    server.exchanges.append(passage)
    self._exchange = passage
    if batch is None:
        server.prepared.unnamed = None  # a Query takes it away
        passage.simple = True
        server.transport.write(data)
    else:
        if batch[1]:
            self.statements[b""] = batch[4]  # though it may fail: at worst it is parsed anew
        server.transport.write(for_server(batch, server, passage))
    return True


def _long(self: Conversation, passage: Passage) -> bool:
    """With the server connection it holds, *passage* takes the long way after all."""
    self.go(passage.plan())
    return True


def _answer(self: Conversation, payload: Any, parsed: bool) -> None:
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
