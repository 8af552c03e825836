"""The one table of what psycopg's suite (tag 3.3.4) may not see pass through heliosproxy, and why.

A key is the id of a test, or its beginning followed by ``*``; every test it covers must fail, in the variant
that lists it, while stock psycopg passes it. A listed test that passes fails the run, so does a failure that
is not listed, and so does a hang, listed or not. A variant (``transaction+cache``) inherits the table of its
mode.
"""

from __future__ import annotations

# The most that may fail, with all parameters of a test counted.
BARS = {"session": 10, "transaction": 60}

KNOWN: dict[str, dict[str, str]] = {
    "session": {},
    "transaction": {},
    "transaction+cache": {},
    "thin": {},
}

# Tests whose outcome is a race, with stock psycopg, too: they may pass and they may fail, but not hang.
RACES: dict[str, str] = {
    "tests/test_waiting.py::test_wait_remote_closed*": "the reply may come before the connection is cut:"
    " stock psycopg failed one of ten here, on a busy machine",
}


def known_failures(variant: str) -> dict[str, str]:
    """The table for *variant*: test id or beginning of ids -> reason."""
    mode = variant.partition("+")[0]
    return {**KNOWN.get(mode, {}), **KNOWN.get(variant, {})}


def bar(variant: str) -> int:
    """The most failures *variant* may have."""
    return BARS.get(variant.partition("+")[0], 0)
