"""The short way past the cache, for a statement that neither writes nor locks nor could be kept.

It does what `CacheStage.begin`, `sending` and `result` would do for such a statement: count it, once it is sure
that the catalogue by which it was judged still holds. What is thought of a text is kept with the text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..sql.hint_values import checked
from .ease import make as make_eased
from .policy_verdict import Verdict

if TYPE_CHECKING:
    from ..call import Call
    from ..session import Session
    from .stage import CacheStage

_OFF = {"cache": False}


def make(stage: CacheStage) -> tuple[Callable[[Session, Call, Any], bool], Callable[[Session, Call], bool]]:
    """The hooks `plain` and `passing` of *stage*."""
    service = stage.service
    same, count, eased = service.versions.same, service.stats_.bypass, make_eased(stage)

    def plain(session: Session, call: Call, known: Any) -> bool:
        ease = eased(session)
        if ease is None:
            return False
        mark = known.mark
        if mark is None or mark[0] != ease[0]:
            verdict = stage.verdict(session, call)
            if verdict is None:
                return False
            mark = known.mark = ease[0], _why(verdict)
            known.past = mark[1] != ""
        reason = mark[1]
        if call.options is not None and reason is not None:
            if call.options != _OFF:
                call.options = checked(call.options)
            reason = "option"  # only `cache` False comes this way
        if not reason:
            return False
        call.reason = reason
        return True

    def passing(session: Session, call: Call) -> bool:
        _, book, look = session.ease
        if not same(book.slot, look.token):
            return False
        call.outcome = "bypass"
        count(call.reason)
        return True

    return plain, passing


def _why(verdict: Verdict) -> str | None:
    """Why what does nothing but read is not kept: "" when it may be; None when it does more."""
    if verdict.writes or verdict.locks or verdict.ddl or verdict.opaque:
        return None
    return verdict.reason
