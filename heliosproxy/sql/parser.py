"""The one place that touches pglast: text to JSON tree, comments, fingerprint.

pglast 8 embeds libpg_query 18: the grammar of PostgreSQL 18 (18.6 in pglast 8.8). An older server refuses a
few forms it accepts, a newer server accepts a few forms it refuses; neither may be guessed at, so a text it
refuses is unclassified, not wrong.

Importing pglast takes some 40 ms, so this file is imported at the first analysis, not with heliosproxy.
"""

from __future__ import annotations

import re
from typing import Any, cast

import orjson
from pglast.parser import ParseError, parse_sql_json, scan
from pglast.parser import fingerprint as _fingerprint

Node = dict[str, Any]

TOO_LONG = "too_long"
TOO_DEEP = "too_deep"
SYNTAX = "syntax"

# Measured. Rows of ordinary width: 2 MB of text are 9 MB of JSON, 0.7 s, 150 MB while it lasts. The worst, a list of
# one-digit constants: 1 MB is 45 MB of JSON, 0.5 s and 150 MB in the parser, 2.6 s and 550 MB more as Python objects.
# So the text bounds the parser and the JSON bounds what we make of it: about 300 MB and 2 s for who means harm.
MAX_TEXT = 2_000_000
MAX_JSON = 12_000_000

# PostgreSQL's scanner reads a run of operator characters again for each of "/*/*/*…" and "+-+-+-…":
# quadratic, 1 MB takes minutes. Runs are weighed by their square; texts too short to hurt (10 ms) are not
# looked at.
_RUN = re.compile(r"[-+*/<>=~!@#%^&|`?]{64,}")
_RUNS_FROM = 4_000
_RUNS_WEIGHT = 50_000_000

_DEEP = ("stack depth limit exceeded", "memory exhausted")


class Unparsable(Exception):
    """The text has no tree; *reason* is one of SYNTAX, TOO_DEEP, TOO_LONG."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def parse(text: str) -> list[Node]:
    """Return the raw statements of *text*: ``[{"stmt": {tag: …}, "stmt_location": …, "stmt_len": …}, …]``.

    Raises:
        Unparsable: no tree can be had.
        UnicodeEncodeError: *text* holds lone surrogates.
    """
    if len(text) > _RUNS_FROM:
        if len(text) > MAX_TEXT:
            raise Unparsable(TOO_LONG)
        if sum(len(run.group()) ** 2 for run in _RUN.finditer(text)) > _RUNS_WEIGHT:
            raise Unparsable(TOO_LONG)
    try:
        tree = parse_sql_json(text)
    except ParseError as error:
        deep = str(error).startswith(_DEEP)
        raise Unparsable(TOO_DEEP if deep else SYNTAX) from None
    if len(tree) > MAX_JSON:
        raise Unparsable(TOO_LONG)
    try:
        # orjson refuses more than 1,024 levels; nothing after this point has to fear for its stack.
        return cast(list[Node], orjson.loads(tree).get("stmts", []))
    except orjson.JSONDecodeError:
        raise Unparsable(TOO_DEEP) from None


def comments(text: str) -> list[str]:
    """Return the comments of *text* with their delimiters; none when it cannot be scanned."""
    try:
        tokens = scan(text)
    except (ParseError, UnicodeError):
        return []
    return [text[t.start : t.end + 1] for t in tokens if t.name in ("C_COMMENT", "SQL_COMMENT")]


def fingerprint(text: str) -> str | None:
    """Return pglast's fingerprint, or None when *text* cannot be parsed."""
    try:
        return _fingerprint(text)
    except (ParseError, UnicodeError):
        return None
