"""What an answer is stored under: everything it depends on, whole, never only a hash.

    (context, converter, text, formats, types of the parameters, parameters, their names or None)
    (context, what a face of its own gives as a whole: bytes as they came over the wire)

Two forms of the last two. Parameters of a few plain types are taken as they are, with their exact types
(``1 == True == 1.0``): that saves converting them. All others are taken as the bytes that would be sent.
"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import TYPE_CHECKING, Any

from psycopg import postgres
from psycopg.adapt import PyFormat

if TYPE_CHECKING:
    from ..call import Call

# Equal values of one of these types are sent as equal bytes, given the same dumper. That is not so for Decimal
# (1.0 == 1.00), float (0.0 == -0.0), datetime (one instant in two zones) and subclasses.
_PLAIN = frozenset({int, str, bytes, bool, type(None), uuid.UUID, dt.date})
_AUTO = PyFormat.AUTO


def raw_key(call: Call, context: int) -> tuple[Any, ...] | None:
    """The key of *call* before anything is converted; None when its parts do not allow that."""
    if call.raw is not None:
        return (context, *call.raw) if call.raw else None
    cursor, query, params = call.cursor, call.query, call.params
    if (
        query.__class__ is not str
        or cursor._adapters._dumpers[_AUTO] is not postgres.adapters._dumpers[_AUTO]
    ):
        return None  # parts composed anew each time; or dumpers of the user's own
    binary = cursor.format if call.binary is None else call.binary
    if not params:
        return context, cursor._query_cls, query, binary, None, params is None
    names = None
    if params.__class__ is not tuple:
        if params.__class__ is dict:
            try:
                names, params = zip(*sorted(params.items()), strict=True)
            except TypeError:
                return None  # names that have no order
        elif params.__class__ is list:
            params = tuple(params)
        else:
            return None
    types = tuple(map(type, params))
    if not _PLAIN.issuperset(types):
        return None
    return context, cursor._query_cls, query, binary, types, params, names


def bound_key(call: Call, context: int) -> tuple[Any, ...]:
    """The key of *call* by the bytes that would be sent."""
    bound = call.bound
    binary = call.cursor.format if call.binary is None else call.binary
    params = None if bound.params is None else tuple(None if p is None else bytes(p) for p in bound.params)
    return context, bound.query, binary, bound.types, tuple(bound.formats or ()), params


def key(call: Call, context: int) -> tuple[Any, ...] | None:
    """The key of *call* once its parameters are converted; None when its face gives it none."""
    if call.raw is not None:
        return raw_key(call, context)
    return raw_key(call, context) or bound_key(call, context)
