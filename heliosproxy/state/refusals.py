"""What a session refuses by itself, where no server is there to do so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import errors as e

from ..errors import UnsupportedError
from ..sql.statement import Statement
from ..sql.statement import TransactionOp as Op
from .transaction import Status

if TYPE_CHECKING:
    from .memory import Memory


def check(session: Memory, statement: Statement | None, *, statement_mode: bool) -> None:
    """Refuse what the server would refuse, and what the mode cannot do.

    Raises:
        psycopg.errors.InFailedSqlTransaction: its transaction was lost with its server connection.
        UnsupportedError: BEGIN or PREPARE TRANSACTION in statement mode.
    """
    transaction = statement.transaction if statement is not None else None
    if session.tx.status is Status.LOST and not (transaction and transaction.op is Op.ROLLBACK):
        raise e.InFailedSqlTransaction(
            "the transaction was lost with its server connection: roll back to go on with another one"
        )
    if statement_mode and statement is not None:
        for part in statement.parts or (statement,):
            if part.transaction is not None and part.transaction.op in (Op.BEGIN, Op.PREPARE):
                raise UnsupportedError(
                    "BEGIN in statement mode: each statement may go to another server connection;"
                    " use pool.mode = 'transaction'"
                )
