"""What a walk gathers, and how it reads names out of nodes."""

from __future__ import annotations

import re
from typing import Any, cast

from heliosproxy.sql.parser import Node
from heliosproxy.sql.statement import Setting

Scope = frozenset[str]

# A name as the walk gathers it: alone, or with its schema. Making the tuples that a Statement holds is left
# until the sets are complete, because whole sets recur more often than not.
Name = str | tuple[str, str]

NO_NAMES: Scope = frozenset()

# Letters alone bound a word: PostgreSQL reads 'today12:00' as today.
_CLOCK = re.compile("(?<![a-z])(?:now|today|tomorrow|yesterday)(?![a-z])", re.IGNORECASE)


class Facts:
    """What the walk has gathered so far."""

    __slots__ = (
        "clock",
        "deferred",
        "functions",
        "operators",
        "parameters",
        "pins",
        "reads",
        "row_locks",
        "scope",
        "set_configs",
        "settings",
        "tablesample",
        "temp",
        "types",
        "unordered_limit",
        "writes",
        "writes_anything",
    )

    def __init__(self) -> None:
        self.reads: set[Name] = set()
        self.writes: set[Name] = set()
        self.functions: set[Name] = set()
        self.operators: set[Name] = set()
        self.types: set[str] = set()
        self.pins: set[str] = set()
        self.settings: list[Setting] = []
        self.set_configs: list[Node] = []
        self.parameters = 0
        self.writes_anything = False
        self.clock = False
        self.row_locks = False
        self.tablesample = False
        self.unordered_limit = False
        self.temp = False
        self.scope: Scope = NO_NAMES
        self.deferred: list[tuple[Any, Scope]] = []


def is_temp(rel: Node) -> bool:
    """Whether creating *rel*, a RangeVar, creates a temporary relation."""
    return rel.get("relpersistence") == "t" or is_temp_schema(rel.get("schemaname"))


def is_temp_schema(schema: str | None) -> bool:
    """Whether *schema* is the session's schema of temporary objects, by alias or by real name."""
    return schema is not None and schema.startswith("pg_temp")


def without_relation(body: Node) -> Node:
    """*body* less its target, which is not read."""
    return {key: value for key, value in body.items() if key != "relation"}


def named(rel: Node) -> Name:
    """The relation that *rel*, a RangeVar, names."""
    name: str = rel["relname"]
    return (rel["schemaname"], name) if "schemaname" in rel else name


def names(parts: list[Node]) -> list[str]:
    """The strings of a list of String nodes."""
    return [part["String"].get("sval", "") for part in parts if "String" in part]


def qualified(parts: list[Node]) -> Name:
    """A function or operator from its list of names; a leading catalogue name is dropped."""
    if len(parts) == 1:
        return cast(str, parts[0]["String"]["sval"])
    schema, name = names(parts)[-2:]
    return schema, name


def is_clock(constant: str) -> bool:
    """Whether input functions may read the clock out of *constant*.

    Array, record and range input drop backslashes and quotes inside an element: ``'{n\\ow}'::timestamp[]``.
    """
    if _CLOCK.search(constant):
        return True
    if "\\" in constant or '"' in constant:
        return _CLOCK.search(constant.replace("\\", "").replace('"', "")) is not None
    return False
