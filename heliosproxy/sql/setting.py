"""SET, RESET, SET TRANSACTION and set_config() as a list of `Setting`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from heliosproxy.sql.statement import Parameter, Setting

if TYPE_CHECKING:
    from heliosproxy.sql.parser import Node

UNKNOWN = Setting(None, None, known=False)

# GUC_LIST_QUOTE in guc_tables.c; extensions may not add to it. SET quotes each element of these on its own,
# so that set_config('search_path', 'a, b') is SET search_path TO 'a', 'b'; every other list is one string
# to SET as well.
_QUOTED_LISTS = frozenset(
    {"search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries"}
)
# What an identifier holds (NAMEDATALEN - 1, in bytes): SET cuts a longer name, set_config() does not.
_LONGEST_NAME = 63
_ELEMENT = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^\s,"]+))\s*(,|$)')


def folded(name: str) -> str:
    """*name* in lower case as the server compares names of settings: ASCII alone (guc_name_compare)."""
    return name.lower() if name.isascii() else "".join(c.lower() if c.isascii() else c for c in name)


def quote_literal(value: str) -> str:
    """*value* as a string constant, right whatever standard_conforming_strings says."""
    quoted = "'" + value.replace("'", "''") + "'"
    return " E" + quoted.replace("\\", "\\\\") if "\\" in value else quoted


def _constant(node: Node) -> str | None:
    """An A_Const as SQL text; None for anything else."""
    const = node.get("A_Const")
    if const is None:
        return _interval(node)
    if "sval" in const:
        return quote_literal(const["sval"].get("sval", ""))
    if "ival" in const:
        return str(const["ival"].get("ival", 0))
    if "fval" in const:
        return str(const["fval"]["fval"])
    return None


def _interval(node: Node) -> str | None:
    """``SET TIME ZONE INTERVAL '…'`` as the string the server makes of it."""
    cast = node.get("TypeCast")
    if cast is None:
        return None
    value = cast["arg"]["A_Const"]["sval"].get("sval", "")
    if "typmods" in cast["typeName"] and ":" not in value:
        return None  # '1' means an hour or a minute, as the field says, which the string does not carry
    return quote_literal("INTERVAL " + quote_literal(value).lstrip())


def from_set(body: Node) -> list[Setting]:
    """The settings that a VariableSetStmt changes."""
    kind = body["kind"]
    local = body.get("is_local", False)
    if kind == "VAR_RESET_ALL":
        return [Setting("*", None)]
    name = body["name"]
    if kind == "VAR_SET_MULTI":
        return _from_transaction(name, body["args"])
    name = folded(name)
    if kind in ("VAR_RESET", "VAR_SET_DEFAULT"):
        return [Setting(name, None, local)]
    values = [_constant(arg) for arg in body.get("args", [])]
    if kind != "VAR_SET_VALUE" or None in values or not values:
        return [Setting(name, None, local, known=False)]
    return [Setting(name, ", ".join(value for value in values if value is not None), local)]


def _from_transaction(what: str, args: list[Node]) -> list[Setting]:
    if what == "TRANSACTION SNAPSHOT":
        return [Setting("transaction_snapshot", _constant(args[0]), local=True)]
    session = what == "SESSION CHARACTERISTICS"
    return [
        Setting("default_" + name if session else name, value, local=not session)
        for name, value in transaction_modes(args, quoted=True).items()
    ]


def transaction_modes(args: list[Node], *, quoted: bool = False) -> dict[str, str]:
    """The modes of BEGIN or SET TRANSACTION by the name of their setting, the last of each kind."""
    modes = {}
    for arg in args:
        element = arg["DefElem"]
        const = element["arg"]["A_Const"]
        if "sval" in const:
            level = const["sval"]["sval"]
            modes[element["defname"]] = quote_literal(level) if quoted else level
        else:
            modes[element["defname"]] = "on" if const["ival"].get("ival") else "off"
    return modes


def from_call(call: Node, *, certain: bool) -> Setting:
    """The setting that a set_config() call changes.

    Args:
        call: the FuncCall.
        certain: it is evaluated exactly once, whatever the data. Otherwise the setting may or may not
        be changed.
    """
    args = call.get("args", [])
    if len(args) != 3:
        return UNKNOWN
    name, value, local = (_argument(arg) for arg in args)
    is_local = local in ("true", "t", "on", "yes", "1", "y")
    known = certain and isinstance(local, str) and name is not _COMPUTED and value is not _COMPUTED
    if not isinstance(name, (str, Parameter)):
        return Setting(None, None, is_local, known=False)
    if isinstance(name, str):
        name = folded(name)
    if isinstance(value, str):
        value, expressible = as_set(name, value)
        known &= expressible
    elif not isinstance(value, Parameter):
        value = None
    return Setting(name, value, is_local, known)


_COMPUTED = object()


def _argument(node: Node) -> Any:
    """A constant's text, None for NULL, a Parameter, or _COMPUTED."""
    cast = node.get("TypeCast")
    if cast is not None:
        name = cast["typeName"]["names"][-1]["String"]["sval"]
        if name not in ("text", "varchar", "bool"):
            return _COMPUTED
        if "typmods" in cast["typeName"] or "arrayBounds" in cast["typeName"]:
            return _COMPUTED
        node = cast["arg"]
    if "ParamRef" in node:
        return Parameter(node["ParamRef"].get("number", 0))
    const = node.get("A_Const")
    if const is None:
        return _COMPUTED
    if "isnull" in const:
        return None
    if "boolval" in const:
        return "true" if const["boolval"].get("boolval") else "false"
    if "sval" in const:
        return const["sval"].get("sval", "")
    return _COMPUTED


def as_set(name: str | Parameter, value: str) -> tuple[str | None, bool]:
    """What to give SET for the effect of set_config(*name*, *value*), and whether there is such a thing."""
    if isinstance(name, Parameter):  # which one decides how the value is to be read
        return None, False
    if any(len(part.encode()) > _LONGEST_NAME for part in name.split(".")):
        return None, False
    if name not in _QUOTED_LISTS or not value.strip():
        return quote_literal(value), True
    elements, position = [], 0
    while True:
        match = _ELEMENT.match(value, position)
        if match is None:
            return None, False
        quoted, plain, separator = match.groups()
        elements.append(quote_literal(plain.lower() if quoted is None else quoted.replace('""', '"')))
        if not separator:
            return ", ".join(elements), True
        position = match.end()
