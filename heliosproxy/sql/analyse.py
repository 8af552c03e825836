"""Text to facts: `analyse`.

Importing this file imports pglast, which takes 40 ms; `heliosproxy.sql.memo` does so when a `Memo` is built.
"""

from __future__ import annotations

from heliosproxy.errors import StatementRejected
from heliosproxy.sql import parser, tree
from heliosproxy.sql.parser import fingerprint
from heliosproxy.sql.statement import Statement

__all__ = ["analyse", "fingerprint"]


def analyse(text: str) -> Statement:
    """Return the facts of *text*.

    A text we cannot parse is `Kind.UNCLASSIFIED`: it may do anything. The server answers a syntax error with
    its own words, so that one binds nothing; of one too long or too deep for us we must believe that it made
    temporary tables and settings, so it pins ("unclassified").

    Raises:
        StatementRejected: *text* holds a NUL, or lone surrogates. No server takes it (22021), and the parser
            would stop at the NUL and judge less than is sent.
    """
    if "\0" in text:
        raise StatementRejected('invalid byte sequence for encoding "UTF8": 0x00', sqlstate="22021")
    try:
        raw = parser.parse(text)
    except parser.Unparsable as error:
        return tree.unclassified(text, error.reason, pins=error.reason != parser.SYNTAX)
    except UnicodeEncodeError as error:
        reason = f"the statement cannot be encoded: {error.reason}"
        raise StatementRejected(reason, sqlstate="22021") from None
    return tree.describe(text, raw)
