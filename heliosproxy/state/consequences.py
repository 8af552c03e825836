"""What a statement that succeeded did to the session's own state."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from ..sql.setting import as_set
from ..sql.statement import Kind, Parameter, Setting, Statement
from ..sql.statement import TransactionOp as Op
from .settings import TRANSACTIONAL

if TYPE_CHECKING:
    from ..call import Call
    from ..session import Session

# Kinds that do something to the session although they name no setting and no pin.
_STATEFUL = frozenset({Kind.DISCARD, Kind.MULTI, Kind.UNLISTEN, Kind.DEALLOCATE, Kind.CLOSE, Kind.DDL})
# They run code we do not see: it may SET, lock, or create temporary tables.
_OPAQUE = frozenset({Kind.DO, Kind.CALL, Kind.UNCLASSIFIED, Kind.EXECUTE})
_ENDING = frozenset({Op.COMMIT, Op.ROLLBACK, Op.PREPARE})


def any_of(statement: Statement, harmless: Collection[str]) -> bool:
    """Whether `apply` has anything to do; most statements have not.

    Args:
        harmless: names of functions that leave the session alone.
    """
    return bool(
        statement.pins
        or statement.settings
        or statement.transaction
        or statement.temp
        or statement.kind in _STATEFUL
        or statement.kind in _OPAQUE
        or (statement.functions and _runs_unseen_code(statement, harmless))
    )


def apply(session: Session, statement: Statement, call: Call, *, in_transaction: bool) -> None:
    """Record what *statement*, which the server has answered without error, did to *session*."""
    if statement.parts:
        inside = session.tx.status.value > 1
        for part in statement.parts:
            if part.transaction is not None and part.transaction.op is Op.BEGIN:
                inside = True
            apply(session, part, call, in_transaction=inside)
            if part.transaction is not None and part.transaction.op in _ENDING:
                session.settings.end(committed=part.transaction.op is not Op.ROLLBACK)
                inside = part.transaction.chain
        return
    for change in statement.settings:
        resolved = _resolved(change, call)
        if resolved is None:
            session.pin("opaque_setting")
        else:
            session.settings.apply(resolved, in_transaction=in_transaction)
            if session.server is not None:
                session.server.parameters = None
    if statement.settings and session.server is not None:
        session.server.settings = session.settings.values
        session.server.signature = session.settings.signature
    _savepoints(session, statement)
    for reason in statement.pins:
        session.pin(reason)
    if statement.temp:
        session.temp = True
        session.pin("temp_table")
    if session.server is not None and (
        statement.kind in _OPAQUE or _runs_unseen_code(statement, session.harmless)
    ):
        session.server.tainted = True
        session.server.parameters = None
    _undone(session, statement)
    if statement.kind is Kind.DDL and not statement.temp:
        session.tx.ddl = True


def sets_transaction(statement: Statement | None) -> bool:
    """SET TRANSACTION: it must be the first statement of its transaction."""
    return statement is not None and any(s.name in TRANSACTIONAL for s in statement.settings)


def ends_transaction(statement: Statement) -> bool:
    """COMMIT, ROLLBACK, PREPARE TRANSACTION."""
    return statement.transaction is not None and statement.transaction.op in _ENDING


def _runs_unseen_code(statement: Statement, harmless: Collection[str]) -> bool:
    """A function of the user's own may SET, lock, or create temporary tables."""
    return any(function.name not in harmless for function in statement.functions)


def _savepoints(session: Session, statement: Statement) -> None:
    transaction = statement.transaction
    if transaction is None:
        return
    settings = session.settings
    name = transaction.name or ""
    if transaction.op is Op.SAVEPOINT:
        settings.savepoint(name)
    elif transaction.op is Op.RELEASE:
        settings.release(name)
    elif transaction.op is Op.ROLLBACK_TO:
        settings.rollback_to(name)
        if session.server is not None:
            session.server.settings = settings.values
            session.server.signature = settings.signature
            session.server.parameters = None


def _undone(session: Session, statement: Statement) -> None:
    """Pins that a statement takes away."""
    kind, verb = statement.kind, statement.verb
    if kind is Kind.DISCARD:
        if verb in ("DISCARD ALL", "DISCARD TEMP"):
            session.temp = False
            session.pins.discard("temp_table")
        if verb == "DISCARD ALL":
            session.pins &= {"session"}
            session.settings.forget()
            if session.server is not None:
                session.server.forget()
    elif kind is Kind.UNLISTEN and statement.text.rstrip("; \n").endswith("*"):
        session.pins.discard("listen")


def _resolved(change: Setting, call: Call) -> Setting | None:
    """*change* with the values of parameters filled in; None when nobody can tell what was set."""
    if not change.known:
        return None
    name = _value(change.name, call)
    if not isinstance(name, str):
        return None
    if isinstance(change.value, Parameter):
        value = _value(change.value, call)
        if value is None:
            return None
        text, certain = as_set(name.lower(), value)
        return Setting(name.lower(), text, change.local) if certain else None
    return Setting(name, change.value, change.local)


def _value(what: Any, call: Call) -> str | None:
    if not isinstance(what, Parameter):
        return what  # type: ignore[no-any-return]
    params = call.bound.params if call.bound is not None else None
    if not params or what.number > len(params):
        return None
    raw = params[what.number - 1]
    if raw is None or (call.bound.formats and call.bound.formats[what.number - 1] != 0):
        return None
    try:
        return bytes(raw).decode()
    except UnicodeDecodeError:
        return None
