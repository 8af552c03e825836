"""The commonest batch, read in one walk: [Parse] Bind [Describe] Execute Sync, all of one read, unnamed and whole.

Every driver sends it for a statement with parameters. What it comes to is known without taking each message apart:
the Parse is looked up as it stands, the Bind is forwarded with another statement's name at most, and the rest is
forwarded as it is. Anything else is None, and goes through `plan.of_batch`, which knows everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..protocol import frontend
from ..upstream.known import MOST
from .encode import PROMOTED
from .plan import BIND, PARSE
from .replies import PARSE_COMPLETE
from .statements import Prepared

if TYPE_CHECKING:
    from ..upstream.connection import Upstream
    from ..upstream.exchange import Exchange
    from .settling import Settling

_DESCRIBE = b"D\0\0\0\6P\0"
_EXECUTE = b"E\0\0\0\x09\0\0\0\0\0"
_SYNC = b"S\0\0\0\4"
PLAIN_TAIL = _EXECUTE + _SYNC
DESCRIBED_TAIL = _DESCRIBE + _EXECUTE + _SYNC


Fields = tuple[bytes, int, int, int, Prepared]
"""All of the batch; where the Bind begins (0: there is no Parse), what is behind its statement's name, and what is
behind the Bind; the statement."""


def read(conversation: Settling, data: bytes) -> Fields | None:
    """What *data* is; None where it is anything else than this file is about."""
    bind, size = 0, len(data)
    found: Prepared | None = None
    if data[0] == PARSE:
        bind = 1 + int.from_bytes(data[1:5], "big")
        found = conversation.home.parses.get((data[:bind], conversation.session.settings.reading))
        if found is None:
            return None
    if bind + 12 > size or data[bind] != BIND or data[bind + 5]:
        return None  # no Bind, or one to a portal with a name
    tail = bind + 1 + int.from_bytes(data[bind + 1 : bind + 5], "big")
    end = data[tail:]
    if end != DESCRIBED_TAIL and end != PLAIN_TAIL:
        return None
    rest = data.index(0, bind + 6) + 1
    if not bind:
        found = conversation.statements.get(data[bind + 6 : rest - 1])
        if found is None:
            return None
    elif rest != bind + 7:
        return None  # another statement than the one just parsed
    return data, bind, rest, tail, found  # type: ignore[return-value]  # of a Parse it was found above


def for_server(batch: Fields, server: Upstream, exchange: Exchange) -> bytes:
    """What *server* needs of *batch*; *exchange* is told what of it the client did not ask for."""
    data, bind, rest, tail, prepared = batch
    known = server.prepared
    prepared.uses += 1
    if bind and prepared.uses <= PROMOTED:
        known.unnamed = prepared
        return data
    name = prepared.name
    out: list[bytes] = []
    if name not in known:
        if len(known) >= MOST:
            oldest = known.oldest()
            out.append(frontend.close(ord("S"), oldest))
            known.discard(oldest)
            exchange.ahead += 1
        out.append(frontend.parse_raw(name, prepared.text, prepared.types))
        exchange.naming = name
        exchange.ahead += not bind
    elif bind:
        exchange.prefix = PARSE_COMPLETE
    out.append(frontend.rename_bind(data, bind, tail, rest, name))
    out.append(data[tail:])
    return b"".join(out)
