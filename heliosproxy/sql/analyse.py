"""Text to facts: `analyse`."""

from __future__ import annotations

from heliosproxy.errors import StatementRejected
from heliosproxy.sql.hints import hints
from heliosproxy.sql.statement import Kind, Statement

_ANYTHING = frozenset({"unclassified"})


def analyse(text: str) -> Statement:
    """Return the facts of *text*.

    A text we cannot parse is `Kind.UNCLASSIFIED`: it may do anything. The server answers a syntax error
    with its own words, so that one binds nothing; of one too long or too deep for us we must believe that
    it made temporary tables and settings, so it pins.

    Raises:
        StatementRejected: *text* holds a NUL, or lone surrogates. No server takes it (22021), and the
        parser would
            stop at the NUL and judge less than is sent.
    """
    from heliosproxy.sql import parser, tree  # pglast costs 40 ms to import

    if "\0" in text:
        raise StatementRejected('invalid byte sequence for encoding "UTF8": 0x00', sqlstate="22021")
    try:
        raw = parser.parse(text)
    except UnicodeEncodeError as error:
        raise StatementRejected(
            f"the statement cannot be encoded: {error.reason}", sqlstate="22021"
        ) from None
    except parser.Unparsable as error:
        return unclassified(text, error.reason, pins=error.reason != parser.SYNTAX)
    return tree.describe(text, raw)


def unclassified(text: str, reason: str, *, pins: bool) -> Statement:
    """The facts of a *text* that may do anything."""
    return Statement(
        text,
        Kind.UNCLASSIFIED,
        writes_anything=True,
        pins=_ANYTHING if pins else frozenset(),
        hints=hints(text),
        returns_rows=True,
        error=reason,
    )


def fingerprint(text: str) -> str | None:
    """Return a short name for the shape of *text*, for statistics only; None when it cannot be parsed.

    It is equal for statements that mean different things (``select a, b`` and ``select b, a``): never a key.
    """
    from heliosproxy.sql import parser

    return parser.fingerprint(text)
