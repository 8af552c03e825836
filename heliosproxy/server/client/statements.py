"""What a client has prepared, and under which name a server knows it.

A client's names mean something to that client alone, and one server connection serves many: so a statement is
prepared on a server under a name made of its content, text and parameter types, which every client that prepares
the same then shares. A server connection that lacks it gets a Parse ahead of its Bind, in the same flight.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from ..upstream.known import PREFIX

if TYPE_CHECKING:
    from ..home import Known


OURS = re.compile(PREFIX + b"[0-9a-f]{32}")
"""The name of a statement on a server."""


class Prepared:
    """A prepared statement.

    Attributes:
        text: the SQL, as the client's Parse has it.
        types: the part of the Parse behind the text: number and OIDs of its parameter types.
        known: what is known of the text.
        name: under which a server knows it.
        uses: how often it was bound while it was unnamed.
        columns: of its result as a server described it last, and the `ddl_epoch` of that server.
    """

    __slots__ = ("columns", "known", "name", "text", "types", "uses")

    def __init__(self, text: bytes, types: bytes, reading: str, known: Known) -> None:
        self.text = text
        self.types = types
        self.known = known
        self.uses = 0
        self.columns = (-1, b"")
        # What its names and constants mean, and so the columns of its result, depends on settings.
        content = b"\0".join((text, types, reading.encode(errors="surrogateescape")))
        # 128 bits: whoever finds two texts with one name can only confuse statements of his own database user.
        self.name = PREFIX + hashlib.blake2b(content, digest_size=16).hexdigest().encode()


class Portal:
    """A bound statement.

    Attributes:
        prepared: the statement; None when the client bound one that it has not prepared.
        frame: the Bind.
        executed: it was executed: what follows are its next rows.
    """

    __slots__ = ("executed", "frame", "prepared")

    def __init__(self, prepared: Prepared | None, frame: tuple[int, bytes, int, int]) -> None:
        self.prepared = prepared
        self.frame = frame
        self.executed = False
