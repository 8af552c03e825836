"""A snapshot of one database's catalogue: what names mean, what a query reads, what a write writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from heliosproxy.sql.analyse import analyse
from heliosproxy.sql.catalog_effects import HARMLESS_EXTENSIONS, Effects
from heliosproxy.sql.catalog_facts import (
    ALL_OPS,
    EVERYTHING,
    Base,
    Everything,
    ForeignKey,
    Operator,
    Overloads,
    Routine,
    Rule,
    Table,
    Trigger,
    Writes,
)
from heliosproxy.sql.catalog_roles import Roles, Schema, elements
from heliosproxy.sql.catalog_writes import Closure
from heliosproxy.sql.statement import Function, Relation, Statement

T = TypeVar("T", Routine, Operator)

_CATALOG = "pg_catalog"
_SYSTEM_SCHEMAS = frozenset({_CATALOG, "information_schema", "pg_toast"})
_KIND_REASONS = {"m": "materialised_view", "f": "foreign_table", "S": "sequence"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What `catalog_load.load` has read: rows by OID or name."""

    database_oid: int
    epoch: int
    system_identifier: str
    server_version: int
    fingerprint: bytes
    tables: Mapping[int, Table]
    children: Mapping[int, tuple[int, ...]]
    parents: Mapping[int, tuple[int, ...]]
    view_bases: Mapping[int, frozenset[int]]
    view_texts: Mapping[int, str]
    rules: Mapping[int, tuple[Rule, ...]]
    triggers: Mapping[int, tuple[Trigger, ...]]
    foreign_keys: Mapping[int, tuple[ForeignKey, ...]]
    expression_functions: Mapping[int, tuple[int, ...]]
    routines: Mapping[int, Routine]
    builtins: Mapping[str, str]
    one_argument_builtins: frozenset[str]
    operators: Mapping[str, tuple[Operator, ...]]
    cast_functions: tuple[int, ...]
    checked_domains: frozenset[str]
    event_triggers: tuple[int, ...]
    hooked_temporary: frozenset[str]
    schemas: Mapping[str, Schema]
    roles: Roles


