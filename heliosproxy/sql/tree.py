"""Raw statements to `Statement`: what the walk cannot tell because it depends on the command."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

from heliosproxy.sql import setting, signals
from heliosproxy.sql.facts import Facts, Name
from heliosproxy.sql.hints import MARK, hints
from heliosproxy.sql.parser import Node
from heliosproxy.sql.statement import Function, Kind, Relation, Setting, Statement, Transaction
from heliosproxy.sql.utility import UTILITY, in_block
from heliosproxy.sql.verbs import PLAIN, TRANSACTIONS, ddl_verb
from heliosproxy.sql.walk import walk

_NOTHING: frozenset[Any] = frozenset()
_UNCLASSIFIED = frozenset({"unclassified"})
_NO_OPTIONS: dict[str, str] = {}
_QUERIES = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})
_OPTIONS = {
    "transaction_isolation": "isolation",
    "transaction_read_only": "read_only",
    "transaction_deferrable": "deferrable",
}

# What one text holds in the memo beside itself, in bytes; what each name adds, and each setting, hint or transaction.
# tests/sql/test_memo.py compares the sum with the process's own size, sets shared and not shared.
_BASE = 450
_NAME = 120
_MORE = 400
_FEW = 16

_PG_SETTINGS = frozenset({"pg_settings", ("pg_catalog", "pg_settings")})


def _sharing(make: Callable[[frozenset[Any]], frozenset[Any]]) -> Callable[[set[Any]], frozenset[Any]]:
    """*make* with its recent results shared: sets are few, statements many.

    A hostile statement may name thousands of functions; such a set is not kept beyond its statement.
    """
    shared = lru_cache(1024)(make)

    def freeze(names: set[Any]) -> frozenset[Any]:
        if not names:
            return _NOTHING
        return shared(frozenset(names)) if len(names) <= _FEW else make(frozenset(names))

    return freeze


@_sharing
def _relations(names: frozenset[Name]) -> frozenset[Relation]:
    return frozenset(Relation(None, n) if isinstance(n, str) else Relation(*n) for n in names)


@_sharing
def _functions(names: frozenset[Name]) -> frozenset[Function]:
    return frozenset(Function(None, n) if isinstance(n, str) else Function(*n) for n in names)


@_sharing
def _words(words: frozenset[str]) -> frozenset[str]:
    return words


def describe(text: str, raw: list[Node]) -> Statement:
    """Return the facts of *text*, whose raw statements are *raw*."""
    found = hints(text) if MARK in text else _NO_OPTIONS
    if len(raw) == 1:
        return _describe(text, raw[0]["stmt"], found)
    if not raw:
        return Statement(text, Kind.EMPTY, hints=found, cost=cost(text))
    source = text.encode()
    parts = []
    for statement in raw:
        start = statement.get("stmt_location", 0)
        length = statement.get("stmt_len", 0)
        part = source[start : start + length if length else None].decode().strip()
        parts.append(_describe(part, statement["stmt"], hints(part) if MARK in part else _NO_OPTIONS))
    return _several(text, tuple(parts), found)


def unclassified(text: str, reason: str, *, pins: bool) -> Statement:
    """Return the facts of a *text* that may do anything, because of *reason*."""
    return Statement(
        text,
        Kind.UNCLASSIFIED,
        writes_anything=True,
        pins=_UNCLASSIFIED if pins else _NOTHING,
        returns_rows=True,
        error=reason,
        cost=cost(text),
    )


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
        cost=cost(text) + sum(p.cost + _NAME * _names(p) for p in parts),
    )


class _Draft:
    """A `Statement` in the making: the same slots, so that it can become one.

    The constructor of a frozen dataclass of 28 fields costs as much as the rest of `_describe`; filling plain
    slots and changing the class costs a tenth. A test holds the two in step.
    """

    __slots__ = Statement.__slots__


def _describe(text: str, node: Node, found: dict[str, str]) -> Statement:
    ((tag, body),) = node.items()
    facts = Facts()
    walk(facts, node)
    draft: Any = _Draft()  # its slots are those of Statement, which mypy cannot see
    draft.transaction = draft.portal = draft.error = None
    draft.in_block = True
    draft.name = signals.name(tag, body)
    draft.notice = signals.notice(tag, body, facts.functions)
    plain = PLAIN.get(tag)
    if plain is not None:
        draft.kind, draft.verb, draft.returns_rows = plain
    else:
        _ddl(draft, facts, tag, body)
    if tag in _QUERIES:
        if "returningClause" in body:
            draft.returns_rows = True
        elif "intoClause" in body:
            # It creates a table: the catalogue changes.
            draft.kind, draft.verb, draft.returns_rows = Kind.DDL, "SELECT INTO", False
    else:
        draft.in_block = in_block(tag, body)
        if tag == "TransactionStmt":
            draft.transaction, draft.verb = _transaction(body)
        special = UTILITY.get(tag)
        if special is not None:
            draft.verb, draft.returns_rows, draft.portal = special(
                facts, body, draft.verb, draft.returns_rows
            )
    settings = facts.settings
    if facts.set_configs:
        settings += _from_calls(facts, tag, body)
    if facts.writes and not _PG_SETTINGS.isdisjoint(facts.writes):
        settings.append(setting.UNKNOWN)  # a rule on the view turns UPDATE into set_config()
    if settings and any(not change.known and not change.local for change in settings):
        facts.pins.add("opaque_setting")
    if facts.temp:
        facts.pins.add("temp_table")
    draft.text = text
    draft.reads = _relations(facts.reads)
    draft.writes = _relations(facts.writes)
    draft.writes_anything = facts.writes_anything
    draft.functions = _functions(facts.functions)
    draft.operators = _functions(facts.operators)
    draft.type_casts = _words(facts.types)
    draft.parameters = facts.parameters
    draft.clock = facts.clock
    draft.row_locks = facts.row_locks
    draft.tablesample = facts.tablesample
    draft.unordered_limit = facts.unordered_limit
    draft.settings = tuple(settings)
    draft.pins = _words(facts.pins)
    draft.temp = facts.temp
    draft.simple_only = False
    draft.parts = ()
    draft.hints = found
    draft.cost = cost(text) + _NAME * _names(draft)
    if settings or found or draft.transaction:
        draft.cost += _MORE * (len(settings) + len(found) + 1)
    draft.__class__ = Statement
    return cast(Statement, draft)


def _ddl(draft: Any, facts: Facts, tag: str, body: Node) -> None:
    draft.kind, draft.verb, draft.returns_rows = Kind.DDL, ddl_verb(tag, body), False
    if draft.verb is None:
        draft.kind, draft.verb, draft.error = Kind.UNCLASSIFIED, "", tag
        facts.writes_anything = True
        facts.pins |= _UNCLASSIFIED


def _transaction(body: Node) -> tuple[Transaction, str]:
    op, verb = TRANSACTIONS[body["kind"]]
    modes = setting.transaction_modes(body.get("options", []))
    options = {_OPTIONS[name]: value for name, value in modes.items()}
    name = body.get("savepoint_name") or body.get("gid")
    return Transaction(op, name, options, body.get("chain", False)), verb


def cost(text: str) -> int:
    """Bytes that the facts of *text* hold when they are plain."""
    return _BASE + sys.getsizeof(text)


def _names(facts: Any) -> int:
    return (
        len(facts.reads)
        + len(facts.writes)
        + len(facts.functions)
        + len(facts.operators)
        + len(facts.type_casts)
    )


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
