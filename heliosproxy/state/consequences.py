"""What a statement that succeeded did to the session's own state."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..sql.setting import as_set, folded
from ..sql.statement import Kind, Parameter, Setting, Statement
from ..sql.statement import TransactionOp as Op
from .channels import Notice
from .settings import TRANSACTIONAL
from .transaction import Status

if TYPE_CHECKING:
    from ..call import Call
    from .memory import Memory

# Kinds that do something to the session although they name no setting and no pin.
_STATEFUL = frozenset({Kind.DISCARD, Kind.MULTI, Kind.UNLISTEN, Kind.DEALLOCATE, Kind.CLOSE, Kind.DDL})
# They run code we do not see: it may SET, lock, or create temporary tables.
_OPAQUE = frozenset({Kind.DO, Kind.CALL, Kind.UNCLASSIFIED, Kind.EXECUTE})
_FORGETTING = frozenset({Kind.DEALLOCATE, Kind.DISCARD})
_ENDING = frozenset({Op.COMMIT, Op.ROLLBACK, Op.PREPARE})
_RETURNING = _ENDING | {Op.ROLLBACK_TO}


def any_of(statement: Statement, harmless: Collection[str]) -> bool:
    """Whether `apply` has anything to do; most statements have not.

    Args:
        harmless: names of functions that leave the session alone.
    """
    return bool(
        _beyond_unseen_code(statement)
        or statement.kind in _OPAQUE
        or (statement.functions and _runs_unseen_code(statement, harmless))
    )


def apply(session: Memory, statement: Statement, call: Call, *, in_transaction: bool) -> None:
    """Record what *statement*, which the server has answered without error, did to *session*."""
    if statement.parts:
        apply_all(session, [(part, call) for part in statement.parts], in_transaction=in_transaction)
        return
    for change in statement.settings:
        resolved = _resolved(change, call)
        if resolved is None:
            session.pin("opaque_setting")
        else:
            session.settings.apply(resolved, in_transaction=in_transaction)
            if session.server is not None:
                session.server.parameters = None
    if statement.settings:
        session.carried()
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
    _undone(session, statement, in_transaction)
    if statement.notice is not None and session.channels is not None:
        channel, payload = (_value(part, call) for part in statement.notice)
        if channel is not None and payload is not None:
            own = Notice(session.server.backend_pid, channel.encode(), payload.encode())
            session.channels.sent(own, in_transaction=in_transaction)
    if statement.kind is Kind.DDL and not statement.temp:
        session.tx.ddl = True


def apply_all(session: Memory, statements: Iterable[tuple[Statement, Call]], *, in_transaction: bool) -> None:
    """Record what several *statements* of one message or one pipeline, all answered without error, did.

    They are in a transaction, if only in an implicit one which ROLLBACK undoes, too.

    Args:
        in_transaction: the session is in one behind the last of them.
    """
    failed = session.tx.status is Status.FAILED
    for statement, call in statements:
        apply(session, statement, call, in_transaction=True)
        if statement.transaction is None:
            continue
        if statement.transaction.op in _ENDING:
            # A failed transaction ends by COMMIT as by ROLLBACK.
            _ended(session, committed=statement.transaction.op is not Op.ROLLBACK and not failed)
            failed = False
        elif statement.transaction.op is Op.ROLLBACK_TO:
            failed = False
    if not in_transaction:
        _ended(session, committed=True)


def outstanding(calls: Sequence[Call]) -> list[Call]:
    """Those of *calls*, all answered without error, that `apply_all` still needs when the transaction is over.

    Of code that we do not see the last run of a statement stands for all.
    """
    found: list[Call] = []
    unseen: set[Statement] = set()
    for call in reversed(calls):
        statement = call.statement
        if call.quiet or statement is None or statement in unseen:
            continue
        if not _beyond_unseen_code(statement):
            unseen.add(statement)
        found.append(call)
    found.reverse()
    return found


def _beyond_unseen_code(statement: Statement) -> bool:
    """Whether `apply` has more to do for *statement* than to say that nobody knows what it did."""
    return bool(
        statement.pins
        or statement.settings
        or statement.transaction
        or statement.temp
        or statement.notice
        or statement.parts
        or statement.kind in _STATEFUL
    )


def half_done(session: Memory, statement: Statement | None) -> None:
    """Record what *statement*, which failed or was interrupted, may have left all the same.

    A lock of the session level stays, and so does what an earlier statement of the same text committed; who
    presses Ctrl-C may be too late.
    """
    if statement is None or statement.transaction is None:
        session.server.tainted = True
        session.server.parameters = None
    if statement is not None and not session.pins and (forgets(statement) or "prepare" in statement.pins):
        session.server.ddl_epoch = -1  # nobody can tell what is prepared: all of it anew
    if statement is not None and "advisory_lock" in statement.pins:
        session.pin("advisory_lock")


def sets_transaction(statement: Statement | None) -> bool:
    """SET TRANSACTION: it must be the first statement of its transaction."""
    return statement is not None and any(s.name in TRANSACTIONAL for s in statement.settings)


def prepares(statement: Statement) -> bool:
    """PREPARE TRANSACTION."""
    return statement.transaction is not None and statement.transaction.op is Op.PREPARE


def forgets(statement: Statement) -> bool:
    """DISCARD, DEALLOCATE: prepared statements are gone."""
    return any(part.kind in _FORGETTING for part in statement.parts or (statement,))


def ends_transaction(statement: Statement) -> bool:
    """COMMIT, ROLLBACK, PREPARE TRANSACTION."""
    return statement.transaction is not None and statement.transaction.op in _ENDING


def returns(statement: Statement) -> bool:
    """Settings of the transaction, or some of them, become what they were before."""
    return statement.transaction is not None and statement.transaction.op in _RETURNING


def _runs_unseen_code(statement: Statement, harmless: Collection[str]) -> bool:
    """A function of the user's own may SET, lock, or create temporary tables."""
    return any(function.name not in harmless for function in statement.functions)


