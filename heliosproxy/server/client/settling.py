"""What a client's conversation remembers, and how it ends: well, with its server connection, or with its client."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from ...session import Session
from ...state.transaction import Status
from ..protocol import frontend
from ..upstream.exchange import Exchange
from . import replies
from .plan import CLOSE, PARSE, STATEMENT, Frame, Op, Plan
from .statements import OURS, Portal, Prepared
from .told import learn

if TYPE_CHECKING:
    from ...call import Call
    from ..home import Home
    from ..listen.ears import Ears
    from ..upstream.connection import Upstream

NOTHING: deque[Frame] = deque(maxlen=0)
"""The inbox of all who have nothing in it: thousands of clients are idle, and an empty deque takes 760 bytes."""

_PRIVATE = count()

HELD = object()
"""Instead of a place in the queue: it has its server connection, and an operator has paused its database."""


class Settling:
    """One client after its login.

    Attributes:
        link: its connection: `write`, `choked`, `hold_reading`, `close`.
        home: its pool.
        session: its state on the path.
        statements, portals: what it has prepared and bound, by its own names.
        told: statements that were described to it, by its own names, with the columns it was told.
        fresh: what is being prepared (None: closed) in the plan that is under way.
        inbox: messages that wait for their turn.
        encoding: Python's name of its client_encoding.
        ears: what it hears by the pool's listening connection; None where it hears nothing so.
    """

    def __init__(self, link: Any, home: Home, session: Session) -> None:
        self.link = link
        self.home = home
        self.session = session
        self.statements: dict[bytes, Prepared] = session.names
        self.portals: dict[bytes, Portal] = {}
        self.told: dict[bytes, tuple[Prepared, bytes]] = {}
        self.fresh: dict[bytes, Prepared | None] = {}
        self.inbox = NOTHING
        self.encoding = "utf-8"
        self._reading = session.settings.reading  # by which its statements were read
        self.write = link.write
        self.ears: Ears | None = None
        self._batch: list[Frame] = []
        self._plan: Plan | None = None
        self._exchange: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._awaited: Plan | None = None  # whose the task is; None = the client was told what became of it
        self._waiter: Any = None  # its place in the queue for a server connection
        self._passage: Any = None  # what goes the short way once its wait is over
        self._place: Any = None  # one that it may connect in
        self._owns = False  # the names that SQL has given are its server connection's, so all are
        self._skipping = False
        self._closed = False

    @property
    def busy(self) -> bool:
        """Whether something is under way for the client."""
        return self._exchange is not None or self._task is not None or self._waiter is not None

    @property
    def own_names(self) -> bool:
        """Whether its names of statements are those of its server connection: it keeps that for good."""
        return self._owns or "session" in self.session.pins

    @property
    def at_rest(self) -> bool:
        """Whether nothing would be lost if it ended now: no statement under way, no transaction open."""
        return not self.busy and not self._batch and self.session.tx.status in (Status.IDLE, Status.PROMISED)

    @property
    def movable(self) -> bool:
        """Whether it holds nothing that another process could not have."""
        session = self.session
        free = not session.pins and session.server is None and self.ears is None
        return free and session.tx.status is Status.IDLE

    @property
    def waits(self) -> bool:
        """Whether it waits for its turn, and has nothing under way."""
        return self._waiter is not None

    def numbers(self) -> dict[str, Any]:
        """What the console says of it."""
        server = self.session.server
        return {
            "state": self.state,
            "server": 0 if server is None else server.backend_pid,
            "pins": sorted(self.session.pins),
            "prepared": len(self.statements),
            "application_name": self.session.settings.values.get("application_name", "").strip("'"),
        }

    @property
    def state(self) -> str:
        """For people: ``idle``, ``active``, ``waiting``, ``idle in transaction``."""
        if self.waits:
            return "waiting"
        if self.busy:
            return "active"
        return "idle" if self.session.tx.status is Status.IDLE else "idle in transaction"

    @property
    def rests(self) -> bool:
        """Whether it is between two transactions, and takes what it has not asked for."""
        return (
            self._plan is None
            and not self.busy
            and not self._batch
            and not self._skipping
            and not self._closed
            and self.session.tx.status is Status.IDLE
            and not self.choked
        )

    @property
    def running(self) -> Upstream | None:
        """The server connection that runs something for the client; None when there is nothing to cancel."""
        return self.session.server if self._exchange is not None else None

    @property
    def worked_on(self) -> Exchange | None:
        """What a server works on for the client; None = nothing, or it is the client's turn to send more of it."""
        exchange = self._exchange
        if exchange is None or exchange.synced or exchange.script or exchange.ahead or exchange.copying:
            return exchange
        return None

    @property
    def idle(self) -> bool:
        """Whether all waits for the client."""
        return self._task is None and self._waiter is None and self.worked_on is None

    @property
    def in_transaction(self) -> bool:
        """Whether the client has a transaction open, be it one that a batch without its Sync has begun."""
        return self.session.tx.status is not Status.IDLE or self._exchange is not None

    def hasten(self) -> None:
        """Have the server tell what it has done of a batch without its Sync: by itself it would keep that back."""
        exchange, server = self._exchange, self.session.server
        if exchange is not None and not exchange.synced and not exchange.copying and not server.partial:
            server.send(frontend.FLUSH)

    def give_back(self) -> None:
        """Give the server connection back, unless a transaction keeps it."""
        session = self.session
        if session.tx.status not in (Status.IDLE, Status.LOST) or session.open:
            return
        server: Upstream = session.let_go()
        server.part()

    def _observe(self, plan: Plan, error: BaseException | None) -> None:
        for hook in self.session.path.observe:
            for call in plan.calls:
                hook(self.session, call, error)

    def _ready(self) -> bytes:
        return replies.READY[self.session.tx.status]

    def _say(self, plan: Plan, error: bytes) -> None:
        if plan.sync:
            self.write(error + self._ready())
        else:
            self._skipping = True
            self.write(error)

    def server_gone(self, server: Upstream, exchanges: list[Exchange]) -> None:
        """The server connection died under us."""
        self._unfold()
        session, plan, exchange = self.session, self._plan, self._exchange
        if plan is self._awaited:
            self._awaited = None
        self._plan = self._exchange = None
        self.fresh.clear()
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
        if session.settings.reading != self._reading:
            self._read_anew()
        if pinned or (exchange is not None and server.middle):
            if not server.middle:
                self.write(replies.ended(server.final))
            self.link.close()
        elif plan is not None:
            if exchange is not None and exchange.client is self:
                plan.sync = exchange.synced  # its Sync may have come behind a Flush
            self._say(plan, replies.severed(server.final))
            self._observe(plan, None)
            self.pump()

    def close(self) -> None:
        """The client is gone: nothing of it may reach who comes next."""
        if self._closed:
            return
        self._closed = True
        self.home.proxy.ended(self.session)
        self.home.received += self.link.received
        self.inbox.clear()
        if self.ears is not None:
            self.ears.close()
        self._leave_queue()
        self._passage = None
        if self._task is not None:
            self._call_off()
        elif self.session.server is not None:
            self._retire()
        elif self.session.tx.status is not Status.IDLE:
            self.session.abandoned()

    def _leave_queue(self) -> None:
        """It does not wait for a server connection any more, nor for a pause to end."""
        if self._waiter is HELD:
            self.home.held.pop(self._unheld, None)
        elif self._waiter is not None:
            self.session.pool.give_up(self._waiter)
        self._waiter = None

    def _wait(self, plan: Plan, work: Coroutine[Any, Any, None]) -> None:
        """Do for *plan*, by a task, what has to be waited for."""
        self._awaited = plan
        self._task = asyncio.get_running_loop().create_task(work)

    def _waits_no_more(self) -> None:
        self._task = self._awaited = None

    def _call_off(self) -> None:
        """End the task that waits; until it has ended, nothing else begins."""
        task = self._task
        if task is not None and not task.cancelling():
            # By a callback, because a task that is cancelled before it began runs nothing of its own.
            task.add_done_callback(self._cancelled)
            task.cancel()

    def _cancelled(self, task: asyncio.Task[None]) -> None:
        if self._place is not None:
            self.session.pool.give_up(self._place)
            self._place = None
        if self._closed:
            if self.session.server is not None and self._exchange is None:
                self._retire()
        elif task.cancelled():
            plan = self._awaited
            self._waits_no_more()
            if plan is None:
                self.pump()
            else:
                self._called_off(plan)

    def _unfold(self) -> None:
        """What went the short way is to be looked at as what went the long one."""
        if self._plan is None and self._exchange is not None and self._exchange.passing:
            self._plan = self._exchange.plan()

    def _retire(self) -> None:
        """Give the server connection back as if new, or close it where it is in no state for that."""
        self._unfold()
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
        server.send(b"".join([server.ask(command, cleaned) for command in commands]))

    def _discard(self, server: Upstream) -> None:
        server.holder = None
        server.pool.discard(server)

    def prepared(self, text: bytes, types: bytes) -> Prepared:
        """The statement of *text* with parameter *types*, shared by all that prepare it and read it alike."""
        return self.home.prepared(text, types, self.session.settings.reading, self.encoding)

    @property
    def under_way(self) -> list[Call]:
        """The statements ahead of what the client sends next, in an exchange that has not ended."""
        return self._plan.calls if self._plan is not None and self._exchange is not None else []

    def private(self, prepared: Prepared) -> Prepared:
        """*prepared* for this client alone: on its way is what may make the text mean something else."""
        return Prepared(prepared.text, prepared.types, f"private {next(_PRIVATE)}", prepared.known)

    def _read_anew(self) -> None:
        """Its settings have changed: to what others read so, its statements are not equal any more."""
        reading = self._reading = self.session.settings.reading
        for name, old in self.statements.items():
            new = self.home.prepared(old.text, old.types, reading, self.encoding)
            self.statements[name] = new
            told = self.told.get(name)
            if told is not None and told[0] is old:
                self.told[name] = new, told[1]

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
        self.told.pop(name, None)

    def closed_statement(self, name: bytes) -> None:
        """The client has closed its statement *name*."""
        self.statements.pop(name, None)
        self.told.pop(name, None)

    def described(self, name: bytes, prepared: Prepared, description: bytes) -> None:
        """A server has described its statement *name*."""
        self.told[name] = prepared, learn(self, prepared, description)

    def in_its_words(self, said: bytes) -> bytes:
        """*said*, an error of a server, with the client's name of a statement in the place of ours."""
        for name, prepared in {**self.statements, **self.fresh}.items():
            if prepared is not None and prepared.name in said:
                said = said.replace(prepared.name, name)
        said = OURS.sub(b"", said)  # an unnamed one that another has taken the place of
        return frontend.message(said[:1], said[5:])

    def shown(self, name: bytes) -> str:
        """*name* as text, for a message."""
        return name.decode(self.encoding, "replace")

    @property
    def pid(self) -> int:
        """The process number that the client was told."""
        return int(self.link.pid)

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
        """Go on with what waits in `inbox`."""
        raise NotImplementedError

    def _unheld(self) -> None:
        """An operator lets it go on."""
        raise NotImplementedError

    def _called_off(self, plan: Plan) -> None:
        """Tell the client that *plan* was cancelled, and go on."""
        raise NotImplementedError
