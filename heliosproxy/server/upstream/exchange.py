"""What is expected from a server connection up to its next ReadyForQuery, and what becomes of it.

A client's messages and ours travel together, so their replies must be told apart. In the extended protocol each
message is answered by one reply, a *unit*, that ends with a message of a kind of its own; a `script` says unit by
unit what to do. After an error nothing comes but ReadyForQuery (PostgreSQL, 55.2.3), so an error ends the script.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

# The message that ends the reply to Parse, Bind, Close, Describe and Execute.
UNIT_ENDS = frozenset(b"123TnCIs")


class Unit:
    """The reply to one message of the extended protocol.

    Attributes:
        forward: the client has asked for it; else it is ours, and stays here.
        done: called when it has arrived, without error; None = nothing to do.
        told: called then with the message that ends it; None = nobody wants it.
    """

    __slots__ = ("done", "forward", "told")

    def __init__(
        self,
        forward: bool,
        done: Callable[[], None] | None = None,
        told: Callable[[bytes], object] | None = None,
    ) -> None:
        self.forward = forward
        self.done = done
        self.told = told


class Insert:
    """What the client gets at this place although no server says it.

    Attributes:
        data: messages; b"" where only *done* matters.
        done: called when its place is reached.
    """

    __slots__ = ("data", "done")

    def __init__(self, data: bytes, done: Callable[[], None] | None = None) -> None:
        self.data = data
        self.done = done


Script = deque[Unit | Insert]
BEGIN_UNITS = 3  # Parse, Bind and Execute of a BEGIN that travels ahead


class Exchange:
    """One conversation with a server connection, up to ReadyForQuery.

    Attributes:
        client: who gets the replies; None = nobody, they are swallowed.
        script: unit by unit; None = everything is forwarded.
        ahead: units of ours before the client's first: the BEGIN that was promised.
        synced: what ends it was sent (Query, Sync, FunctionCall); else more may follow in it.
        coming: names of ours for statements that are being prepared in it; None = no extended messages.
        naming: of a statement that is prepared in it, where there is no script to say so; b"" = none.
        prefix: what the client gets before anything that is forwarded.
        copying: the server waits for COPY data of the client.
        refusal: what the client gets instead of the error that we made the server report; b"" = none.
        overdue: what the client gets instead of 57014: the proxy has cancelled it; b"" = it has not.
        tee: what was forwarded, for the cache; None = not wanted, or too much.
        room: bytes that *tee* may still take.
        tag: the last command tag; b"" before one came.
        error: the first ErrorResponse, whole; b"" = none came.
        simple: it is that of a Query.
        queried: a Query ends it, behind extended messages without a Sync.
        status: the transaction status at its end: I, T or E; 0 before.
        reported: settings of which the server has said meanwhile that they are others, by name; None = of none.
        remembered: statements of a batch without its Sync that were answered, and are settled at its end all the same.
        passing: it went the short way; see `heliosproxy.server.client.express`.
    """

    # Defaults of the class, because most of them stay untouched.
    ahead = 0
    copying = False
    error = b""
    naming = b""
    overdue = b""
    passing = False
    prefix = b""
    queried = False
    refusal = b""
    remembered = 0
    reported: dict[bytes, bytes] | None = None
    room = 0
    script: Script | None = None
    simple = False
    status = 0
    synced = True
    tag = b""
    tee: list[bytes] | None = None
    coming: set[bytes] | None = None

    def __init__(
        self,
        client: Any,
        done: Callable[[Exchange], None],
        script: Script | None = None,
        *,
        synced: bool = True,
    ) -> None:
        self.client = client
        self.done = done
        self.script = script
        self.synced = synced

    @property
    def fails(self) -> bool:
        """Whether the server has skipped, or will, to the Sync that the client still owes."""
        return bool(self.error or self.refusal)

    def plan(self) -> Any:
        """What the client wanted by it, where it is `passing`."""
        raise NotImplementedError

    def land(self, server: Any, data: bytes) -> None:
        """*data* is the whole answer, where it is `passing`."""
        raise NotImplementedError

    def end(self) -> None:
        """ReadyForQuery came."""
        self.done(self)

    def keep(self, data: bytes) -> None:
        """Keep *data*, which was forwarded, if the cache wants it."""
        tee = self.tee
        if tee is not None:
            self.room -= len(data)
            if self.room < 0:
                self.tee = None
            else:
                tee.append(data)
