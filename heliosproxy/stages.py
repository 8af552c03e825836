"""What a feature may hook into. The path is a tuple of stages, built once from the configuration.

A stage is any object that has some of the hooks below; `Path` collects, once, for each hook the bound methods
of the stages that define it, in the order of the path, so that a hook nobody defines costs nothing.

    before(session, call)            guard: raise to reject, or rewrite; runs for cache hits, too
    lookup(session, call)            answer?, first half: an entry with its facts in `call.statement`, or None
    quick(session, cursor, query, params, binary)
                                     lookup and answer at once, for a face in the process; only where no
                                     stage has `before` and none but its own `observe`
    peek(session, raw)               … for a face whose calls have a key of their own, `Call.raw`: the results, or None
    answer(session, call, entry)     answer?, second half: list of PGresult, or None when it is no longer true
    plain(session, call, known)      whether this stage has nothing to do with the call on its way to a server and
                                     back (it may note why in the call): then it may take the short way, where
                                     nothing else of this stage is called as long as no error comes
    passing(session, call)           … immediately before it is sent the short way: whether that still holds;
                                     the stage counts it here
    begin(session, call)             the statement will need a server: may return Steps to be driven first
    compose(session, call, flight)   the server connection is leased, nothing sent yet: add to the flight
    sending(session, call)           the last thing before the send, when the flight is complete
    result(session, call, results)   the server answered without error; transaction status is known
    failed(session, call, error, edge)
                                     the attempt failed: may return Steps whose value True asks for a restart,
                                     after which the session runs the call again, on the server connection
                                     the steps gave it (`Session.take`), or on a new one
    settled(session, outcome)        a transaction (or an autocommit statement that wrote) is over: outcome is
                                     "commit", "rollback", "doubt" (connection lost), "prepared"
    released(session)                the session gives its server connection back
    observe(session, call, error)    after everything, for counters
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

HOOKS = (
    "before",
    "lookup",
    "quick",
    "peek",
    "answer",
    "plain",
    "passing",
    "begin",
    "compose",
    "sending",
    "result",
    "failed",
    "settled",
    "released",
    "observe",
)

# A stage with one of these takes part in what the short way leaves out.
_ON_THE_WAY = ("before", "begin", "compose", "sending", "result")

Hook = Callable[..., Any]


class Path:
    """The stages of one Proxy, hook by hook.

    Attributes:
        stages: the stages, in the order of the path.
        before … observe: for each hook, the bound methods of the stages that define it.
    """

    __slots__ = ("stages", *HOOKS)

    before: tuple[Hook, ...]
    lookup: tuple[Hook, ...]
    quick: tuple[Hook, ...]
    peek: tuple[Hook, ...]
    answer: tuple[Hook, ...]
    plain: tuple[Hook, ...]
    passing: tuple[Hook, ...]
    begin: tuple[Hook, ...]
    compose: tuple[Hook, ...]
    sending: tuple[Hook, ...]
    result: tuple[Hook, ...]
    failed: tuple[Hook, ...]
    settled: tuple[Hook, ...]
    released: tuple[Hook, ...]
    observe: tuple[Hook, ...]

    def __init__(self, stages: Iterable[object] = ()) -> None:
        self.stages = tuple(stages)
        for hook in HOOKS:
            setattr(self, hook, tuple(getattr(s, hook) for s in self.stages if hasattr(s, hook)))

    @property
    def swift(self) -> Hook | None:
        """The `quick` hook, where nothing else has to be asked."""
        if len(self.quick) != 1 or self.before or len(self.observe) > 1:
            return None
        return self.quick[0]

    @property
    def short(self) -> tuple[Hook, ...] | None:
        """The `observe` hooks of the short way; None where a stage cannot tell whether it may be taken."""
        concerned = [stage for stage in self.stages if any(hasattr(stage, hook) for hook in _ON_THE_WAY)]
        if self.before or not all(hasattr(stage, "plain") for stage in concerned):
            return None
        return tuple(s.observe for s in self.stages if hasattr(s, "observe") and not hasattr(s, "plain"))

    @property
    def bare(self) -> bool:
        """Whether no stage has anything to do with a statement on its way to a server and back."""
        return not any(getattr(self, hook) for hook in _ON_THE_WAY)

    def __bool__(self) -> bool:
        return bool(self.stages)
