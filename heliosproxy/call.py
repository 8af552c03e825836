"""One statement on its way: the recipe it can be sent from again, and what the path learned about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .sql.statement import Statement


class Call:
    """A statement with its parameters, as one client asked for it.

    The first group is the recipe, fixed by the face; the second is filled in on the way.

    Attributes:
        query: what the caller passed (str, bytes, Composable, Template).
        params: sequence, mapping or None, as passed.
        cursor: the sink of the results (for DB-API: the cursor).
        prepare, binary: as psycopg's ``execute()``.
        options: per-call options (``helios={...}``), or None.
        kind: "execute", "stream", "copy", "command" (a face's own commands: COMMIT, FETCH).
        bound: the converted query (``.query`` bytes with $1, ``.params``, ``.types``, ``.formats``).
        statement: the facts; None until analysed.
        raw: a face's own key for the cache, everything the answer depends on beside the session, beginning with
            the kind of its results; empty: its answer is not to be kept; None: the cache makes one from query,
            parameters and cursor.
        quiet: it is known to leave the session's own state alone.
        flight: what travels with it.
        results: what the server, or a stage, answered: a list of PGresult, or of a face's own kind with the same
            ``status``; None until answered.
        outcome: "hit", "miss" or "bypass"; "" when no cache looked at it.
        reason: why it was bypassed, a short stable word (``"in_transaction_after_write"``), or "".
        node: name of the node that answered; "" for a hit.
        seconds: from the call to the complete answer; 0.0 where nobody measured.
        key: the cache's: under which an answer is stored; None when it is not to be.
        token: the cache's: what it saw immediately before the send; None means the result is not stored.
        note: a stage may leave something for its own later hook here, under its own name.
    """

    # Defaults of the class: most of these stay untouched, and setting them one by one would cost 0.5 µs.
    bound: Any = None
    statement: Statement | None = None
    raw: tuple[Any, ...] | None = None
    quiet = False
    flight: Flight | None = None
    results: list[Any] | None = None
    outcome = ""
    reason = ""
    node = ""
    seconds = 0.0
    key: Any = None
    token: Any = None
    note: dict[str, Any] | None = None

    def __init__(
        self,
        query: Any,
        params: Any = None,
        cursor: Any = None,
        prepare: bool | None = None,
        binary: bool | None = None,
        options: dict[str, Any] | None = None,
        kind: str = "execute",
    ) -> None:
        self.query = query
        self.params = params
        self.cursor = cursor
        self.prepare = prepare
        self.binary = binary
        self.options = options
        self.kind = kind


class Flight:
    """What travels with a statement: ``[state] Sync [begin] statement [behind] Sync``.

    Whoever adds something assigns a new sequence.

    Attributes:
        state: commands that bring the server connection to the session's state, followed by a Sync of their
            own, so that a failing statement does not roll them back (hazards: one Sync would).
        begin: BEGIN, and what else must precede the statement in its transaction; sent only before the first
            statement that needs a server.
        behind: commands behind the statement, before the last Sync (a commit marker).
        wary: a command of *state* may fail (SET ROLE, when the role is gone): nothing else may be sent before it
            has succeeded.
    """

    __slots__ = ("begin", "behind", "state", "wary")

    def __init__(self, state: Sequence[bytes] = (), begin: Sequence[bytes] = ()) -> None:
        self.state = state
        self.wary = False
        self.begin = begin
        self.behind: Sequence[bytes] = ()

    def __bool__(self) -> bool:
        return bool(self.state or self.begin or self.behind)
