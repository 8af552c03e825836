"""Names that may call a function without looking like it: the notation of an attribute.

``(x).f`` means f(x) when x has no field f, and ``t.f`` means f(t) when t has no column f (PostgreSQL,
Functions Using Composite Types). It works for scalars, too: ``(0.1::float8).pg_sleep`` sleeps.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

_ENDS = (")", "]")  # of an expression


class Attribute(NamedTuple):
    """A name behind a dot; *qualifier* is the name before the dot, None for an expression."""

    name: str
    qualifier: str | None


def attributes(text: str) -> frozenset[Attribute]:
    """Return every name behind a dot in *text*, folded as PostgreSQL folds it. *text* must be valid SQL."""
    if "." not in text:
        return frozenset()
    names = _tokens(text)
    return frozenset(
        Attribute(
            names[i + 1], None if names[i - 1] in _ENDS or names[i - 1].startswith("$") else names[i - 1]
        )
        for i in range(1, len(names) - 1)
        if names[i] == "."
    )


def aliases(text: str, relations: frozenset[str]) -> frozenset[str]:
    """Return *relations* (bare names) and what *text* calls them: ``users``, ``users AS u``, ``users u``."""
    names = [name for name in _tokens(text) if name != "as"]
    return relations | {
        alias for name, alias in pairwise(names) if name in relations and alias.isidentifier()
    }


def _tokens(text: str) -> list[str]:
    from pglast.parser import scan  # pglast costs 40 ms to import

    return [
        _folded(text[token.start : token.end + 1])
        for token in scan(text)
        if token.name not in ("SQL_COMMENT", "C_COMMENT")
    ]


def _folded(word: str) -> str:
    if word.startswith('"'):
        return word[1:-1].replace('""', '"')
    return word.lower()
