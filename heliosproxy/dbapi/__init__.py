"""The PEP 249 face: connections and cursors that are psycopg's, and take the path."""

from __future__ import annotations

from typing import Any

from psycopg import (
    BINARY,
    DATETIME,
    NUMBER,
    ROWID,
    STRING,
    Binary,
    DatabaseError,
    DataError,
    Date,
    DateFromTicks,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    Time,
    TimeFromTicks,
    Timestamp,
    TimestampFromTicks,
    Warning,
)

from .connection import Connection
from .connection_async import AsyncConnection
from .cursor_base import Helios
from .cursors import ClientCursor, Cursor, RawCursor, RawServerCursor, ServerCursor
from .cursors_async import (
    AsyncClientCursor,
    AsyncCursor,
    AsyncRawCursor,
    AsyncRawServerCursor,
    AsyncServerCursor,
)

apilevel = "2.0"
threadsafety = 2
paramstyle = "pyformat"


def connect(conninfo: str = "", **keywords: Any) -> Connection[Any]:
    """A logical connection; see `Connection.connect`."""
    return Connection.connect(conninfo, **keywords)


__all__ = [
    "BINARY",
    "DATETIME",
    "NUMBER",
    "ROWID",
    "STRING",
    "AsyncClientCursor",
    "AsyncConnection",
    "AsyncCursor",
    "AsyncRawCursor",
    "AsyncRawServerCursor",
    "AsyncServerCursor",
    "Binary",
    "ClientCursor",
    "Connection",
    "Cursor",
    "DataError",
    "DatabaseError",
    "Date",
    "DateFromTicks",
    "Error",
    "Helios",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OperationalError",
    "ProgrammingError",
    "RawCursor",
    "RawServerCursor",
    "ServerCursor",
    "Time",
    "TimeFromTicks",
    "Timestamp",
    "TimestampFromTicks",
    "Warning",
    "apilevel",
    "connect",
    "paramstyle",
    "threadsafety",
]
