"""On which line of a TOML text each key stands: tomllib does not tell. Asked only once something is wrong."""

from __future__ import annotations

import tomllib
from typing import Any

from heliosproxy.config.keys import Location


def lines_of_keys(text: str) -> dict[Location, int]:
    """The 1-based line of each key and section header of *text*, which must be valid TOML.

    Keys within an inline table get the line that their statement begins on.
    """
    lines: dict[Location, int] = {}
    section: Location = ()
    arrays: dict[Location, int] = {}
    pending, first = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if not pending:
            first = number
        pending += line + "\n"
        # A statement ends with the line that makes it valid by itself; until then it is within a string or an
        # array.
        try:
            statement = tomllib.loads(pending)
        except tomllib.TOMLDecodeError:
            continue
        header = pending.lstrip().startswith("[")
        pending = ""
        if header:
            section = _resolve(statement, arrays)
            for end in range(1, len(section) + 1):
                lines.setdefault(section[:end], first)
        else:
            _record(statement, section, first, lines)
    return lines


def _resolve(statement: dict[str, Any], arrays: dict[Location, int]) -> Location:
    """The location that the header *statement* opens; *arrays* counts the tables of each array so far."""
    path: Location = ()
    value: Any = statement
    while value:
        if isinstance(value, list):
            arrays[path] = arrays.get(path, -1) + 1
            return (*path, arrays[path])
        name, value = next(iter(value.items()))
        path = (*path, name)
        if path in arrays and not isinstance(value, list):
            path = (*path, arrays[path])  # a table within the last one of an array
    return path


def _record(value: Any, location: Location, line: int, lines: dict[Location, int]) -> None:
    if isinstance(value, dict):
        items: list[tuple[str | int, Any]] = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    else:
        return
    for part, inner in items:
        lines.setdefault((*location, part), line)
        _record(inner, (*location, part), line, lines)


def line_of(location: Location, lines: dict[Location, int]) -> int | None:
    """The line of *location*, or of the innermost section around it that has one; None when nothing does."""
    for end in range(len(location), 0, -1):
        outer = location[:end]
        # [plugins.wasm] as one table is an array of one in the model; its text has no index.
        for candidate in (outer, tuple(part for part in outer if isinstance(part, str))):
            if candidate in lines:
                return lines[candidate]
    return None
