"""The one table of what the suites of drivers may not see pass through heliosproxy, and why.

A key is the id of a test, or its beginning followed by ``*``; every test it covers must fail, in the variant
that lists it, while the baseline passes it. A listed test that passes fails the run, so does a failure that
is not listed, and so does a hang, listed or not. A variant (``transaction+cache``) inherits the table of its
mode. The variants of other drivers than psycopg bear their name (``asyncpg:wire-session``).
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
    "wire-session": 15,
    "wire-transaction": 135,
    "psycopg2:wire-session": 2,
    "psycopg2:wire-transaction": 42,
    "asyncpg:wire-session": 0,
    "asyncpg:wire-transaction": 10,
}
# The largest part of all leases that may be pinned; every connection of session mode is.
PINNED = {"transaction": 0.10}


def _tests(module: str, *names: str) -> tuple[str, ...]:
    """The ids of tests that *module* has twice, blocking and for asyncio."""
    blocking = [f"tests/test_{module}.py::{name}" for name in names]
    return (*blocking, *(f"tests/test_{module}_async.py::{name}[asyncio]" for name in names))


_SESSION = (
    (
        "the trace goes on behind close(), where stock psycopg says Terminate and a pool DISCARD ALL",
        _tests("pipeline", "test_executemany_trace", "test_executemany_trace_returning"),
    ),
    (
        "replaces the private _connect_gen of the class: the pool connects, through psycopg's own class",
        _tests("connection", "test_resolve_hostaddr_conn"),
    ),
)
# While a logical connection holds no server connection, its pgconn is parked: it has the server's parameters and
# a status, no socket.
_TRANSACTION = (
    (
        "looks at the connection string of each connect(): the pool has logged in with an equal one before",
        (
            *(f"tests/test_connection.py::test_connect_args[args{n}*" for n in range(6)),
            "tests/test_connection_async.py::test_connect_args[asyncio-args1-kwargs1-]",
            *(f"tests/test_psycopg_dbapi20.py::test_connect_args[args{n}*" for n in (0, 1, 2, 3, 5)),
        ),
    ),
    (
        "expects the connection to be closed: without pins it lives on, and its transaction is lost",
        _tests("connection", "test_broken_connection"),
    ),
    (
        "counts what is prepared: the server connection was used, and prepared for, by other tests",
        _tests("pipeline", "test_auto_prepare"),
    ),
    (
        "runs statements on conn.pgconn itself, which is parked",
        (
            *_tests("connection", "test_commit", "test_rollback"),
            *_tests("connection", "test_auto_transaction", "test_auto_transaction_fail"),
            *_tests("connection", "test_context_active_rollback_no_clobber"),
            *_tests("transaction", "test_context_active_rollback_no_clobber"),
        ),
    ),
    (
        "means to terminate conn.pgconn.backend_pid, but that is parked: 0, which terminates nobody",
        _tests("connection", "test_broken", "test_right_exception_on_server_disconnect"),
    ),
    (
        "wants the socket of conn.pgconn, which is parked and has none",
        _tests("connection", "test_fileno"),
    ),
    (
        "compares conn.info, which tells of the pool, with conn.pgconn, which is parked",
        (
            "tests/test_connection_info.py::test_attrs[host]",
            "tests/test_connection_info.py::test_attrs[hostaddr]",
            "tests/test_connection_info.py::test_port",
            "tests/test_connection_info.py::test_backend_pid",
        ),
    ),
    (
        "traces conn.pgconn, which is parked: what follows goes through a server connection",
        _tests(
            "pipeline",
            "test_pipeline_exit_sync_trace",
            "test_pipeline_nested_sync_trace",
            "test_transaction_state_implicit_begin",
        ),
    ),
    (
        "watches for BEGIN at the start of transaction(); it travels with the first statement",
        (
            "tests/test_transaction.py::test_named_savepoints_successful_exit[asyncio-pipeline=off]",
            "tests/test_transaction_async.py::test_named_savepoints_successful_exit[asyncio-pipeline=off]",
            "tests/test_transaction.py::test_named_savepoints_exception_exit[asyncio-pipeline=off]",
            "tests/test_transaction_async.py::test_named_savepoints_exception_exit[asyncio-pipeline=off]",
        ),
    ),
)

# Through our server, whose clients have process numbers of their own, and whose server connections have many clients.
_WIRE_TRANSACTION = (
    (
        "terminates the process of its own number: nobody's, in transaction mode",
        (
            *_tests("connection", "test_broken", "test_broken_connection"),
            *_tests("connection", "test_right_exception_on_server_disconnect"),
            *_tests("connection", "test_context_inerror_rollback_no_clobber"),
            "tests/test_transaction.py::test_context_inerror_rollback_no_clobber[asyncio-pipeline=off]",
            "tests/test_transaction_async.py::test_context_inerror_rollback_no_clobber[asyncio-pipeline=off]",
            "tests/pq/test_pgconn.py::test_reset",
            "tests/pq/test_pgconn.py::test_reset_async",
        ),
    ),
    (
        "looks into pg_prepared_statements: a server connection knows statements of many, by names of their content",
        (
            *_tests("pipeline", "test_auto_prepare"),
            *_tests("prepared", "test_dont_prepare", "test_do_prepare", "test_auto_prepare"),
            *_tests("prepared", "test_dont_prepare_conn", "test_do_prepare_conn", "test_auto_prepare_conn"),
            *_tests("prepared", "test_prepare_disable", "test_no_prepare_multi"),
            *_tests("prepared", "test_evict_lru", "test_evict_lru_deallocate"),
            *_tests("prepared", "test_different_types", "test_untyped_json"),
            "tests/test_pipeline.py::test_prepared",
        ),
    ),
)


_PSYCOPG2_TRANSACTION = (
    (
        "wants a replication connection, which session mode has",
        ("tests/test_replication.py::*",),
    ),
    (
        "terminates the process of its own number: nobody's, in transaction mode",
        (
            "tests/test_connection.py::ConnectionTests::test_cleanup_on_badconn_close",
            "tests/test_cursor.py::CursorTests::test_external_close_async",
            "tests/test_cursor.py::CursorTests::test_external_close_sync",
        ),
    ),
    (
        "compares the number of its process with pg_backend_pid(), which is that of a server connection",
        ("tests/test_connection.py::TestConnectionInfo::test_backend_pid",),
    ),
    (
        "wants the number of another client's process in a notification: the server has that of its own process",
        (
            "tests/test_async.py::AsyncTests::test_notify",
            *(
                f"tests/test_notify.py::NotifiesTests::{name}"
                for name in (
                    "test_many_notifies",
                    "test_notifies_received_on_commit",
                    "test_notifies_received_on_execute",
                    "test_notifies_received_on_poll",
                    "test_notifies_received_on_reset",
                    "test_notifies_received_on_rollback",
                    "test_notifies_received_on_set_client_encoding",
                    "test_notifies_received_on_set_session",
                    "test_notify_attributes",
                    "test_notify_payload",
                )
            ),
        ),
    ),
)
_ASYNCPG_TRANSACTION = (
    (
        "wants the number of another client's process in a notification: the server has that of its own process",
        (
            "tests/test_listeners.py::TestListeners::test_listen_02",
            "tests/test_listeners.py::TestListeners::test_listen_notletters",
        ),
    ),
    (
        "runs SQL EXECUTE with the name of a prepared statement of the protocol: names on a server are ours",
        ("tests/test_prepare.py::TestPrepare::test_prepare_explicitly_named",),
    ),
)


def _table(*groups: tuple[str, tuple[str, ...]]) -> dict[str, str]:
    return {test: reason for reason, tests in groups for test in tests}


KNOWN: dict[str, dict[str, str]] = {
    "session": _table(*_SESSION),
    "transaction": _table(*_SESSION, *_TRANSACTION),
    "wire-transaction": _table(*_WIRE_TRANSACTION),
    "psycopg2:wire-transaction": _table(*_PSYCOPG2_TRANSACTION),
    "asyncpg:wire-transaction": _table(*_ASYNCPG_TRANSACTION),
    "session+stock-cursors": _STOCK_CURSORS,
    "transaction+stock-cursors": _STOCK_CURSORS,
}

_CUT = ("DID NOT RAISE", "the reply may come before the connection is cut; stock failed one of forty here")

# Failures that the baseline has now and then: test -> what the error says, and why. They count as passed.
RACES: dict[str, tuple[str, str]] = {
    "tests/test_waiting.py::test_wait_remote_closed*": _CUT,
    "tests/test_waiting_async.py::test_wait_remote_closed*": _CUT,
    "tests/test_execute.py::TestExecuteMany::test_executemany_server_failure_during_writes": (
        "should stop early",
        "asyncpg may have written everything before the server's error comes; most direct runs lose, too",
    ),
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
