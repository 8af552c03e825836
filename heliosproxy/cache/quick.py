"""The whole of `lookup` and `answer` in one function, for the statement that is there and may be served.

It says what `CacheStage.lookup` and `CacheStage.answer` would say, or nothing; they then find out why.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from psycopg import postgres
from psycopg.adapt import PyFormat

from .ease import make as make_eased

if TYPE_CHECKING:
    from ..session import Session
    from .stage import CacheStage

_AUTO = PyFormat.AUTO
_DUMPERS = postgres.adapters._dumpers


def make(
    stage: CacheStage,
) -> tuple[Callable[[Session, Any, Any, Any, bool | None], Any], Callable[[Session, Any], Any]]:
    """The functions for *stage*: (session, cursor, query, params, binary) → the results, or None; the same for
    (session, raw key)."""
    service = stage.service
    get, valid, eased = service.store.get, service.versions.valid, make_eased(stage)
    count = service.stats_.hit

    def quick(session: Session, cursor: Any, query: Any, params: Any, binary: bool | None) -> Any:
        ease = eased(session)
        if ease is None:
            return None
        if query.__class__ is not str or cursor._adapters._dumpers[_AUTO] is not _DUMPERS[_AUTO]:
            return None
        if binary is None:
            binary = cursor.format
        key: Hashable
        try:
            if params:
                names = None
                if params.__class__ is not tuple:
                    if params.__class__ is dict:
                        names, params = zip(*sorted(params.items()), strict=True)
                    elif params.__class__ is list:
                        params = tuple(params)
                    else:
                        return None
                types = tuple(map(type, params))
                key = (ease[0], cursor._query_cls, query, binary, types, params, names)
            else:
                key = (ease[0], cursor._query_cls, query, binary, None, params is None)
            entry = get(key)
        except TypeError:
            return None  # a parameter without a hash, or names without an order
        if entry is None or not valid(entry.slots, entry.token):
            return None
        count()
        return entry.payload

    def peek(session: Session, raw: tuple[Any, ...]) -> Any:
        ease = eased(session)
        if ease is None:
            return None
        entry = get((ease[0], *raw))
        if entry is None or not valid(entry.slots, entry.token):
            return None
        count()
        return entry.payload

    return quick, peek
