"""What the policy says about a statement."""

from __future__ import annotations

from dataclasses import dataclass

from heliosproxy.sql.catalog_facts import EVERYTHING, Everything, Writes

_NOTHING: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement on one statement, for one catalogue and search_path.

    Attributes:
        cacheable: its result may be kept, under a key that covers text, parameters, formats, role and
            settings, as long as nothing writes *reads*.
        reason: why not, one word (``"volatile_function"``); "" when cacheable.
        reads: OIDs of the relations it reads, views and their base relations.
        writes: OIDs of the relations it may write, or EVERYTHING.
        locks: it takes row, table or advisory locks: what follows in the transaction must see the database
            (row 34).
        ddl: the catalogue may be another one afterwards (row 8).
        opaque: it may have changed the session, or anything.
    """

    cacheable: bool
    reason: str = ""
    reads: frozenset[int] = _NOTHING
    writes: Writes = _NOTHING
    locks: bool = False
    ddl: bool = False
    opaque: bool = False


def union(first: Writes, second: Writes) -> Writes:
    """Return what both write together."""
    if isinstance(first, Everything) or isinstance(second, Everything):
        return EVERYTHING
    return first | second if second else first
