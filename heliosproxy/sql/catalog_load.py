"""Reading a database's catalogue: `load` takes a snapshot, `probe` asks whether it is still true."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from typing import Any, TypeVar

import psycopg
from psycopg.rows import tuple_row

from heliosproxy.sql import catalog_queries as queries
from heliosproxy.sql.catalog import Catalog, Snapshot
from heliosproxy.sql.catalog_facts import (
    DELETE,
    INSERT,
    TRUNCATE,
    UPDATE,
    ForeignKey,
    Operator,
    Routine,
    Rule,
    Table,
    Trigger,
)
from heliosproxy.sql.catalog_roles import Role, Roles, Schema

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_RULE_OPS = {"2": UPDATE, "3": INSERT, "4": DELETE}
_ANY_OP = INSERT | DELETE | UPDATE | TRUNCATE


def probe(conn: psycopg.Connection[Any]) -> bytes:
    """Return what `Catalog.fingerprint` would be now: one query, for the poll of hazards/cache.md, row 9."""
    return _fingerprint(conn.cursor(row_factory=tuple_row))


def load(conn: psycopg.Connection[Any], epoch: int = 0) -> Catalog:
    """Take a snapshot of the catalogue of the database that *conn* is connected to.

    Args:
        conn: a plain connection in autocommit, outside a transaction. Its role need not be a superuser.
        epoch: the number the snapshot gets; give each one its own.
    """
    cursor = conn.cursor(row_factory=tuple_row)
    # One snapshot for all queries, and names in view definitions qualified unless in pg_catalog.
    cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        # Compiling these queries takes longer than running them.
        cursor.execute("SELECT set_config('search_path', 'pg_catalog', true), set_config('jit', 'off', true)")
        return _load(cursor, epoch)
    finally:
        cursor.execute("ROLLBACK")


def _fingerprint(cursor: psycopg.Cursor[tuple[Any, ...]]) -> bytes:
    version = cursor.connection.info.server_version
    row = cursor.execute(queries.probe(version)).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    return str(row[0]).encode()


def _load(cursor: psycopg.Cursor[tuple[Any, ...]], epoch: int) -> Catalog:
    version = cursor.connection.info.server_version

    def rows(query: str) -> list[tuple[Any, ...]]:
        return cursor.execute(query.encode()).fetchall()

    fingerprint = _fingerprint(cursor)
    database, owner, system_identifier = rows(queries.DATABASE)[0]
    tables = {row[0]: Table(*row) for row in rows(queries.TABLES)}
    inherits = [(child, parent) for child, parent in rows(queries.INHERITS) if child in tables]
    views, rules = _rewrite(rows(queries.RULES))
    builtins: dict[str, str] = {}
    one_argument: set[str] = set()
    for volatility, names, unary in rows(queries.BUILTINS):
        builtins |= dict.fromkeys(names.split(","), volatility)
        if unary and volatility != "i":
            one_argument |= set(unary.split(","))
    return Catalog(
        Snapshot(
            database_oid=database,
            epoch=epoch,
            system_identifier=system_identifier,
            server_version=version,
            fingerprint=fingerprint,
            tables=tables,
            children=_grouped((parent, child) for child, parent in inherits),
            parents=_grouped(inherits),
            view_bases=views,
            view_texts=dict(rows(queries.VIEW_TEXTS)),
            rules=rules,
            triggers=_grouped(
                (table, Trigger(kind & _ANY_OP, function)) for table, kind, function in rows(queries.TRIGGERS)
            ),
            foreign_keys=_grouped((row[0], ForeignKey(*row[1:])) for row in rows(queries.FOREIGN_KEYS)),
            expression_functions=_grouped((row[0], row[1]) for row in rows(queries.EXPRESSION_FUNCTIONS)),
            routines={
                row[0]: Routine._make((*row[:10], tuple(row[10]))) for row in rows(queries.routines(version))
            },
            builtins=builtins,
            one_argument_builtins=frozenset(one_argument),
            operators=_grouped((row[1], Operator(*row)) for row in rows(queries.OPERATORS)),
            cast_functions=tuple(row[0] for row in rows(queries.CASTS)),
            checked_domains=frozenset(row[0] for row in rows(queries.DOMAINS)),
            event_triggers=tuple(row[0] for row in rows(queries.EVENT_TRIGGERS)),
            hooked_temporary=frozenset(row[0] for row in rows(queries.HOOKED_TEMPORARY)),
            schemas={row[0]: Schema(row[0], row[1], frozenset(row[2])) for row in rows(queries.SCHEMAS)},
            roles=Roles(
                {row[0]: Role(row[1], row[2], tuple(row[3])) for row in rows(queries.roles(version))}, owner
            ),
        )
    )


def _grouped(pairs: Iterable[tuple[K, V]]) -> dict[K, tuple[V, ...]]:
    lists: defaultdict[K, list[V]] = defaultdict(list)
    for key, value in pairs:
        lists[key].append(value)
    return {key: tuple(values) for key, values in lists.items()}


def _rewrite(
    rows: list[tuple[int, str, list[int], list[int]]],
) -> tuple[dict[int, frozenset[int]], dict[int, tuple[Rule, ...]]]:
    """Split pg_rewrite into what views read and what rules name, both by relation."""
    views: dict[int, frozenset[int]] = {}
    rules: defaultdict[int, list[Rule]] = defaultdict(list)
    for relation, event, relations, functions in rows:
        if event == "1":
            views[relation] = frozenset(relations) - {relation}
        else:
            rules[relation].append(Rule(_RULE_OPS[event], frozenset(relations), frozenset(functions)))
    return views, {relation: tuple(found) for relation, found in rules.items()}
