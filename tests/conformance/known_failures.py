"""The one table of what psycopg's suite (tag 3.3.4) may not see pass through heliosproxy, and why.

A key is the id of a test, or its beginning followed by ``*``; every test it covers must fail, in the variant
that lists it, while stock psycopg passes it. A listed test that passes fails the run, so does a failure that
is not listed, and so does a hang, listed or not. A variant (``transaction+cache``) inherits the table of its
mode.
"""

from __future__ import annotations

_DEFAULT_CURSORS = (
    "tests/test_connection.py::test_cursor_factory",
    "tests/test_connection.py::test_server_cursor_factory",
    "tests/test_connection_async.py::test_cursor_factory[asyncio]",
    "tests/test_connection_async.py::test_server_cursor_factory[asyncio]",
    "tests/test_cursor.py::test_default_cursor",
    "tests/test_cursor.py::test_str",
    "tests/test_cursor_async.py::test_default_cursor[asyncio]",
    "tests/test_cursor_async.py::test_str[asyncio]",
)
_STOCK_CURSORS = dict.fromkeys(_DEFAULT_CURSORS, "the default cursor is ours, whatever the suite imports")

# The most that may fail, with all parameters of a test counted.
BARS = {
    "session": 10,
    "session+stock-cursors": 10 + len(_DEFAULT_CURSORS),
    "transaction": 60,
    "transaction+stock-cursors": 60 + len(_DEFAULT_CURSORS),
}
# The largest part of all leases that may be pinned; every connection of session mode is.
PINNED = {"transaction": 0.10}

_NO_TERMINATE = (
    "the trace goes on behind close(), where stock psycopg says Terminate and a pool says DISCARD ALL"
)
_TRACES = (
    "tests/test_pipeline.py::test_executemany_trace",
    "tests/test_pipeline.py::test_executemany_trace_returning",
    "tests/test_pipeline_async.py::test_executemany_trace[asyncio]",
    "tests/test_pipeline_async.py::test_executemany_trace_returning[asyncio]",
)
_POOL_CONNECTS = (
    "replaces the private _connect_gen of the class: the pool connects, through psycopg's own class"
)
_CONNECT_GEN = (
    "tests/test_connection.py::test_resolve_hostaddr_conn",
    "tests/test_connection_async.py::test_resolve_hostaddr_conn[asyncio]",
)

KNOWN: dict[str, dict[str, str]] = {
    "session": dict.fromkeys(_TRACES, _NO_TERMINATE) | dict.fromkeys(_CONNECT_GEN, _POOL_CONNECTS),
    "transaction": {},
    "session+stock-cursors": _STOCK_CURSORS,
    "transaction+stock-cursors": _STOCK_CURSORS,
}

_CUT = ("DID NOT RAISE", "the reply may come before the connection is cut; stock failed one of forty here")

# Failures that stock psycopg has now and then: test -> what the error says, and why. They count as passed.
RACES: dict[str, tuple[str, str]] = {
    "tests/test_waiting.py::test_wait_remote_closed*": _CUT,
    "tests/test_waiting_async.py::test_wait_remote_closed*": _CUT,
    "tests/*": (
        "the proxy didn't start listening in time",
        "the suite gives pproxy two seconds to start, too few on a busy machine",
    ),
}


def known_failures(variant: str) -> dict[str, str]:
    """The table for *variant*: test id or beginning of ids -> reason."""
    mode = variant.partition("+")[0]
    return {**KNOWN.get(mode, {}), **KNOWN.get(variant, {})}


def bar(variant: str) -> int:
    """The most failures *variant* may have."""
    return BARS.get(variant, BARS.get(variant.partition("+")[0], 0))


def pinned_bar(variant: str) -> float:
    """The largest part of its leases *variant* may have pinned."""
    return PINNED.get(variant.partition("+")[0], 1.0)
