"""Names that may call a function without looking like it: the notation of an attribute.

``(x).f`` means f(x) when x has no field f, and ``t.f`` means f(t) when t has no column f (PostgreSQL,
Functions Using Composite Types). It works for scalars, too: ``(0.1::float8).pg_sleep`` sleeps.
"""

from __future__ import annotations

from typing import NamedTuple


class Attribute(NamedTuple):
    """A name behind a dot.

    Attributes:
        of_expression: what stands before the dot is an expression, not a name.
    """

    name: str
    of_expression: bool


def attributes(text: str) -> frozenset[Attribute]:
    """Return every name behind a dot in *text*, folded as PostgreSQL folds it. *text* must be valid SQL."""
    if "." not in text:
        return frozenset()
    from pglast.parser import scan  # pglast costs 40 ms to import

    found = set()
    dot = of_expression = False
    for token in scan(text):
        if token.name in ("SQL_COMMENT", "C_COMMENT"):
            continue
        if token.name == "ASCII_46":
            dot = True
            continue
        if dot:
            found.add(Attribute(_folded(text[token.start : token.end + 1]), of_expression))
            dot = False
        of_expression = token.name in ("ASCII_41", "ASCII_93", "PARAM")  # ) ] $1
    return frozenset(found)


def _folded(word: str) -> str:
    if word.startswith('"'):
        return word[1:-1].replace('""', '"')
    if word[:2] in ("U&", "u&"):
        # Escapes are not decoded here: a name that no function has would be a guess.
        return word
    return word.lower()
