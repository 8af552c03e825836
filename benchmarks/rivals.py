"""The others, opened for comparison; each only where it is installed (``pip install 'heliosproxy[bench]'``)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool


def pool(stack: ExitStack, dsn: str) -> ConnectionPool[Any]:
    """psycopg_pool with one connection, in autocommit, as it is out of the box otherwise."""
    opened = ConnectionPool(dsn, min_size=1, max_size=1, kwargs={"autocommit": True}, open=False)
    stack.enter_context(opened)
    opened.wait()
    return opened


def wrapped(stack: ExitStack, dsn: str) -> dict[str, Any]:
    """Connections of the AWS Advanced Python Wrapper: without plugins, and with its default ones."""
    try:
        from aws_advanced_python_wrapper import AwsWrapperConnection, release_resources
    except ImportError:
        return {}
    # Its parser of connection strings knows the keyword form only.
    conninfo = make_conninfo(**conninfo_to_dict(dsn))
    stack.callback(release_resources)
    opened = {}
    for name, options in {"no plugins": {"plugins": ""}, "default plugins": {}}.items():
        conn = AwsWrapperConnection.connect(
            psycopg.Connection.connect, conninfo, wrapper_dialect="pg", autocommit=True, **options
        )
        stack.callback(conn.close)
        opened[f"AWS wrapper, {name}"] = conn
    return opened


def region() -> Callable[[], object]:
    """A look at a row in a memory region of dogpile.cache: what an application caches by hand."""
    from dogpile.cache import make_region

    memory = make_region().configure("dogpile.cache.memory")
    memory.set("users:42", [(42, "name 42", 42.5)])
    return lambda: memory.get("users:42")
