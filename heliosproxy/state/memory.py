"""What one logical connection remembers, and how the outcome of its statements changes that.

Base of `heliosproxy.session.Session`, which has the order of the path.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..sql.statement import Statement
from ..stages import Path
from . import consequences, restore
from .channels import Channels
from .settings import EMPTY, NONE, Settings
from .transaction import Status, Transaction

if TYPE_CHECKING:
    from ..call import Call
    from ..pool.pool import Pool


class Memory:
    """The state of one logical connection.

    Attributes:
        path: the stages.
        pool: where its server connections come from.
        server: the one it holds, or None.
        tx: the logical transaction.
        settings: what it set beyond its login.
        channels: what it listens to by a connection that it shares; None where it listens to nothing so.
        names: what it has prepared by names of its own, where these are not the server connection's.
        pins: why it cannot give its server connection back ("session" in session mode); empty: it can.
        pinned: how often it was pinned, by reason; for statistics.
        open: statements sent whose reply is not complete (COPY, stream, pipeline).
        piped: the distinct statements among them that are in a pipeline.
        harmless: names of functions that are known to leave a session alone.
        stumbled: something failed while they were in flight.
        temp: it has, or may have, temporary tables.
        ease: the cache's: what it worked out about the session; None as soon as the session does anything.
        isolated: its transactions see one snapshot throughout (REPEATABLE READ, SERIALIZABLE), as far as the
            face was told.
        scratch: a stage may keep something per session here, under its own name.
    """

    __slots__ = (
        "__weakref__",
        "channels",
        "ease",
        "encoding",
        "harmless",
        "isolated",
        "names",
        "open",
        "path",
        "pinned",
        "pins",
        "piped",
        "pool",
        "scratch",
        "server",
        "settings",
        "stumbled",
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
        self.channels: Channels | None = None
        self.names: dict[bytes, Any] = {}
        self.pins: set[str] = set(pins)
        self.pinned: dict[str, int] = {}
        self.open: list[Call] = []
        self.piped: set[Statement | None] = set()
        self.ease: Any = None
        self.encoding = "utf-8"
        self.harmless = harmless
        self.stumbled = False
        self.temp = False
        self.isolated = False
        self.scratch: dict[str, Any] = {}

    # -- the server connection -----------------------------------------------------------------------

    def to_restore(self, server: Any) -> list[bytes]:
        commands: list[bytes] = []
        if self.tx.status is Status.FAILED or server.failed():
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
            unsure = server.ddl_epoch < 0
            server.ddl_epoch = self.pool.ddl_epoch
            stale = server.forget_prepared()
            if self.pins:  # it keeps its own PREPARE
                commands += [b"DEALLOCATE " + name for name in stale if server.names_recur]
            elif stale or unsure:
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
            if lacking := self.settings.lacking:
                has = {name: value for name, value in self.settings.values.items() if name not in lacking}
                self.server.settings = MappingProxyType(has)
                self.server.last = None  # restored before the next statement, although it is ours
                self.settings.lacking = NONE

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
        if not call.quiet:
            self.tx.loud = True
            if call.statement is not None:
                consequences.apply(self, call.statement, call, in_transaction=status is not Status.IDLE)
        if status or was or not call.quiet or self.tx.wrote or self.tx.locked:  # Status.IDLE is 0
            self._settle(was, status, tag)

    def ended(self, status: Status, tag: bytes | None) -> None:
        """As `arrived`, for a COMMIT or ROLLBACK on a path whose stages have nothing to do with it."""
        self._settle(self.tx.status, status, tag)

    def failed(self, call: Call, status: Status, lost: bool) -> None:
        """The attempt failed for good; *lost*: with its server connection."""
        self.ease = None  # on the short way nothing has taken it back before
        was = self.tx.status
        statement = call.statement
        if statement is None or not call.quiet:
            self.tx.loud = True
            if self.server is not None:
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

    def unsure(self, call: Call, status: Status) -> None:
        """Of several calls in flight some failed, and nobody can tell which: assume either."""
        self.failed(call, status, False)
        if self.server is not None:
            # psycopg may believe in statements whose PREPARE failed with the pipeline: prepare them anew.
            self.server.ddl_epoch = -1
        if not call.quiet and call.statement is not None:
            if self.server is not None:
                self.server.tainted = True
            if call.statement.settings or call.statement.pins:
                self.pin("opaque_setting")

    def synced(self, status: Status) -> None:
        """The statements of a pipeline are complete up to a Sync; *status* is the server's behind it."""
        calls, self.open = self.open, []
        self.piped.clear()
        if self.stumbled:
            self.stumbled = False
            for call in calls:
                self.unsure(call, status)
            return
        for call in calls:
            for hook in self.path.result:
                hook(self, call, call.results)
        was = self.tx.status
        self.tx.loud = True
        known = [(call.statement, call) for call in calls if call.statement is not None]
        consequences.apply_all(self, known, in_transaction=status is not Status.IDLE)
        if self.server is not None and len(known) > 1 and any(consequences.forgets(s) for s, _ in known):
            self.server.ddl_epoch = -1  # and what was prepared behind it? all of it anew
        prepares = any(consequences.prepares(statement) for statement, _ in known)
        self._settle(was, status, b"PREPARE" if prepares else None)

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
        if self.channels is not None:
            self.channels.end(committed=outcome == "commit")
        if self.tx.ddl:
            self.pool.saw_ddl()
        for hook in self.path.settled:
            hook(self, outcome)
        self.tx.end()
        self.ease = None

    def local(self, status: Status, *, committed: bool = True) -> None:
        """The transaction went to *status* without a server: a promise kept or dropped, a loss admitted."""
        if status is Status.IDLE:
            self.settings.end(committed=True)
            if self.channels is not None:
                self.channels.end(committed=committed)
            self.tx.end()

    @property
    def layers(self) -> tuple[Settings | Channels, ...]:
        """What savepoints undo."""
        return (self.settings,) if self.channels is None else (self.settings, self.channels)

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
