"""Commands other than SELECT and DML: what each adds to the facts of its tree."""

from __future__ import annotations

from collections.abc import Callable

from heliosproxy.sql import setting
from heliosproxy.sql.facts import Facts, is_temp_schema, named, names
from heliosproxy.sql.parser import Node

# (verb, whether it returns rows, portal)
Outcome = tuple[str, bool, str | None]
Special = Callable[[Facts, Node, str, bool], Outcome]

_HOLD = 0x0020  # CURSOR_OPT_HOLD of parsenodes.h
_DML = {"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"}
_FALSE = ("false", "off", "0")


def _inert(facts: Facts) -> None:
    """What the tree says is not done now: a plan, a definition."""
    facts.writes.clear()
    facts.set_configs.clear()
    facts.pins.clear()


def option(options: list[Node], name: str) -> bool:
    """Whether the boolean option *name* is on; the last of several counts, an unknown value means on."""
    on = False
    for item in options:
        element = item["DefElem"]
        if element["defname"] == name:
            value = element.get("arg", {})
            text = value.get("String", {}).get("sval")
            if text is None:
                on = "Integer" not in value or value["Integer"].get("ival", 0) != 0
            else:
                on = text.lower() not in _FALSE
    return on


def _explain(facts: Facts, body: Node, verb: str, rows: bool) -> Outcome:
    if not option(body.get("options", []), "analyze"):
        _inert(facts)
        facts.temp = False
    elif not body["query"].keys() & _DML or "intoClause" in body["query"].get("SelectStmt", ()):
        facts.writes_anything = True  # EXECUTE, or a table that comes into being
    return verb, True, None


def _copy(facts: Facts, body: Node, verb: str, rows: bool) -> Outcome:
    if body.get("is_from"):
        target = named(body["relation"])
        facts.writes.add(target)
        facts.reads.discard(target)
    return verb, False, None


def _anything(facts: Facts, body: Node, verb: str, rows: bool) -> Outcome:
    facts.writes_anything = True
    return verb, rows, None


def _set(facts: Facts, body: Node, verb: str, rows: bool) -> Outcome:
    facts.settings = setting.from_set(body)
    return ("RESET" if body["kind"].startswith("VAR_RESET") else verb), False, None


def _discard(facts: Facts, body: Node, verb: str, rows: bool) -> Outcome:
    return body["target"].replace("_", " "), False, None


def _prepare(facts: Facts, body: Node, verb: str, rows: bool) -> Outcome:
    _inert(facts)
    facts.parameters = 0  # $1 in it is the prepared statement's own
    facts.pins.add("prepare")
    return verb, False, None


def _declare(facts: Facts, body: Node, verb: str, rows: bool) -> Outcome:
    if body["options"] & _HOLD:
        facts.pins.add("with_hold")
    return verb, False, body["portalname"]


def _fetch(facts: Facts, body: Node, verb: str, rows: bool) -> Outcome:
    moves = body.get("ismove", False)
    return ("MOVE" if moves else verb), not moves, body["portalname"]


def _close(facts: Facts, body: Node, verb: str, rows: bool) -> Outcome:
    return verb, False, body.get("portalname")


def _pin(reason: str) -> Special:
    def handle(facts: Facts, body: Node, verb: str, rows: bool) -> Outcome:
        facts.pins.add(reason)
        return verb, False, None

    return handle


def _truncate(facts: Facts, body: Node, verb: str, rows: bool) -> Outcome:
    facts.writes |= facts.reads
    facts.reads.clear()
    return verb, False, None


def _create_as(facts: Facts, body: Node, verb: str, rows: bool) -> Outcome:
    facts.writes_anything = "ExecuteStmt" in body["query"]
    return verb, False, None


def _vacuum(facts: Facts, body: Node, verb: str, rows: bool) -> Outcome:
    return ("VACUUM" if body.get("is_vacuumcmd") else verb), False, None


