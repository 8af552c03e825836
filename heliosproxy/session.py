"""One logical connection: its state, and the order of the path.

    lookup → guard (before) → answer → [begin → lease → compose → run → result] → arrived (settled) → observe

A statement answered from a cache takes the first three steps, plain functions. One that needs a server goes on
with `run`, a generator that yields what must be performed outside (`heliosproxy.effects`). The face that owns
the session performs it, holds the real connection, and calls `arrived` when a reply is complete; COPY, streams
and pipelines, whose replies come in parts, use `compose` and `arrived` without `run`.

Imports no feature: a feature is a stage (`heliosproxy.stages`).
"""

from __future__ import annotations

from typing import Any, Protocol

from .call import Call, Flight
from .effects import Lease, Run, Steps
from .state import consequences, restore
from .state.memory import Memory
from .state.transaction import Status


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


class Session(Memory):
    """One logical connection on the path."""

    __slots__ = ()

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
            self.server = server
            edge.adopt(server)
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

    def compose(self, call: Call, begin: bytes) -> Flight | None:
        """What must travel with *call*: the session's state, BEGIN, and what the stages add; None for nothing.

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
            state = self.to_restore(server)
        flight = None
        if state or begin or self.path.compose:
            flight = Flight(state or (), (begin,) if begin else ())
            if state and restore.may_fail(self.settings.values):
                flight.wary = True
            if begin and tx.queried and consequences.sets_transaction(call.statement):
                flight.begin = (begin, b"SELECT")  # the query the client has already had: 25001 as ever
            for hook in self.path.compose:
                hook(self, call, flight)
            flight = flight or None
        for hook in self.path.sending:
            hook(self, call)
        return flight
