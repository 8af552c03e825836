"""Text to facts: `analyse`.

Importing this file imports pglast, which takes 40 ms; `heliosproxy.sql.memo` does so when a `Memo` is built.
"""

from __future__ import annotations

from heliosproxy.errors import StatementRejected
from heliosproxy.sql import parser, tree
from heliosproxy.sql.parser import fingerprint
from heliosproxy.sql.statement import Statement

__all__ = ["analyse", "fingerprint"]

ENCODING = "encoding"


def analyse(text: str) -> Statement:
    """Return the facts of *text*.

    A text we cannot parse is `Kind.UNCLASSIFIED`: it may do anything. The server answers a syntax error with
    its own words, so that one binds nothing; of one too long or too deep for us we must believe that it made
    temporary tables and settings, so it pins ("unclassified").

    So does one with bytes that are no UTF-8 (lone surrogates here): most servers refuse it, a database in
    SQL_ASCII does not.

    Raises:
        StatementRejected: *text* holds a NUL. No server takes it (22021), and the parser would stop there and
            judge less than is sent.
    """
    if "\0" in text:
        raise StatementRejected('invalid byte sequence for encoding "UTF8": 0x00', sqlstate="22021")
    try:
        raw = parser.parse(text)
    except parser.Unparsable as error:
        return tree.unclassified(text, error.reason, pins=error.reason != parser.SYNTAX)
    except UnicodeEncodeError:
        return tree.unclassified(text, ENCODING, pins=True)
    return tree.describe(text, raw)
