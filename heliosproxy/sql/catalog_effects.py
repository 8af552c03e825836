"""What a function writes, read from its body: hazards/cache.md, row 5.

A trigger, a default or a rule runs functions that the statement does not name. A body in plpgsql or SQL is
read; whatever is not understood to the last word may write anything. Names in a body are found by the
search_path of whoever fires it, which nobody knows here, so a name means every object of that name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from heliosproxy.sql.analyse import analyse
from heliosproxy.sql.catalog_facts import EVERYTHING, FIRST_USER_OID, Everything, Routine, operations, words
from heliosproxy.sql.catalog_names import attributes
from heliosproxy.sql.statement import Function, Kind, Relation, Statement

# C functions cannot be read. Those of these extensions are known to compute, and to write no table.
HARMLESS_EXTENSIONS = words(
    """
    autoinc bloom btree_gin btree_gist citext cube dict_int dict_xsyn earthdistance fuzzystrmatch hstore
    insert_username intarray isn ltree moddatetime pg_trgm pg_uuidv7 pgcrypto seg tcn unaccent uuid-ossp
    vector
    """
)

# Volatile functions of pg_catalog that write no table: they draw, wait, lock, notify, count sequences, or
# change the session. Every other volatile one is taken to write anything (query_to_xml runs its argument).
HARMLESS_VOLATILE = words(
    """
    clock_timestamp timeofday random random_normal setseed gen_random_uuid uuidv4 uuidv7 nextval setval
    currval lastval pg_sleep pg_sleep_for pg_sleep_until pg_notify set_config pg_advisory_lock
    pg_advisory_lock_shared pg_advisory_unlock pg_advisory_unlock_all pg_advisory_unlock_shared
    pg_advisory_xact_lock pg_advisory_xact_lock_shared pg_try_advisory_lock pg_try_advisory_lock_shared
    pg_try_advisory_xact_lock pg_try_advisory_xact_lock_shared pg_cancel_backend pg_terminate_backend
    pg_is_in_recovery pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_last_xact_replay_timestamp
    pg_current_wal_lsn pg_current_wal_insert_lsn pg_current_wal_flush_lsn pg_relation_size pg_table_size
    pg_indexes_size pg_total_relation_size pg_database_size pg_tablespace_size pg_blocking_pids
    pg_safe_snapshot_blocking_pids pg_isolation_test_session_is_blocked txid_status pg_xact_status
    pg_reload_conf pg_stat_clear_snapshot pg_stat_force_next_flush pg_log_backend_memory_contexts
    pg_control_system pg_control_checkpoint pg_notification_queue_usage pg_lock_status
    pg_column_compression pg_get_wal_replay_pause_state
    """
)

# SQL value functions are no rows of pg_proc; the analyser names them in pg_catalog.
VALUE_FUNCTIONS = words(
    """
    current_date current_time current_timestamp localtime localtimestamp current_role current_user user
    session_user current_catalog current_schema
    """
)

_READABLE = frozenset(
    {Kind.SELECT, Kind.INSERT, Kind.UPDATE, Kind.DELETE, Kind.MERGE, Kind.TRUNCATE, Kind.NOTIFY, Kind.EMPTY}
)
# Of plpgsql (PLpgSQL_stmt_…). The others (dynexecute, dynfors, call, commit, rollback, and whatever a later
# version brings) run what cannot be read here.
_UNDERSTOOD = words(
    """
    assert assign block case close execsql exit fetch foreach_a forc fori fors getdiag if loop open
    perform raise return return_next return_query while
    """
)
_PARSE_EXPRESSION = 2  # RawParseMode of PostgreSQL; 3 to 5 are assignments to targets of 1 to 3 names


class Effect(NamedTuple):
    """What one body does by itself.

    Attributes:
        writes: (relation OID, ops).
        calls: user functions it may run.
    """

    writes: frozenset[tuple[int, int]]
    calls: frozenset[int]


_NOTHING = Effect(frozenset(), frozenset())


class Effects:
    """What functions write, each body read once.

    Args:
        routines: of users, by OID.
        routines_named: OIDs by name.
        relations_named: OIDs of relations by name.
        builtins: worst volatility of PostgreSQL's own functions by name.
    """

    def __init__(
        self,
        routines: Mapping[int, Routine],
        routines_named: Mapping[str, tuple[int, ...]],
        relations_named: Mapping[str, Mapping[str, int]],
        builtins: Mapping[str, str],
    ) -> None:
        self._routines = routines
        self._routines_named = routines_named
        self._relations_named = relations_named
        self._builtins = builtins
        self._memo: dict[int, Effect | Everything] = {}

    def of(self, functions: Iterable[int]) -> frozenset[tuple[int, int]] | Everything:
        """Return what *functions* (OIDs), and all they call, write: (relation OID, ops)."""
        writes: set[tuple[int, int]] = set()
        seen: set[int] = set()
        todo = list(functions)
        while todo:
            oid = todo.pop()
            if oid in seen or (oid not in self._routines and oid < FIRST_USER_OID):
                continue  # a trigger function of PostgreSQL's own computes or compares
            seen.add(oid)
            effect = self._memo.get(oid)
            if effect is None:
                effect = self._memo[oid] = self._read(oid)
            if isinstance(effect, Everything):
                return EVERYTHING
            writes |= effect.writes
            todo += effect.calls
        return frozenset(writes)

    def named(self, function: Function) -> frozenset[int] | Everything:
        """Return the OIDs of user functions *function* may mean in any search_path; EVERYTHING if unknown."""
        schema, name = function
        found = [
            oid for oid in self._routines_named.get(name, ()) if schema in (None, self._routines[oid].schema)
        ]
        volatility = self._builtins.get(name) if schema in (None, "pg_catalog") else None
        if volatility is None and not found and name not in VALUE_FUNCTIONS:
            return EVERYTHING
        if volatility == "v" and name not in HARMLESS_VOLATILE:
            return EVERYTHING
        return frozenset(found)

    def attributes(self, text: str) -> frozenset[int]:
        """Return the user functions that *text* may call in the notation of an attribute: ``(x).f``."""
        return frozenset(
            oid
            for name in attributes(text)
            for oid in self._routines_named.get(name.name, ())
            if self._routines[oid].one_argument is not None
        )

    def _read(self, oid: int) -> Effect | Everything:
        routine = self._routines.get(oid)
        if routine is None:
            return EVERYTHING
        effect: Effect | Everything
        if routine.aggregate or (
            routine.language in ("c", "internal") and routine.extension in HARMLESS_EXTENSIONS
        ):
            effect = _NOTHING
        elif routine.source is None:
            return EVERYTHING
        elif routine.language == "plpgsql":
            effect = self._texts(_plpgsql(routine.source))
        else:
            effect = self._texts([_sql(routine.source)])
        if isinstance(effect, Everything):
            return EVERYTHING
        return effect._replace(calls=effect.calls | frozenset(routine.calls))

    def _texts(self, texts: list[str] | None) -> Effect | Everything:
        if texts is None:
            return EVERYTHING
        writes: set[tuple[int, int]] = set()
        calls: set[int] = set()
        for text in texts:
            statement = analyse(text)
            for part in statement.parts or (statement,):
                effect = self._statement(part)
                if isinstance(effect, Everything):
                    return EVERYTHING
                writes |= effect.writes
                calls |= effect.calls
        return Effect(frozenset(writes), frozenset(calls))

    def _statement(self, statement: Statement) -> Effect | Everything:
        if statement.writes_anything or statement.temp or statement.kind not in _READABLE:
            return EVERYTHING
        ops = operations(statement)
        writes: set[tuple[int, int]] = set()
        for relation in statement.writes:
            oids = self._relations(relation)
            if not oids:
                return EVERYTHING
            writes |= {(oid, ops) for oid in oids}
        calls: set[int] = set(self.attributes(statement.text))
        for function in statement.functions:
            found = self.named(function)
            if isinstance(found, Everything):
                return EVERYTHING
            calls |= found
        return Effect(frozenset(writes), frozenset(calls))

    def _relations(self, relation: Relation) -> set[int]:
        found = self._relations_named.get(relation.name, {})
        return {oid for schema, oid in found.items() if relation.schema in (None, schema)}


def _sql(source: str) -> str:
    """Return the statements of an SQL function; a body in the standard's style is deparsed by the server."""
    if source.startswith("RETURN "):
        return "SELECT " + source.removeprefix("RETURN ")
    if source.startswith("BEGIN ATOMIC"):
        return source.removeprefix("BEGIN ATOMIC").rstrip().removesuffix("END")
    return source


