"""The commonest batch, read in one walk: [Parse] Bind [Describe] Execute Sync, all of one read, unnamed and whole.

Every driver sends it for a statement with parameters. What it comes to is known without taking each message apart:
the Parse is looked up as it stands, the Bind is forwarded with another statement's name at most, and the rest is
forwarded as it is. Anything else is None, and goes through `plan.of_batch`, which knows everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...call import Call
from ...sql.statement import Kind
from ..protocol import frontend
from ..upstream.exchange import Exchange
from ..upstream.known import MOST
from .encode import PROMOTED
from .plan import BIND, Bound, Plan
from .replies import PARSE_COMPLETE
from .statements import Prepared

if TYPE_CHECKING:
    from ..upstream.connection import Upstream
    from .settling import Settling

_DESCRIBE = b"D\0\0\0\6P\0"
_EXECUTE = b"E\0\0\0\x09\0\0\0\0\0"
_SYNC = b"S\0\0\0\4"
_PLAIN_TAIL = _EXECUTE + _SYNC
_DESCRIBED_TAIL = _DESCRIBE + _EXECUTE + _SYNC
_PARSE = ord("P")


class Swift:
    """What a `Plan` of this kind knows beside its call.

    Attributes:
        data: all of it.
        bind, rest, tail: where the Bind begins, what is behind its statement's name, and what is behind the Bind.
        prepared: the statement.
        parsed: it begins with a Parse.
    """

    __slots__ = ("bind", "data", "parsed", "prepared", "rest", "tail")

    def __init__(
        self, data: bytes, bind: int, rest: int, tail: int, prepared: Prepared, parsed: bool
    ) -> None:
        self.data = data
        self.bind = bind
        self.rest = rest
        self.tail = tail
        self.prepared = prepared
        self.parsed = parsed


def plan(conversation: Settling, data: bytes) -> Plan | None:
    """The plan of *data*; None where it is anything else than this file is about."""
    bind, size = 0, len(data)
    found: Prepared | None
    if data[0] == _PARSE:
        bind = 1 + int.from_bytes(data[1:5], "big")
        found = conversation.home.parses.get((data[:bind], conversation.path))
        if found is None:
            return None
    if bind + 12 > size or data[bind] != BIND or data[bind + 5]:
        return None  # no Bind, or one to a portal with a name
    tail = bind + 1 + int.from_bytes(data[bind + 1 : bind + 5], "big")
    end = data[tail:]
    if end != _DESCRIBED_TAIL and end != _PLAIN_TAIL:
        return None
    rest = data.index(0, bind + 6) + 1
    if not bind:
        found = conversation.statements.get(data[bind + 6 : rest - 1])
    elif rest != bind + 7:
        return None  # another statement than the one just parsed
    if found is None:
        return None
    made = Plan(True)
    made.swift = Swift(data, bind, rest, tail, found, bind > 0)
    call = Call(found.text)
    known = found.known
    call.statement, call.quiet = known.statement, known.quiet
    call.bound = Bound((BIND, data, bind, tail))
    if known.statement.kind is Kind.SELECT and conversation.session.path.lookup:
        call.raw = ("B", found.text, found.types, data[rest:tail], end == _DESCRIBED_TAIL)
    else:
        call.raw = ()
    made.calls.append(call)
    return made


def send(swift: Swift, server: Upstream, exchange: Exchange, out: list[bytes]) -> None:
    """Add to *out* what *server* needs of *swift*."""
    prepared, known = swift.prepared, server.prepared
    prepared.uses += 1
    if swift.parsed and prepared.uses <= PROMOTED:
        known.unnamed = prepared
        out.append(swift.data)
        return
    if prepared.name not in known:
        if len(known) >= MOST:
            oldest = known.oldest()
            out.append(frontend.close(ord("S"), oldest))
            known.discard(oldest)
            exchange.ahead += 1
        out.append(frontend.parse_raw(prepared.name, prepared.text, prepared.types))
        exchange.naming = prepared.name
        exchange.ahead += not swift.parsed
    elif swift.parsed:
        exchange.prefix = PARSE_COMPLETE
    data = swift.data
    out.append(frontend.rename_bind(data, swift.bind, swift.tail, swift.rest, prepared.name))
    out.append(data[swift.tail :])
