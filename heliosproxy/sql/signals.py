"""Names and notifications in commands: of LISTEN and NOTIFY, of prepared statements."""

from __future__ import annotations

from typing import Any

from heliosproxy.sql.parser import Node
from heliosproxy.sql.statement import Parameter

_NAMES = {
    "ListenStmt": "conditionname",
    "UnlistenStmt": "conditionname",
    "DeallocateStmt": "name",
    "ExecuteStmt": "name",
    "PrepareStmt": "name",
}
_AROUND = frozenset({"ExplainStmt", "CreateTableAsStmt"})  # of an EXECUTE, among others
_FUNCTION = "pg_notify"
_CALLS = frozenset({_FUNCTION, ("pg_catalog", _FUNCTION)})
# A SELECT of nothing else evaluates its call exactly once.
_ALONE = frozenset({"targetList", "limitOption", "op"})

Value = str | Parameter


def name(tag: str, body: Node) -> str | None:
    """The name that a command is about; None where it has none, or means all."""
    if tag in _AROUND:
        tag, body = next(iter(body["query"].items()))
        if tag != "ExecuteStmt":
            return None
    field = _NAMES.get(tag)
    found: str | None = body.get(field) if field is not None else None
    return found


def notice(tag: str, body: Node, functions: set[Any]) -> tuple[Value, Value] | None:
    """Channel and payload, if what is done is certainly one NOTIFY of what can be told from text and parameters."""
    if tag == "NotifyStmt":
        return body["conditionname"], body.get("payload", "")
    if tag != "SelectStmt" or len(functions) != 1 or _CALLS.isdisjoint(functions) or body.keys() - _ALONE:
        return None
    targets = body["targetList"]
    call = targets[0]["ResTarget"]["val"].get("FuncCall") if len(targets) == 1 else None
    arguments = call.get("args", ()) if call is not None else ()
    if len(arguments) != 2:
        return None
    channel, payload = (_value(argument) for argument in arguments)
    return None if channel is None or payload is None else (channel, payload)


def _value(node: Node) -> Value | None:
    if "TypeCast" in node:  # 'x'::text
        node = node["TypeCast"]["arg"]
    if "ParamRef" in node:
        return Parameter(node["ParamRef"].get("number", 0))
    constant = node.get("A_Const", {}).get("sval")
    return None if constant is None else str(constant.get("sval", ""))
