"""One logical connection: its state, and the order of the path.

    lookup → guard (before) → answer → [begin → lease → compose → run → result] → arrived (settled) → observe

A statement answered from a cache takes the first three steps, plain functions. One that needs a server goes on
with `run`, a generator that yields what must be performed outside (`heliosproxy.effects`). The face that owns
the session performs it, holds the real connection, and calls `arrived` when a reply is complete; COPY, streams
and pipelines, whose replies come in parts, use `enter` and `arrived` without `run`.

Imports no feature: a feature is a stage (`heliosproxy.stages`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from .call import Call, Flight
from .effects import Lease, Run, Steps
from .sql.statement import Statement
from .stages import Path
from .state import consequences, restore
from .state.settings import EMPTY, Settings
from .state.transaction import Status, Transaction

if TYPE_CHECKING:
    from .pool.pool import Pool

NOTHING = Flight()  # shared by every statement that travels as it is; never changed


class Edge(Protocol):
    """What the session needs of the face: the real connection."""

    def adopt(self, server: Any) -> None:
        """From now on the session's statements go to *server*."""

    def begin_command(self) -> bytes:
        """The BEGIN that must precede the next statement; b"" in autocommit."""

    def reply(self, call: Call) -> tuple[Status, bytes | None]:
        """After success: the transaction status the server reported, and the last command tag."""

    def repeat(self, call: Call) -> Call:
        """The same statement once more, with a sink of its own: for a recovery that runs it again."""

    def stumbled(self) -> tuple[Status, bool]:
        """After an error: the status the server left us in, and whether the connection is lost."""