def _definition(facts: Facts, body: Node, verb: str, rows: bool) -> Outcome:
    _inert(facts)
    facts.parameters = 0
    return _create_named(facts, body, verb, rows)


def _create_named(facts: Facts, body: Node, verb: str, rows: bool) -> Outcome:
    """CREATE of an object whose name is a list of strings."""
    for field in ("funcname", "typeName", "domainname", "defnames"):
        parts = body.get(field)
        # The typeName of a domain is its base type, an object.
        if isinstance(parts, list) and len(parts) > 1 and is_temp_schema(names(parts)[-2]):
            facts.temp = True
    return verb, False, None


UTILITY: dict[str, Special] = {
    "ExplainStmt": _explain,
    "CopyStmt": _copy,
    "DoStmt": _anything,
    "CallStmt": _anything,
    "ExecuteStmt": _anything,
    "VariableSetStmt": _set,
    "DiscardStmt": _discard,
    "PrepareStmt": _prepare,
    "DeclareCursorStmt": _declare,
    "FetchStmt": _fetch,
    "ClosePortalStmt": _close,
    "ListenStmt": _pin("listen"),
    "LoadStmt": _pin("load"),
    "TruncateStmt": _truncate,
    "RefreshMatViewStmt": _truncate,
    "CreateTableAsStmt": _create_as,
    "VacuumStmt": _vacuum,
    "ViewStmt": _definition,
    "RuleStmt": _definition,
    "CreateFunctionStmt": _definition,
    "CreateDomainStmt": _create_named,
    "CreateEnumStmt": _create_named,
    "CreateRangeStmt": _create_named,
    "DefineStmt": _create_named,
}

# What PostgreSQL refuses inside a transaction block: the callers of PreventInTransactionBlock.
_NEVER = frozenset(
    {
        "CreatedbStmt",
        "DropdbStmt",
        "CreateTableSpaceStmt",
        "DropTableSpaceStmt",
        "AlterSystemStmt",
        "CreateSubscriptionStmt",
        "DropSubscriptionStmt",
    }
)
_REFRESHES = frozenset(
    "ALTER_SUBSCRIPTION_" + kind
    for kind in ("REFRESH", "SET_PUBLICATION", "ADD_PUBLICATION", "DROP_PUBLICATION", "OPTIONS")
)
_REINDEX_ALL = ("REINDEX_OBJECT_SCHEMA", "REINDEX_OBJECT_SYSTEM", "REINDEX_OBJECT_DATABASE")

_ALONE: dict[str, Callable[[Node], bool]] = {
    "VacuumStmt": lambda body: body.get("is_vacuumcmd", False),
    "IndexStmt": lambda body: body.get("concurrent", False),
    "DropStmt": lambda body: body.get("concurrent", False),
    "ReindexStmt": lambda body: (
        body["kind"] in _REINDEX_ALL or option(body.get("params", []), "concurrently")
    ),
    "ClusterStmt": lambda body: "relation" not in body,
    "DiscardStmt": lambda body: body["target"] == "DISCARD_ALL",
    "TransactionStmt": lambda body: (
        body["kind"] in ("TRANS_STMT_COMMIT_PREPARED", "TRANS_STMT_ROLLBACK_PREPARED")
    ),
    "AlterSubscriptionStmt": lambda body: body["kind"] in _REFRESHES,
    "AlterDatabaseStmt": lambda body: any(
        item["DefElem"]["defname"] == "tablespace" for item in body.get("options", [])
    ),
    "AlterTableStmt": lambda body: any(
        item["AlterTableCmd"].get("def", {}).get("PartitionCmd", {}).get("concurrent", False)
        for item in body.get("cmds", [])
    ),
}


def in_block(tag: str, body: Node) -> bool:
    """Whether PostgreSQL takes the statement inside a transaction block, as far as the text tells."""
    if tag in _NEVER:
        return False
    alone = _ALONE.get(tag)
    return alone is None or not alone(body)
