"""Settings that the text of a statement does not name: a function or a trigger has changed them.

Of some a server reports what they are (PostgreSQL, 55.2.7), most of those by which it reads texts among them. The rest
stays hidden: the server connection is cleaned before another uses it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..sql.setting import as_set, folded, quote_literal
from ..sql.statement import Kind, Setting, Statement
from . import consequences
from .settings import READING

if TYPE_CHECKING:
    from ..call import Call
    from .memory import Memory


def come_to_light(
    session: Memory, calls: Sequence[Call], reported: Mapping[bytes, bytes], *, in_transaction: bool
) -> bool:
    """Record what *reported* says of settings that none of *calls*, answered without error, has changed.

    They count until the transaction ends, as the server connection is another's then; for who keeps it, they stay.

    Returns:
        Whether there was anything.
    """
    statements = [
        part for call in calls if call.statement for part in call.statement.parts or (call.statement,)
    ]
    told = {folded(name.decode()): value for name, value in reported.items()}
    hidden = [name for name in told if name in READING]
    if not hidden or any(_accounts(session, statement, hidden) for statement in statements):
        return False
    session.server.tainted = True
    if in_transaction or session.pins:
        for name in hidden:
            value = told[name].decode(session.encoding, "replace")
            text, known = as_set(name, value)
            change = Setting(name, text if known else quote_literal(value), not session.pins)
            session.settings.apply(change, in_transaction=in_transaction)
        session.carried()
    return True


def _accounts(session: Memory, statement: Statement, names: Sequence[str]) -> bool:
    """Whether *statement* says by itself that one of the settings *names* becomes another."""
    if statement.kind is Kind.DISCARD:
        return True
    if consequences.returns(statement):
        return not session.server.tainted
    return any(
        not isinstance(each.name, str) or each.name == "*" or each.name in names
        for each in statement.settings
    )