class Session:
    """The state of one logical connection.

    Attributes:
        path: the stages.
        pool: where its server connections come from.
        server: the one it holds, or None.
        tx: the logical transaction.
        settings: what it set beyond its login.
        pins: why it cannot give its server connection back ("session" in session mode); empty: it can.
        pinned: how often it was pinned, by reason; for statistics.
        open: statements sent whose reply is not complete (COPY, stream, pipeline).
        piped: the distinct statements among them that are in a pipeline.
        harmless: names of functions that are known to leave a session alone.
        temp: it has, or may have, temporary tables.
        ease: the cache's: what it worked out about the session; None as soon as the session does anything.
        isolated: its transactions see one snapshot throughout (REPEATABLE READ, SERIALIZABLE), as far as the
            face was told.
        scratch: a stage may keep something per session here, under its own name.
    """

    __slots__ = (
        "__weakref__",
        "ease",
        "encoding",
        "harmless",
        "isolated",
        "open",
        "path",
        "pinned",
        "pins",
        "piped",
        "pool",
        "scratch",
        "server",
        "settings",
        "temp",
        "tx",
    )

    def __init__(
        self,
        path: Path,
        pool: Pool[Any],
        *,
        pins: frozenset[str] = frozenset(),
        harmless: frozenset[str] = frozenset(),
    ) -> None:
        self.path = path
        self.pool = pool
        self.server: Any = None
        self.tx = Transaction()
        self.settings = Settings()
        self.pins: set[str] = set(pins)
        self.pinned: dict[str, int] = {}
        self.open: list[Call] = []
        self.piped: set[Statement | None] = set()
        self.ease: Any = None
        self.encoding = "utf-8"
        self.harmless = harmless
        self.temp = False
        self.isolated = False
        self.scratch: dict[str, Any] = {}

    # -- answer? ---------------------------------------------------------------------------------

    def lookup(self, call: Call) -> Any:
        """An entry that may answer *call*, with its facts in ``call.statement``; or None."""
        for hook in self.path.lookup:
            if (entry := hook(self, call)) is not None:
                return entry
        return None

    def guard(self, call: Call) -> None:
        """May it pass? Raises what a stage raises to reject it."""
        for hook in self.path.before:
            hook(self, call)

    def answer(self, call: Call, entry: Any) -> list[Any] | None:
        """The results of *entry*, or None when it no longer holds."""
        for hook in self.path.answer:
            if (results := hook(self, call, entry)) is not None:
                call.results = results
                return results  # type: ignore[no-any-return]  # the hooks are untyped by nature
        return None

    # -- execute ---------------------------------------------------------------------------------

    def start(self, call: Call, edge: Edge) -> Steps | None:
        """Make *call* ready to be sent, with ``call.flight`` around it.

        Returns:
            None when nothing has to be waited for first; else steps that bring it to a server and back.
        """
        for hook in self.path.begin:
            if (steps := hook(self, call)) is not None:
                return self.run(call, edge, steps)
        if self.server is None:
            server = self.pool.try_lease(self.settings.signature)
            if server is None:
                return self.run(call, edge)
            self.take(server, edge)
        elif self.tx.status is Status.PROMISED:
            edge.adopt(self.server)
        try:
            call.flight = self.compose(call, edge.begin_command())
        except BaseException:
            self.failed(call, *edge.stumbled())
            raise
        return None

    def run(self, call: Call, edge: Edge, first: Steps | None = None) -> Steps:
        """Bring *call* to a server and back; raises what the server, or a stage, raises.

        Args:
            first: what a stage wants done before; when that returns True the call is answered.
        """
        if first is not None and (yield from first):
            return
        while True:
            if self.server is None:
                signature = self.settings.signature
                server = self.pool.try_lease(signature) or (yield Lease(self.pool, signature))
                self.take(server, edge)
            elif self.tx.status is Status.PROMISED:
                edge.adopt(self.server)
            try:
                call.flight = self.compose(call, edge.begin_command())
                yield Run(call)
            except BaseException as error:  # noqa: BLE001 - raised again unless a stage knows better
                yield from self.stumble(call, edge, error)
                continue
            self.arrived(call, *edge.reply(call))
            return

    def again(self, call: Call, edge: Edge, error: BaseException) -> Steps:
        """After the first attempt ended with *error*: raise it, or recover and run anew."""
        yield from self.stumble(call, edge, error)
        yield from self.run(call, edge)

    def stumble(self, call: Call, edge: Edge, error: BaseException) -> Steps:
        """Return when a stage has recovered from *error*, else settle and raise it."""
        status, lost = edge.stumbled()
        for hook in self.path.failed:
            steps = hook(self, call, error, edge)
            if steps is not None and (yield from steps):
                return
        self.failed(call, status, lost)
        raise error

    def take(self, server: Any, edge: Edge) -> None:
        """Hold *server* from here on."""
        self.server = server
        edge.adopt(server)

    def compose(self, call: Call, begin: bytes) -> Flight:
        """What must travel with *call*: the session's state, BEGIN, and what the stages add.

        Args:
            begin: the BEGIN the face wants before a statement outside a transaction; b"" in autocommit.
        """
        server, tx = self.server, self.tx
        self.ease = None
        if tx.status is Status.PROMISED:
            begin = tx.begin
        elif tx.status is not Status.IDLE:
            begin = b""
        state: list[bytes] | None = None
        if server.last is not self or server.streamed or server.ddl_epoch != self.pool.ddl_epoch:
            state = self._state(server)
        if state or begin or self.path.compose:
            flight = Flight(state or (), (begin,) if begin else ())
            if begin and tx.queried and consequences.sets_transaction(call.statement):
                flight.begin = (begin, b"SELECT")  # the query the client has already had: 25001 as ever
            for hook in self.path.compose:
                hook(self, call, flight)
            return flight
        return NOTHING

    def _state(self, server: Any) -> list[bytes]:
        commands: list[bytes] = []
        if self.tx.status is Status.FAILED:
            return commands  # it has its state; in a failed transaction everything but its end is an error
        have = server.settings
        if server.streamed:
            # libpq keeps single-row mode for the first result of the next pipeline: give it one without rows.
            server.streamed = False
            commands.append(b"")
        if server.tainted and server.last is not self:
            commands += restore.CLEAN
            have = EMPTY
            server.tainted = False
            server.parameters = None
        if server.ddl_epoch != self.pool.ddl_epoch:
            # Plans made before the DDL fail with 0A000 "cached plan must not change result type".
            server.ddl_epoch = self.pool.ddl_epoch
            if server.prepared.clear():
                server.prepared._to_flush.clear()
                commands.append(b"DEALLOCATE ALL")
        if have != self.settings.values:
            commands += restore.commands(have, self.settings.values, self.encoding)
            server.parameters = None
        self.carried()
        server.last = self
        return commands

    def carried(self) -> None:
        """What the server connection carries from now on is what this session has set."""
        if self.server is not None:
            self.server.settings = self.settings.values
            self.server.signature = self.settings.signature

    # -- settle ----------------------------------------------------------------------------------

    def arrived(self, call: Call, status: Status, tag: bytes | None = None) -> None:
        """The reply to *call* is complete and without error.

        Args:
            status: IDLE, OPEN or FAILED: the server's transaction status.
            tag: the last command tag; a COMMIT of a failed transaction is answered ROLLBACK.
        """
        for hook in self.path.result:
            hook(self, call, call.results)
        was = self.tx.status
        if not call.quiet and call.statement is not None:
            consequences.apply(self, call.statement, call, in_transaction=status is not Status.IDLE)
        if status or was or not call.quiet or self.tx.wrote or self.tx.locked:  # Status.IDLE is 0
            self._settle(was, status, tag)

    def failed(self, call: Call, status: Status, lost: bool) -> None:
        """The attempt failed for good; *lost*: with its server connection."""
        was = self.tx.status
        statement = call.statement
        if self.server is not None and (statement is None or not call.quiet):
            consequences.half_done(self, statement)
        if not lost:
            self._settle(was, status, b"ROLLBACK")
            return
        in_block = was in (Status.OPEN, Status.FAILED, Status.PROMISED)
        ending = statement is not None and consequences.ends_transaction(statement)
        doubt = self.tx.wrote and (
            ending or not in_block or (statement is not None and bool(statement.parts))
        )
        self._end("doubt" if doubt else "rollback")
        if in_block and not ending:
            self.tx.status = Status.LOST

    def lost_between(self) -> None:
        """The server connection died inside a transaction, between two statements."""
        self._end("rollback")
        self.tx.status = Status.LOST

    def abandoned(self) -> None:
        """The client closes in the middle of a transaction, or of an operation.

        The server rolls an open transaction back, unless a COMMIT is under way: then nobody knows.
        """
        doubt = self.tx.wrote and bool(self.open)
        self.open = []
        self._end("doubt" if doubt else "rollback")

    def _settle(self, was: Status, now: Status, tag: bytes | None) -> None:
        tx = self.tx
        if now is not Status.IDLE:
            tx.status = now
            tx.begin = b""
        elif was is not Status.IDLE or tx.wrote or tx.locked or tx.ddl:
            committed = tag is None or not tag.startswith(b"ROLLBACK")
            prepared = tag is not None and tag.startswith(b"PREPARE")
            self._end("prepared" if prepared else "commit" if committed else "rollback")

    def _end(self, outcome: str) -> None:
        if self.settings.end(committed=outcome == "commit"):
            self.carried()
        if self.tx.ddl:
            self.pool.ddl_epoch += 1
        for hook in self.path.settled:
            hook(self, outcome)
        self.tx.end()

    def local(self, status: Status) -> None:
        """The transaction went to *status* without a server: a promise kept or dropped, a loss admitted."""
        if status is Status.IDLE:
            self.settings.end(committed=True)
            self.tx.end()

    def pin(self, reason: str) -> None:
        """Keep the server connection from here on, because of *reason*."""
        if reason not in self.pins:
            self.pins.add(reason)
            self.pinned[reason] = self.pinned.get(reason, 0) + 1

    def let_go(self) -> Any:
        """Hold no server connection from here on; returns the one it held."""
        server, self.server = self.server, None
        if server.tainted:
            server.last = None  # cleaned even for us: we do not know what it carries
        for hook in self.path.released:
            hook(self)
        return server
