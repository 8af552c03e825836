"""What each node of the JSON tree says: a handler by tag or field.

A key of a JSON object is either a tag (``"FuncCall"``) or a field (``"relation"``). Fields of a concrete C type hold
the untagged object, so handlers are keyed by both. A handler adds to the facts, and puts on the stack what is to be
walked below its node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from heliosproxy.sql.facts import Facts, is_clock, is_temp, named, qualified, without_relation
from heliosproxy.sql.parser import Node

Stack = list[Any]
Handler = Callable[[Facts, Any, Stack], None]

_CLOCK_FUNCTIONS = frozenset(
    {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"}
)
_SESSION_LOCKS = frozenset(
    {"pg_advisory_lock", "pg_advisory_lock_shared", "pg_try_advisory_lock", "pg_try_advisory_lock_shared"}
)
_INSIDE = (">=", "<=")
_OUTSIDE = ("<", ">")
_BETWEEN = {
    "BETWEEN": _INSIDE,
    "BETWEEN SYMMETRIC": _INSIDE,
    "NOT BETWEEN": _OUTSIDE,
    "NOT BETWEEN SYMMETRIC": _OUTSIDE,
}


def skip(facts: Facts, value: Any, stack: Stack) -> None:
    """A leaf: nothing below it says anything."""


# --- names of relations and their scopes ---------------------------------------------------------------


def _range_var(facts: Facts, rel: Node, stack: Stack) -> None:
    name = rel["relname"]
    if "schemaname" in rel:
        facts.reads.add((rel["schemaname"], name))
    elif name not in facts.scope:
        facts.reads.add(name)


def _target(facts: Facts, rel: Node, stack: Stack) -> None:
    # A field of type RangeVar is a target of a command, which is never a CTE; a tagged node is anything else.
    if "relname" in rel:
        facts.reads.add(named(rel))
    else:
        stack.append(rel)


def _created(facts: Facts, rel: Node, stack: Stack) -> None:
    if "relname" in rel:
        facts.temp |= is_temp(rel)
    else:
        stack.append(rel)


def _create(facts: Facts, body: Node, stack: Stack) -> None:
    if "relation" in body:
        facts.temp |= is_temp(body["relation"])
        body = without_relation(body)
    stack.append(body)


def _into(facts: Facts, into: Node, stack: Stack) -> None:
    rel = into["rel"]
    facts.writes.add(named(rel))
    facts.temp |= is_temp(rel)


def _open_scope(facts: Facts, tag: str, body: Node, clause: Node) -> None:
    """Queue *body* and the queries of its WITH, each with the names it may see."""
    outer = facts.scope
    ctes = [item["CommonTableExpr"] for item in clause["ctes"]]
    inner = outer | {cte["ctename"] for cte in ctes}
    rest = dict(body)
    del rest["withClause"]
    facts.deferred.append(({tag: rest}, inner))
    visible = inner if clause.get("recursive") else outer
    for cte in ctes:
        facts.deferred.append((cte, visible))
        visible |= {cte["ctename"]}


def _chooses(body: Node) -> bool:
    """Whether a SELECT returns some of its rows only."""
    limit = body.get("limitCount")
    if limit is not None and "isnull" not in limit.get("A_Const", ()):
        return True
    # A plain DISTINCT is a list of one empty object.
    return "limitOffset" in body or body.get("distinctClause", [{}]) != [{}]


def _select(facts: Facts, body: Node, stack: Stack) -> None:
    clause = body.get("withClause")
    if clause is not None:
        _open_scope(facts, "SelectStmt", body, clause)
        return
    if "sortClause" not in body and _chooses(body):
        facts.unordered_limit = True
    stack.append(body)


def _arm(facts: Facts, arm: Node, stack: Stack) -> None:
    # larg and rarg: an untagged SELECT in a set operation, a tagged node in a join.
    if "limitOption" in arm:
        _select(facts, arm, stack)
    else:
        stack.append(arm)


def _insert(facts: Facts, body: Node, stack: Stack) -> None:
    clause = body.get("withClause")
    if clause is not None:
        _open_scope(facts, "InsertStmt", body, clause)
        return
    facts.writes.add(named(body["relation"]))
    stack.append(without_relation(body))


def _change(tag: str) -> Handler:
    def handle(facts: Facts, body: Node, stack: Stack) -> None:
        clause = body.get("withClause")
        if clause is not None:
            _open_scope(facts, tag, body, clause)
            return
        facts.writes.add(named(body["relation"]))
        stack.append(body)

    return handle


def _locking(facts: Facts, value: Any, stack: Stack) -> None:
    # FOR UPDATE OF names aliases of the FROM list, not relations.
    facts.row_locks = True


def _tablesample(facts: Facts, value: Node, stack: Stack) -> None:
    facts.tablesample = True
    stack.append(value)


# --- expressions ---------------------------------------------------------------------------------------


def _operator(facts: Facts, value: Node, stack: Stack) -> None:
    parts = value["name"]
    if len(parts) == 1:
        name = parts[0]["String"]["sval"]
        if name in _BETWEEN:  # no operator can be called so
            facts.operators.update(_BETWEEN[name])
        else:
            facts.operators.add(name)
    else:
        facts.operators.add(qualified(parts))
    # -1 on a column has one side. Columns are the most frequent of nodes and say nothing.
    left = value.get("lexpr")
    if left is not None and "ColumnRef" not in left:
        stack.append(left)
    right = value["rexpr"]
    if "ColumnRef" not in right:
        stack.append(right)


def _result_target(facts: Facts, value: Node, stack: Stack) -> None:
    if "ColumnRef" not in value.get("val", ()) or "indirection" in value:
        stack.append(value)


def _function(facts: Facts, value: Node, stack: Stack) -> None:
    called = qualified(value["funcname"])
    facts.functions.add(called)
    name = called if isinstance(called, str) else called[0] == "pg_catalog" and called[1]
    if name == "set_config":
        facts.set_configs.append(value)
    elif name in _SESSION_LOCKS:
        facts.pins.add("advisory_lock")
    stack.append(value)


def _value_function(facts: Facts, value: Node, stack: Stack) -> None:
    name = value["op"].removeprefix("SVFOP_").removesuffix("_N").lower()
    facts.functions.add(("pg_catalog", name))
    if name in _CLOCK_FUNCTIONS:
        facts.clock = True


def _constant(facts: Facts, value: Node, stack: Stack) -> None:
    string = value.get("sval")
    if string is not None and is_clock(string.get("sval", "")):
        facts.clock = True


def _parameter(facts: Facts, value: Node, stack: Stack) -> None:
    number = value.get("number", 0)
    if number > facts.parameters:
        facts.parameters = number


def _type(facts: Facts, value: Any, stack: Stack) -> None:
    # A list is the name of a type being created.
    parts = value.get("names") if isinstance(value, dict) else None
    if parts:
        facts.types.add(parts[-1]["String"]["sval"].lower())


def _sublink(facts: Facts, value: Node, stack: Stack) -> None:
    # IN (SELECT …) names no operator in the tree and means "=".
    if "operName" in value:
        facts.operators.add(qualified(value["operName"]))
    elif value["subLinkType"] == "ANY_SUBLINK":
        facts.operators.add("=")
    stack.append(value)


def _case(facts: Facts, value: Node, stack: Stack) -> None:
    if "arg" in value:
        facts.operators.add("=")
    stack.append(value)


def _join(facts: Facts, value: Node, stack: Stack) -> None:
    if "usingClause" in value or "isNatural" in value:
        facts.operators.add("=")
    stack.append(value)


def _sort_operator(facts: Facts, value: list[Node], stack: Stack) -> None:
    facts.operators.add(qualified(value))


HANDLERS: dict[str, Handler] = {
    "ColumnRef": skip,
    "A_Const": _constant,
    "A_Expr": _operator,
    "ResTarget": _result_target,
    "ParamRef": _parameter,
    "RangeVar": _range_var,
    "FuncCall": _function,
    "funccall": _function,
    "SelectStmt": _select,
    "InsertStmt": _insert,
    "UpdateStmt": _change("UpdateStmt"),
    "DeleteStmt": _change("DeleteStmt"),
    "MergeStmt": _change("MergeStmt"),
    "JoinExpr": _join,
    "CaseExpr": _case,
    "SubLink": _sublink,
    "SQLValueFunction": _value_function,
    "RangeTableSample": _tablesample,
    "TypeName": _type,
    "typeName": _type,
    "larg": _arm,
    "rarg": _arm,
    "relation": _target,
    "view": _created,
    "sequence": _created,
    "typevar": _created,
    "CreateStmt": _create,
    "base": _create,
    "intoClause": _into,
    "into": _into,
    "lockingClause": _locking,
    "useOp": _sort_operator,
    "alias": skip,
    "funcname": skip,
    "String": skip,
}