def _plpgsql(source: str) -> list[str] | None:
    """Return the SQL in a plpgsql function as statements of their own; None when it is not understood."""
    import pglast  # 40 ms to import

    try:
        todo: list[Any] = [pglast.parse_plpgsql(source)]
    except pglast.Error:
        return None
    texts: list[str] = []
    while todo:
        node = todo.pop()
        if isinstance(node, list):
            todo += node
        elif isinstance(node, dict):
            for key, value in node.items():
                if key.startswith("PLpgSQL_stmt_") and (
                    key.removeprefix("PLpgSQL_stmt_") not in _UNDERSTOOD or "dynquery" in value
                ):
                    return None
                if key == "PLpgSQL_expr":
                    text = _statement_of(value["query"], value.get("parseMode", 0))
                    if text is None:
                        return None
                    texts.append(text)
                else:
                    todo.append(value)
    return texts


def _statement_of(query: str, mode: int) -> str | None:
    """Return *query*, an expression or assignment of plpgsql, as a statement; None when it is neither."""
    if mode == 0:
        return query
    if mode == _PARSE_EXPRESSION:
        return f"SELECT {query}"
    if mode < _PARSE_EXPRESSION:
        return None
    from pglast.parser import scan

    depth = 0
    for token in scan(query):
        if token.name in ("ASCII_40", "ASCII_91"):  # ( and [
            depth += 1
        elif token.name in ("ASCII_41", "ASCII_93"):
            depth -= 1
        elif depth == 0 and token.name in ("COLON_EQUALS", "ASCII_61"):
            # Subscripts of the target may call functions, too: they become an output column.
            return f"SELECT {query[: token.start]}, {query[token.end + 1 :]}"
    return None
