"""What the proxy itself says to a client, and what the cache keeps of what a server said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg

from ...sql.statement import Statement
from ...sql.statement import TransactionOp as Op
from ...state.transaction import Status
from ..protocol import backend
from ..protocol.errors import ProtocolViolation

if TYPE_CHECKING:
    from ..upstream.exchange import Exchange

PARSE_COMPLETE = b"1\0\0\0\4"
CLOSE_COMPLETE = b"3\0\0\0\4"
BIND_COMPLETE = b"2\0\0\0\4"
NO_DATA = b"n\0\0\0\4"
_TUPLES_OK = 2  # PGRES_TUPLES_OK, for whom psycopg's results and these are alike
_OVERHEAD = 120

READY: dict[Status, bytes] = {
    Status.IDLE: backend.ready_for_query(b"I"),
    Status.PROMISED: backend.ready_for_query(b"T"),
    Status.OPEN: backend.ready_for_query(b"T"),
    Status.FAILED: backend.ready_for_query(b"E"),
    Status.LOST: backend.ready_for_query(b"E"),
}

# A transaction that sees one snapshot must be known to the path from its BEGIN on.
LAZY = frozenset({"read committed", "read uncommitted"})

_TAGS = {Op.COMMIT: b"COMMIT", Op.ROLLBACK: b"ROLLBACK"}


class Answer:
    """A complete answer: everything between ParseComplete and ReadyForQuery, as bytes.

    Attributes:
        status, size: as of a result of psycopg; bytes.
    """

    __slots__ = ("data", "size", "status")

    def __init__(self, data: bytes, status: int) -> None:
        self.data = data
        self.status = status
        self.size = len(data) + _OVERHEAD

    @classmethod
    def of(cls, exchange: Exchange) -> Answer:
        """What *exchange* forwarded; of the status that is kept when it is the rows of one SELECT."""
        data = b"".join(exchange.tee or ())
        if data.startswith(PARSE_COMPLETE):
            data = data[len(PARSE_COMPLETE) :]
        return cls(data, _TUPLES_OK if exchange.tag.startswith(b"SELECT") else 0)


def completed(statement: Statement) -> bytes:
    """CommandComplete of a BEGIN, COMMIT or ROLLBACK."""
    transaction: Any = statement.transaction
    return backend.command_complete(_TAGS.get(transaction.op) or statement.verb.encode())


def error(violation: ProtocolViolation) -> bytes:
    """ErrorResponse for what a client did wrong."""
    more = {"R": violation.routine} if violation.routine else {}
    return _error("FATAL" if violation.fatal else "ERROR", violation.sqlstate, str(violation), **more)


def of_exception(raised: psycopg.Error | OSError, severity: str = "ERROR") -> bytes:
    """ErrorResponse for an error that the path, the pool or a login raised."""
    sqlstate = getattr(raised, "sqlstate", None) or (
        "XX000" if isinstance(raised, psycopg.Error) else "08006"
    )
    return _error(severity, sqlstate, str(raised))


def _error(severity: str, sqlstate: str, text: str, **more: str) -> bytes:
    return backend.error_response({"S": severity, "V": severity, "C": sqlstate, "M": text, **more})


def notice(text: str) -> bytes:
    """NoticeResponse of the proxy's own."""
    return backend.notice_response({"S": "NOTICE", "V": "NOTICE", "C": "00000", "M": text})


def fatal(sqlstate: str, text: str, **more: str) -> bytes:
    """ErrorResponse that ends the connection; *more* are fields by code (``D=``, ``H=``)."""
    return _error("FATAL", sqlstate, text, **more)


def overdue(text: str) -> bytes:
    """ErrorResponse for a statement that the proxy has cancelled."""
    return _error("ERROR", "57014", text)


def severed(said: bytes) -> bytes:
    """ErrorResponse for a statement whose server connection died; *said* are its last words, or b""."""
    fields = backend.parse_error(said) if said else {}
    text = fields.get("M", "the server closed the connection unexpectedly")
    return _error(
        "ERROR", fields.get("C", "08006"), text, H="The connection to the proxy lives on; try again."
    )


def ended(said: bytes) -> bytes:
    """As `severed`, for a client that was bound to the server connection."""
    if backend.ends(said):
        return said
    fields = backend.parse_error(said) if said else {}
    return fatal(fields.get("C", "08006"), fields.get("M", "the server closed the connection unexpectedly"))
