"""What a statement may write, lock and change: rows 3, 4, 5 and 8 of hazards/cache.md. Pure."""

from __future__ import annotations

from heliosproxy.cache.policy_verdict import Verdict, union
from heliosproxy.sql.catalog import Catalog
from heliosproxy.sql.catalog_effects import HARMLESS_VOLATILE, VALUE_FUNCTIONS
from heliosproxy.sql.catalog_facts import EVERYTHING, Everything, Overloads, Routine, Writes, operations
from heliosproxy.sql.statement import Kind, Relation, Statement, TransactionOp

_CATALOG_PATH = ("pg_catalog",)

# They run what the text does not show.
_OPAQUE = frozenset({Kind.CALL, Kind.DO, Kind.EXECUTE, Kind.LOAD, Kind.UNCLASSIFIED})
_REORDERING = ("full", "cluster")  # VACUUM FULL and CLUSTER move rows: ctid and the order of a scan change


class Trust:
    """User functions the configuration vouches for: ``"app.slugify"``, or ``"slugify"`` in any schema."""

    __slots__ = ("_names",)

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = frozenset(names)

    def __contains__(self, routine: Routine) -> bool:
        return routine.name in self._names or f"{routine.schema}.{routine.name}" in self._names


def effects(
    statement: Statement, catalog: Catalog, path: tuple[str, ...], trust: Trust, temp: bool
) -> Verdict:
    """Return a verdict without judgement on cacheability: writes, locks, ddl and opaque are filled in."""
    kind = statement.kind
    if kind in _OPAQUE:
        return Verdict(False, writes=EVERYTHING, locks=True, ddl=True, opaque=True)
    writes, opaque = called(statement, catalog, path, trust)
    # What is not understood may have created and dropped, too.
    ddl = isinstance(writes, Everything)
    if kind is Kind.DDL:
        ddl |= not statement.temp or _hooks(statement, catalog, path)
        fired = catalog.writes_of_functions(catalog.rows.event_triggers)
        writes = EVERYTHING if ddl else union(writes, fired)
    elif kind is Kind.REFRESH:
        # The view itself is never kept; its query may run functions that write.
        writes = union(writes, _written(statement, statement.reads | statement.writes, catalog, path, temp))
    elif kind is Kind.MAINTENANCE:
        if any(word in statement.text.lower() for word in _REORDERING):
            writes = EVERYTHING
    elif statement.writes_anything:
        ddl, writes = True, EVERYTHING
    elif _resolves_prepared(statement):
        writes = EVERYTHING
    elif statement.writes:
        writes = union(writes, _written(statement, statement.writes, catalog, path, temp or statement.temp))
    locks = statement.row_locks or kind is Kind.LOCK or any(_is_lock(f.name) for f in statement.functions)
    return Verdict(False, writes=writes, locks=locks, ddl=ddl, opaque=opaque)


def called(
    statement: Statement, catalog: Catalog, path: tuple[str, ...], trust: Trust
) -> tuple[Writes, bool]:
    """Return what functions and operators in *statement* write, and whether one may change the session."""
    bodies = [(statement, path)]
    # A view runs the functions of its definition.
    views = catalog.reads(resolved(statement.reads, catalog, path)[0]).views
    bodies += [(catalog.view_statement(oid), _CATALOG_PATH) for oid in views]
    oids: set[int] = set()
    if statement.reads or statement.writes or statement.functions or statement.type_casts:
        oids = {routine.oid for routine in catalog.foreign_casts() if routine not in trust}
    for body, names in bodies:
        routines = catalog.rows.routines
        attributes = catalog.effects.attributes(body.text)
        oids |= {oid for oid in attributes if routines[oid] not in trust}
        for operator in body.operators:
            oids |= catalog.operator_functions(operator, names)
        for function in body.functions:
            found = catalog.functions(function, names)
            if _may_do_anything(found, function.name):
                return EVERYTHING, True
            oids |= {routine.oid for routine in found.user if routine not in trust}
    opaque = any(catalog.rows.routines[oid].volatility == "v" for oid in oids if oid in catalog.rows.routines)
    return catalog.writes_of_functions(oids), opaque


def resolved(
    relations: frozenset[Relation], catalog: Catalog, path: tuple[str, ...]
) -> tuple[frozenset[int], bool]:
    """Return the OIDs of *relations*, and whether all are known."""
    oids = {catalog.resolve(relation, path) for relation in relations}
    return frozenset(oid for oid in oids if oid is not None), None not in oids


def _may_do_anything(found: Overloads, name: str) -> bool:
    if found.builtin is None:
        return not found.user and name not in VALUE_FUNCTIONS
    return found.builtin == "v" and name not in HARMLESS_VOLATILE


def _written(
    statement: Statement,
    relations: frozenset[Relation],
    catalog: Catalog,
    path: tuple[str, ...],
    temp: bool,
) -> Writes:
    oids: set[int] = set()
    for relation in relations:
        oid = catalog.resolve(relation, path)
        if temp and (relation.schema is None or relation.schema.startswith("pg_temp")):
            # It may be a temporary relation, perhaps a view or with a trigger.
            if relation.name in catalog.rows.hooked_temporary:
                return EVERYTHING
        elif oid is None:
            return EVERYTHING
        if oid is not None:
            oids.add(oid)
    return catalog.writes(oids, operations(statement))


def _hooks(statement: Statement, catalog: Catalog, path: tuple[str, ...]) -> bool:
    """Whether the temporary relation that is created may, when written, write others (`hooked_temporary`)."""
    if statement.verb in ("CREATE TABLE AS", "SELECT INTO"):
        return False
    text = statement.text.lower()
    if "VIEW" in statement.verb or any(word in text for word in ("inherits", "like", "partition")):
        return True
    return any(catalog.functions(function, path).user for function in statement.functions)


def _resolves_prepared(statement: Statement) -> bool:
    """COMMIT PREPARED: who prepared it, and what it wrote, is not in the text."""
    transaction = statement.transaction
    return transaction is not None and transaction.op is TransactionOp.COMMIT_PREPARED


def _is_lock(name: str) -> bool:
    return "advisory" in name and "unlock" not in name