class Catalog:
    """An immutable snapshot of one database.

    Attributes:
        database_oid, system_identifier, server_version: of what it is a snapshot.
        epoch: the number it was loaded under.
        fingerprint: equal to that of another snapshot, or of `probe`, as long as nothing it holds changed.
        rows: the snapshot itself.
    """

    __slots__ = (
        "_closure",
        "_named",
        "_routines_named",
        "_views",
        "database_oid",
        "effects",
        "epoch",
        "fingerprint",
        "rows",
        "server_version",
        "system_identifier",
    )

    def __init__(self, rows: Snapshot) -> None:
        self.rows = rows
        self.database_oid = rows.database_oid
        self.epoch = rows.epoch
        self.system_identifier = rows.system_identifier
        self.server_version = rows.server_version
        self.fingerprint = rows.fingerprint
        self._named: dict[str, dict[str, int]] = {}
        for table in rows.tables.values():
            self._named.setdefault(table.name, {})[table.schema] = table.oid
        named: dict[str, list[int]] = {}
        for routine in rows.routines.values():
            named.setdefault(routine.name, []).append(routine.oid)
        self._routines_named = {name: tuple(oids) for name, oids in named.items()}
        self.effects = Effects(rows.routines, self._routines_named, self._named, rows.builtins)
        self._closure = Closure(rows, self.effects)
        self._views: dict[int, Statement] = {}

    # --- names

    def search_path(self, setting: str, user: str) -> tuple[str, ...]:
        """Return the schemas that *setting*, a value of search_path, means for the effective role *user*.

        As PostgreSQL does: schemas that do not exist, or that *user* may not use, are left out. pg_catalog is
        among them only where *setting* names it. The session's temporary schema never is.
        """
        found: list[str] = []
        for element in elements(setting):
            name = user if element == "$user" else element
            schema = self.rows.schemas.get(name)
            if schema is not None and name not in found and self.rows.roles.may_use(user, schema):
                found.append(name)
        return tuple(found)

    def resolve(self, relation: Relation, search_path: tuple[str, ...]) -> int | None:
        """Return the OID of what *relation* means, None when unknown. Temporary relations are never found."""
        schemas = self._named.get(relation.name)
        if schemas is None:
            return None
        if relation.schema is not None:
            return schemas.get(relation.schema)
        if _CATALOG in schemas and _CATALOG not in search_path:
            return schemas[_CATALOG]
        return next((schemas[schema] for schema in search_path if schema in schemas), None)

    def relation_name(self, oid: int) -> tuple[str, str] | None:
        """Return (schema, name), None when unknown."""
        table = self.rows.tables.get(oid)
        return table and (table.schema, table.name)

    def relations_named(self, name: str) -> frozenset[int]:
        """Return the OIDs of all relations called *name* (``"users"``, ``"public.users"``), in any schema.

        *name* is the name itself, not SQL: never folded, never unquoted.
        """
        found = set(self._named.get(name, {}).values())
        for position, character in enumerate(name):
            if character == "." and (oid := self._named.get(name[position + 1 :], {}).get(name[:position])):
                found.add(oid)
        return frozenset(found)

    def functions(self, function: Function, search_path: tuple[str, ...]) -> Overloads:
        """Return what *function* may call, whatever its arguments: PostgreSQL chooses among all schemas."""
        schema, name = function
        builtin = self.rows.builtins.get(name) if schema in (None, _CATALOG) else None
        user = self._visible(
            (self.rows.routines[oid] for oid in self._routines_named.get(name, ())), schema, search_path
        )
        if builtin is not None and schema is None:
            # citext and its kin overload replace() or max() for their own types.
            user = tuple(
                found
                for found in user
                if found.volatility != "i" or found.extension not in HARMLESS_EXTENSIONS
            )
        return Overloads(builtin, user)

    def operator_is_foreign(self, operator: Function, search_path: tuple[str, ...]) -> bool:
        """Whether *operator* may be one whose function is not PostgreSQL's own.

        An immutable operator of an extension known to be harmless is not counted: citext, hstore and pgvector
        all bring a ``=`` of their own, usually into schema public.
        """
        return any(not self._is_harmless(found.function) for found in self._operators(operator, search_path))

    def operator_functions(self, operator: Function, search_path: tuple[str, ...]) -> frozenset[int]:
        """Return the user functions that *operator* may run."""
        return (
            frozenset(found.function for found in self._operators(operator, search_path))
            & self.rows.routines.keys()
        )

    def foreign_casts(self) -> tuple[Routine, ...]:
        """Return the user functions behind casts that may happen without a word in the text."""
        return tuple(
            self.rows.routines[oid] for oid in self.rows.cast_functions if not self._is_harmless(oid)
        )

    def row_functions(self, name: str) -> tuple[Routine, ...]:
        """Return the user functions that ``x.name`` or ``(x).name`` may call, in any schema."""
        routines = (self.rows.routines[oid] for oid in self._routines_named.get(name, ()))
        return tuple(found for found in routines if found.one_argument is not None)

    # --- reads and writes

    def reads(self, oids: Iterable[int]) -> Base:
        """Return what a query that names *oids* reads, views expanded, and what speaks against keeping it.

        Reasons: foreign_table, materialised_view, sequence, unlogged, system, row_security,
        security_barrier, unknown_relation.
        """
        seen: set[int] = set()
        views: list[int] = []
        reasons: set[str] = set()
        todo = list(oids)
        while todo:
            oid = todo.pop()
            if oid in seen:
                continue
            seen.add(oid)
            table = self.rows.tables.get(oid)
            if table is None:
                reasons.add("unknown_relation")
                continue
            self._judge(table, reasons)
            if table.kind == "v" and table.schema not in _SYSTEM_SCHEMAS:
                views.append(oid)
                todo += self._view_reads(oid, reasons)
            for member in self._closure.descendants(oid):
                self._judge(self.rows.tables[member], reasons)
        return Base(frozenset(seen), tuple(views), frozenset(reasons))

    def view_statement(self, oid: int) -> Statement:
        """Return the facts of a view's definition; its names are qualified unless in pg_catalog."""
        known = self._views.get(oid)
        if known is None:
            known = self._views[oid] = analyse(self.rows.view_texts.get(oid, "?"))
        return known

    def writes(self, oids: Iterable[int], ops: int = ALL_OPS) -> Writes:
        """Return every relation that changes when *oids* are written: triggers, cascades, rules, partitions.

        Args:
            ops: what is done to them (bits of `catalog_facts`); triggers fire and cascades act accordingly.
        """
        return self._closure.of(((oid, ops) for oid in oids), ())

    def writes_of_functions(self, oids: Iterable[int]) -> Writes:
        """Return every relation that changes when the user functions *oids* are run."""
        return self._closure.of((), oids)

    def family(self, oids: Iterable[int]) -> frozenset[int]:
        """Return *oids* with their partitions and inheritance children and parents: whose content changed.

        For a change stream, which reports what triggers and cascades did by itself.
        """
        found: set[int] = set()
        for oid in oids:
            found |= {oid, *self._closure.descendants(oid)}
        for oid in tuple(found):
            found |= self._closure.ancestors(oid)
        return frozenset(found)

    # --- details

    def _judge(self, table: Table, reasons: set[str]) -> None:
        if table.schema in _SYSTEM_SCHEMAS:
            reasons.add("system")
        if table.kind in _KIND_REASONS:
            reasons.add(_KIND_REASONS[table.kind])
        if table.persistence == "u":
            reasons.add("unlogged")
        if table.row_security:
            reasons.add("row_security")
        if table.security_barrier:
            reasons.add("security_barrier")

    def _view_reads(self, oid: int, reasons: set[str]) -> set[int]:
        # pg_depend does not list the system's own relations, so the definition is asked, too.
        found = set(self.rows.view_bases.get(oid, ()))
        for relation in self.view_statement(oid).reads:
            base = self.resolve(relation, (_CATALOG,))
            if base is None:
                reasons.add("unknown_relation")
            else:
                found.add(base)
        return found

    def _visible(self, found: Iterable[T], schema: str | None, path: tuple[str, ...]) -> tuple[T, ...]:
        if schema is not None:
            return tuple(one for one in found if one.schema == schema)
        return tuple(one for one in found if one.schema == _CATALOG or one.schema in path)

    def _operators(self, operator: Function, path: tuple[str, ...]) -> tuple[Operator, ...]:
        schema, name = operator
        return self._visible(self.rows.operators.get(name, ()), schema, path)

    def _is_harmless(self, oid: int) -> bool:
        routine = self.rows.routines.get(oid)
        if routine is None:
            return oid < 16384 and oid != 0
        return routine.volatility == "i" and routine.extension in HARMLESS_EXTENSIONS


__all__ = ["ALL_OPS", "EVERYTHING", "Catalog", "Everything", "Snapshot"]
