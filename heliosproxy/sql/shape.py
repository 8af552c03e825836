"""Texts that differ in integers alone: a cheaper key to what is known of them.

Who writes values into the text (Django, psycopg2, pgbench) sends a new text each time, and each would be parsed. But an
integer constant of a query, of INSERT, UPDATE or DELETE decides nothing of what `Statement` says: not what is read,
written or called. So texts that are equal but for their integers have equal facts, except for the text itself.

Only where that is certain is there a shape: a text without quotes, comments, dollar signs or backslashes, in which a
run of digits that touches no letter, digit or dot is an integer constant and nothing else (PostgreSQL, 4.1.2.6).
"""

from __future__ import annotations

import re

from .statement import Kind, Statement

LONGEST = 4096
"""Bytes of a text that is looked at: longer ones hold other data than integers."""

_UNSURE = re.compile(rb"['\"$\\]|--|/\*")
_SUSPECTS = b"'\"$\\-/"
# A digit first, and then a look behind it: so the search skips what is no digit, which halves the time.
_INTEGER = re.compile(rb"[0-9](?<![A-Za-z0-9_.\x80-\xff][0-9])[0-9]*(?![A-Za-z0-9_.\x80-\xff])")
_KINDS = frozenset({Kind.SELECT, Kind.INSERT, Kind.UPDATE, Kind.DELETE})


def shape(text: bytes) -> bytes | None:
    """*text* with 0 in the place of each integer; None where it has none, or nobody can be sure."""
    size = len(text)
    if size > LONGEST or (len(text.translate(None, _SUSPECTS)) != size and _UNSURE.search(text)):
        return None
    found, count = _INTEGER.subn(b"0", text)
    return found if count else None


def shared(statement: Statement) -> bool:
    """Whether the facts of *statement* are those of every text of its shape."""
    return statement.kind in _KINDS and not statement.settings and not statement.pins and not statement.hints