def _ended(session: Memory, *, committed: bool) -> None:
    if session.settings.end(committed=committed):
        session.carried()
    if session.channels is not None:
        session.channels.end(committed=committed)


def _savepoints(session: Memory, statement: Statement) -> None:
    transaction = statement.transaction
    if transaction is None:
        return
    name = transaction.name or ""
    if transaction.op is Op.SAVEPOINT:
        for layer in session.layers:
            layer.savepoint(name)
    elif transaction.op is Op.RELEASE:
        for layer in session.layers:
            layer.release(name)
    elif transaction.op in _ENDING and transaction.chain:
        _ended(
            session, committed=transaction.op is not Op.ROLLBACK and session.tx.status is not Status.FAILED
        )
    elif transaction.op is Op.ROLLBACK_TO:
        for layer in session.layers:
            layer.rollback_to(name)
        session.carried()
        if session.server is not None:
            session.server.parameters = None


def _undone(session: Memory, statement: Statement, in_transaction: bool) -> None:
    """Pins that a statement takes away, and what else it makes the session forget."""
    kind, verb = statement.kind, statement.verb
    if kind is Kind.DISCARD:
        if verb in ("DISCARD ALL", "DISCARD TEMP"):
            session.temp = False
            session.pins.discard("temp_table")
        if verb == "DISCARD ALL":
            session.pins &= {"session"}
            session.settings.forget()
            session.names.clear()
            if session.server is not None:
                session.server.forget()
            if session.channels is not None:
                session.channels.unlisten(None, in_transaction=in_transaction)
    elif kind is Kind.UNLISTEN:
        if statement.name is None:
            session.pins.discard("listen")
        if session.channels is not None:
            channel = None if statement.name is None else statement.name.encode()
            session.channels.unlisten(channel, in_transaction=in_transaction)
    elif kind is Kind.DEALLOCATE and statement.name is None:
        # psycopg overlooks it where it counted the text before anything was prepared; here others would pay.
        session.names.clear()
        session.server.forget_prepared()
    elif kind is Kind.DEALLOCATE and statement.name is not None:
        session.names.pop(statement.name.encode(), None)


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
        text, certain = as_set(folded(name), value)
        return Setting(folded(name), text, change.local) if certain else None
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
