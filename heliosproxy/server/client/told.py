"""What clients were told of the columns of their prepared statements, and whether it still holds.

A driver that has described a statement reads the rows of each execution by that description. PostgreSQL keeps the
promise by an error ("cached plan must not change result type"), which drivers know and answer by preparing anew. On
a server connection that prepares the statement only after the DDL there would be no error: so it is asked first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from ...state.transaction import Status
from ..protocol import frontend
from ..protocol.errors import ProtocolViolation
from ..upstream.exchange import Exchange, Script, Unit
from .plan import BIND, PARSE, STATEMENT, Plan
from .statements import Prepared

if TYPE_CHECKING:
    from ..upstream.connection import Upstream
    from .settling import Settling


UNCERTAIN = -1
"""Epoch of what was seen behind DDL that is not committed: it may be rolled back."""


def columns(description: bytes) -> bytes:
    """Names and types of a RowDescription, without the tables they come from; b"" of a NoData."""
    at, found = 7, []
    for _ in range(int.from_bytes(description[5:7], "big")):
        end = description.index(0, at)
        found.append(description[at:end] + description[end + 7 : end + 17])
        at = end + 19
    return b"\0".join(found)


def doubted(conversation: Settling, name: bytes, prepared: Prepared) -> bytes | None:
    """The columns that the client was told of its statement *name*, where these may be others by now; else None."""
    told = conversation.told.get(name)
    session = conversation.session
    # Nothing is executed in a failed transaction.
    if told is None or told[0] is not prepared or session.tx.status is Status.FAILED:
        return None
    certain = not session.tx.ddl and prepared.columns == (session.pool.ddl_epoch, told[1])
    return None if certain else told[1]


def suspects(conversation: Settling, plan: Plan) -> list[tuple[Prepared, bytes]]:
    """The statements that *plan* executes and whose columns may be others than the client was told; with these."""
    pairs = ((prepared, doubted(conversation, name, prepared)) for name, prepared in _bound(plan))
    return [(prepared, told) for prepared, told in pairs if told is not None]


def _bound(plan: Plan) -> Iterator[tuple[bytes, Prepared]]:
    """The statements that *plan* binds and has not just prepared."""
    if plan.swift is not None:
        data, bind, rest, _, prepared = plan.swift
        if not bind:
            yield data[6 : rest - 1], prepared
        return
    parsed: set[bytes] = set()
    for op in plan.ops:
        if op.kind == PARSE:
            parsed.add(op.name)
        elif op.kind == BIND and op.prepared is not None and op.name not in parsed:
            yield op.name, op.prepared


def question(conversation: Settling, doubts: list[tuple[Prepared, bytes]], done: Any) -> bytes:
    """What asks its server connection for the columns of statements; *done* is called at its end."""
    server: Upstream = conversation.session.server
    script: Script = deque()
    out = []
    for prepared in {prepared for prepared, _ in doubts}:
        if prepared.name not in server.prepared:
            out.append(frontend.parse_raw(prepared.name, prepared.text, prepared.types))
            script.append(Unit(False, partial(server.prepared.add, prepared.name)))
        out.append(frontend.describe(STATEMENT, prepared.name))
        script.append(Unit(False, told=partial(learn, conversation, prepared)))
    server.exchanges.append(Exchange(None, done, script))
    return b"".join((*out, frontend.SYNC))


def learn(conversation: Settling, prepared: Prepared, description: bytes) -> bytes:
    """Its server connection has described *prepared*; returns the columns."""
    session, found = conversation.session, columns(description)
    prepared.columns = (UNCERTAIN if session.tx.ddl else session.server.ddl_epoch, found)
    return found


def refuse(plan: Plan) -> None:
    """Make *plan* the error that PostgreSQL has for it."""
    plan.swift = None
    plan.ops.clear()
    plan.refused = ProtocolViolation(
        "cached plan must not change result type",
        sqlstate="0A000",
        fatal=False,
        routine="RevalidateCachedQuery",  # by which asyncpg and others know it
    )
