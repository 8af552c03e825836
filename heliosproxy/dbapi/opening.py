"""What connect() was asked for: libpq's part, and ours."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

PREFIX = "helios_"

# One key=value of libpq's keyword form (34.1.1.1): the value bare or quoted, with backslash escapes.
_PAIR = re.compile(r"""\s*(?P<key>\w+)\s*=\s*(?P<value>'(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)*)""", re.S)


@dataclass(frozen=True, slots=True)
class Opening:
    """Parameters of one connect().

    Attributes:
        conninfo: libpq's text without our options; "" when it is all in *parameters*.
        parameters: connection parameters given as keywords.
        options: ``helios_…`` options, from both.
        source: the callable that gave *conninfo*, to be asked again for each server connection; else None.
    """

    conninfo: str
    parameters: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    source: Callable[[], str] | None = None

    @classmethod
    def of(cls, conninfo: str | Callable[[], str], keywords: dict[str, Any]) -> Opening:
        """Take *conninfo* and *keywords* apart."""
        source = conninfo if callable(conninfo) else None
        text, options = split(conninfo() if callable(conninfo) else conninfo)
        parameters = {}
        for name, value in keywords.items():
            if name.startswith(PREFIX):
                options[name] = value
            else:
                parameters[name] = value
        return cls(text, parameters, options, source)

    def current(self) -> str:
        """The connection string as it is now."""
        return split(self.source())[0] if self.source is not None else self.conninfo


def split(conninfo: str) -> tuple[str, dict[str, Any]]:
    """*conninfo* without ``helios_…`` options, and these. Anything else is left as it is, for libpq to judge."""
    if PREFIX not in conninfo:
        return conninfo, {}
    if conninfo.startswith(("postgresql://", "postgres://")):
        return _split_uri(conninfo)
    options: dict[str, Any] = {}
    kept = []
    at = 0
    while match := _PAIR.match(conninfo, at):
        at = match.end()
        if match["key"].startswith(PREFIX):
            value = match["value"]
            if value.startswith("'"):
                value = value[1:-1]
            options[match["key"]] = re.sub(r"\\(.)", r"\1", value)
        else:
            kept.append(match[0].strip())
    kept.append(conninfo[at:].strip())
    return " ".join(part for part in kept if part), options


def _split_uri(uri: str) -> tuple[str, dict[str, Any]]:
    base, mark, query = uri.partition("?")
    pairs = parse_qsl(query.replace("+", "%2B"), keep_blank_values=True)
    options = {name: unquote(value) for name, value in pairs if name.startswith(PREFIX)}
    rest = [(name, value) for name, value in pairs if not name.startswith(PREFIX)]
    return base + (mark + urlencode(rest, quote_via=quote) if rest else ""), options
