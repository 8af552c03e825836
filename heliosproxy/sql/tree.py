"""Raw statements to `Statement`: what the walk cannot tell because it depends on the command."""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any

from heliosproxy.sql import setting
from heliosproxy.sql.hints import MARK, hints
from heliosproxy.sql.parser import Node
from heliosproxy.sql.statement import Kind, Relation, Setting, Statement, Transaction
from heliosproxy.sql.utility import UTILITY, in_block
from heliosproxy.sql.verbs import PLAIN, TRANSACTIONS, ddl_verb
from heliosproxy.sql.walk import Facts

_NOTHING: frozenset[Any] = frozenset()
_NO_OPTIONS: dict[str, str] = {}
_ROWS = frozenset({Kind.SELECT, Kind.SHOW, Kind.EXPLAIN, Kind.EXECUTE, Kind.CALL})
_CHANGES = frozenset({Kind.INSERT, Kind.UPDATE, Kind.DELETE, Kind.MERGE})

_PG_SETTINGS = frozenset({Relation(None, "pg_settings"), Relation("pg_catalog", "pg_settings")})

# Sets are few and small, statements many: share equal ones.
_shared = lru_cache(4096)(lambda facts: facts)


def describe(text: str, raw: list[Node]) -> Statement:
    """Return the facts of *text*, whose raw statements are *raw*."""
    found = hints(text) if MARK in text else _NO_OPTIONS
    if len(raw) == 1:
        return _describe(text, raw[0]["stmt"], found)
    if not raw:
        return Statement(text, Kind.EMPTY, hints=found, cost=_cost(text))
    source = text.encode()
    parts = []
    for statement in raw:
        start = statement.get("stmt_location", 0)
        length = statement.get("stmt_len", 0)
        part = source[start : start + length if length else None].decode().strip()
        parts.append(_describe(part, statement["stmt"], hints(part) if MARK in part else _NO_OPTIONS))
    return _several(text, tuple(parts), found)


def _several(text: str, parts: tuple[Statement, ...], found: dict[str, str]) -> Statement:
    return Statement(
        text,
        Kind.MULTI,
        reads=_NOTHING.union(*(p.reads for p in parts)),
        writes=_NOTHING.union(*(p.writes for p in parts)),
        writes_anything=any(p.writes_anything for p in parts),
        functions=_NOTHING.union(*(p.functions for p in parts)),
        operators=_NOTHING.union(*(p.operators for p in parts)),
        type_casts=_NOTHING.union(*(p.type_casts for p in parts)),
        parameters=max(p.parameters for p in parts),
        clock=any(p.clock for p in parts),
        row_locks=any(p.row_locks for p in parts),
        tablesample=any(p.tablesample for p in parts),
        unordered_limit=any(p.unordered_limit for p in parts),
        settings=tuple(change for p in parts for change in p.settings),
        pins=_NOTHING.union(*(p.pins for p in parts)),
        temp=any(p.temp for p in parts),
        in_block=all(p.in_block for p in parts),
        simple_only=True,
        parts=parts,
        hints=found,
        returns_rows=any(p.returns_rows for p in parts),
        cost=_cost(text) + sum(p.cost for p in parts),
    )


def _describe(text: str, node: Node, found: dict[str, str]) -> Statement:
    ((tag, body),) = node.items()
    facts = Facts()
    facts.walk(node)
    kind, verb = PLAIN.get(tag, (Kind.DDL, None))
    error = None
    if verb is None:
        verb = ddl_verb(tag, body)
        if verb is None:
            kind, verb, error = Kind.UNCLASSIFIED, "", tag
            facts.writes_anything = True
            facts.pins.add("unclassified")
    portal = transaction = None
    rows = kind in _ROWS
    if kind is Kind.SELECT:
        if "intoClause" in body:
            # It creates a table: the catalogue changes.
            kind, verb, rows = Kind.DDL, "SELECT INTO", False
    elif kind in _CHANGES:
        rows = "returningClause" in body
    elif kind is Kind.TRANSACTION:
        op, verb = TRANSACTIONS[body["kind"]]
        modes = setting.transaction_modes(body.get("options", []))
        options = {
            name.removeprefix("transaction_").replace("isolation_level", "isolation"): value
            for name, value in modes.items()
        }
        transaction = Transaction(
            op, body.get("savepoint_name") or body.get("gid"), options, body.get("chain", False)
        )
    else:
        special = UTILITY.get(tag)
        if special is not None:
            verb, rows, portal = special(facts, body, verb, rows)
    settings = facts.settings
    if facts.set_configs:
        settings += _from_calls(facts, tag, body)
    if not _PG_SETTINGS.isdisjoint(facts.writes):
        settings.append(setting.UNKNOWN)  # a rule on the view turns UPDATE into set_config()
    if any(not change.known and not change.local for change in settings):
        facts.pins.add("opaque_setting")
    if facts.temp:
        facts.pins.add("temp_table")
    return Statement(
        text,
        kind,
        verb,
        _freeze(facts.reads),
        _freeze(facts.writes),
        facts.writes_anything,
        _freeze(facts.functions),
        _freeze(facts.operators),
        _freeze(facts.types),
        facts.parameters,
        facts.clock,
        facts.row_locks,
        facts.tablesample,
        facts.unordered_limit,
        transaction,
        tuple(settings),
        _freeze(facts.pins),
        facts.temp,
        in_block(tag, body),
        portal,
        hints=found,
        returns_rows=rows,
        error=error,
        cost=_cost(text) + 150 * len(settings) + 400 * (transaction is not None) + 200 * len(found),
    )


def _freeze(names: set[Any]) -> frozenset[Any]:
    return _shared(frozenset(names)) if names else _NOTHING


def _cost(text: str) -> int:
    return 450 + sys.getsizeof(text)


def _from_calls(facts: Facts, tag: str, body: Node) -> list[Setting]:
    """The settings changed by set_config(), in order.

    Only a call that stands by itself in the target list of a plain SELECT without FROM is evaluated
    exactly once, whatever the data.
    """
    plain = tag == "SelectStmt" and not body.keys() & {
        "fromClause",
        "whereClause",
        "havingClause",
        "groupClause",
        "limitCount",
        "limitOffset",
        "larg",
        "withClause",
    }
    certain = {
        id(target["ResTarget"]["val"]["FuncCall"])
        for target in (body.get("targetList", ()) if plain else ())
        if "FuncCall" in target["ResTarget"]["val"]
    }
    calls = sorted(facts.set_configs, key=lambda call: call.get("location", 0))
    return [setting.from_call(call, certain=id(call) in certain) for call in calls]
