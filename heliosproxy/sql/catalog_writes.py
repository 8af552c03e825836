"""What else a write writes: the closure over triggers, cascades, rules, views and partitions.

hazards/cache.md, rows 5 and 7. Too wide is slow; too narrow is a lie.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from heliosproxy.sql.catalog_effects import Effects
from heliosproxy.sql.catalog_facts import (
    ALL_OPS,
    DELETE,
    EVERYTHING,
    INSERT,
    TRUNCATE,
    UPDATE,
    Everything,
    Writes,
)

if TYPE_CHECKING:
    from heliosproxy.sql.catalog import Snapshot

_DOMAINS = 0  # the relation of functions in checks of domains: which columns have them is not known
_MEMO_SIZE = 10_000


class Closure:
    """The closure over one snapshot, memoised."""

    def __init__(self, rows: Snapshot, effects: Effects) -> None:
        self._rows = rows
        self._effects = effects
        self._memo: dict[tuple[frozenset[tuple[int, int]], frozenset[int]], Writes] = {}
        self._kin: dict[tuple[int, bool], frozenset[int]] = {}

    def descendants(self, oid: int) -> frozenset[int]:
        """Return the partitions and inheritance children of *oid*, at any depth."""
        return self._reach(oid, True)

    def ancestors(self, oid: int) -> frozenset[int]:
        """Return the parents of *oid*, at any height."""
        return self._reach(oid, False)

    def of(self, writes: Iterable[tuple[int, int]], functions: Iterable[int]) -> Writes:
        """Return every relation that changes by *writes* (relation, ops) and by running *functions*."""
        key = (frozenset(writes), frozenset(functions))
        known = self._memo.get(key)
        if known is None:
            if len(self._memo) >= _MEMO_SIZE:
                self._memo.clear()
            known = self._memo[key] = self._close(*key)
        return known

    def _close(self, writes: frozenset[tuple[int, int]], functions: frozenset[int]) -> Writes:
        done: dict[int, int] = {}
        effect = self._effects.of(functions)
        if isinstance(effect, Everything):
            return EVERYTHING
        todo = [*writes, *effect]
        while todo:
            oid, ops = todo.pop()
            table = self._rows.tables.get(oid)
            if table is None or table.kind == "f":  # behind a foreign table may be any table of ours
                return EVERYTHING
            if table.kind == "p" and ops & UPDATE:
                ops |= INSERT | DELETE  # a row may move to another partition
            ops &= ~done.get(oid, 0)
            if not ops and oid in done:
                continue
            done[oid] = done.get(oid, 0) | ops
            effect = self._effects.of(self._functions(oid, ops))
            if isinstance(effect, Everything):
                return EVERYTHING
            todo += effect
            todo += self._consequences(oid, table.kind, ops)
        found = set(done)
        for oid in done:
            found |= self.ancestors(oid)
        return frozenset(found)

    def _functions(self, oid: int, ops: int) -> set[int]:
        """Return the functions that PostgreSQL may run when *oid* is written."""
        rows = self._rows
        found = set(rows.expression_functions.get(oid, ()))
        found.update(rows.expression_functions.get(_DOMAINS, ()))
        # A partitioned table's row triggers fire for its partitions.
        for relation in (oid, *self._partitioned(oid)):
            found.update(trigger.function for trigger in rows.triggers.get(relation, ()) if trigger.ops & ops)
        for rule in rows.rules.get(oid, ()):
            if rule.ops & ops:
                found |= rule.functions
        return found

    def _consequences(self, oid: int, kind: str, ops: int) -> list[tuple[int, int]]:
        """Return what else PostgreSQL writes when *oid* is written, functions apart."""
        rows = self._rows
        found = [(child, ops) for child in rows.children.get(oid, ())]
        for relation in (oid, *self._partitioned(oid)):
            for key in rows.foreign_keys.get(relation, ()):
                cascaded = _cascade(key.on_delete, key.on_update, ops)
                if cascaded:
                    found.append((key.child, cascaded))
        for rule in rows.rules.get(oid, ()):
            if rule.ops & ops:
                found += [(relation, ALL_OPS) for relation in rule.relations]
        if kind == "v":
            found += [(base, ops) for base in rows.view_bases.get(oid, ())]
        return found

    def _partitioned(self, oid: int) -> frozenset[int]:
        return self.ancestors(oid) if self._rows.tables[oid].is_partition else frozenset()

    def _reach(self, oid: int, down: bool) -> frozenset[int]:
        known = self._kin.get((oid, down))
        if known is None:
            edges: Mapping[int, tuple[int, ...]] = self._rows.children if down else self._rows.parents
            found: set[int] = set()
            todo = list(edges.get(oid, ()))
            while todo:
                relative = todo.pop()
                if relative not in found:
                    found.add(relative)
                    todo += edges.get(relative, ())
            known = self._kin[oid, down] = frozenset(found)
        return known


def _cascade(on_delete: str, on_update: str, ops: int) -> int:
    """Return what a foreign key with these actions does to the referencing table."""
    cascaded = 0
    if ops & TRUNCATE:
        cascaded |= TRUNCATE  # TRUNCATE … CASCADE asks for no action of the key's
    if ops & DELETE:
        cascaded |= {"c": DELETE, "n": UPDATE, "d": UPDATE}.get(on_delete, 0)
    if ops & UPDATE and on_update in ("c", "n", "d"):
        cascaded |= UPDATE
    return cascaded
