"""TLS between a client's transport and its link, by OpenSSL over buffers in memory.

asyncio's `start_tls` loses what was read before it (python/cpython 142352, MagicStack/uvloop 707), and direct TLS is
known by its first byte only; and it keeps a buffer of 256 KiB for each connection, which is most of an idle one.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..login.hello import offered_protocols
from ..login.tls import ALPN, spoke_alpn
from ..protocol.errors import ProtocolViolation

if TYPE_CHECKING:
    from .link import Link

logger = logging.getLogger("heliosproxy.server")

HANDSHAKE = 0x16
"""The first byte of TLS. No startup packet begins with it: it would be 369 MB long."""

_RECORD = 1 << 14  # bytes of a record: one read returns no more


class SecureLine(asyncio.Protocol):
    """One client's TLS: the protocol of its *transport*, and the transport of its *link*.

    Attributes:
        session: OpenSSL's side of it.
        direct: it began with the first byte, without an SSLRequest.
    """

    def __init__(self, link: Link, transport: Any, context: ssl.SSLContext, *, direct: bool) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.direct = direct
        self._link = link
        self._transport = transport
        self._received: bytes | None = b""  # of the handshake; None = that is over
        transport.set_protocol(self)

    # -- what asyncio calls --------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take what the client sent, and pass on what it said."""
        self._incoming.write(data)
        try:
            if self._received is not None:
                self._received += data
                self._shake_hands()
            if self._received is None:
                self._read()
        except ssl.SSLError as error:
            logger.info("TLS with %s failed: %s", self._link.peer, error)
            self._send()  # why, as an alert
            self._transport.close()

    def _shake_hands(self) -> None:
        try:
            self.session.do_handshake()
        except ssl.SSLWantReadError:
            self._send()
            return
        self._send()
        received, self._received = self._received or b"", None
        self._link.secured(self.session)
        unwanted = self._unwanted(received)
        if unwanted:
            logger.info("%s: %s", self._link.peer, unwanted)
            self._link.refuse(ProtocolViolation(unwanted))

    def _unwanted(self, received: bytes) -> str:
        """Why it may be that the client speaks another protocol, and was lured here; "" = it does not."""
        if spoke_alpn(self.session):
            return ""
        if self.direct:
            return f'TLS was begun directly, without agreeing to the protocol "{ALPN}" by ALPN'
        offered = offered_protocols(received)
        if not offered:
            return ""
        names = ", ".join(name.decode("ascii", "backslashreplace") for name in offered)
        return f'the protocols offered by ALPN lack "{ALPN}": {names}'

    def _read(self) -> None:
        said: list[bytes] = []
        ended = False
        try:
            # What is left in OpenSSL itself is part of a record; asking for it would cost an exception.
            while self._incoming.pending and not ended:
                said.append(self.session.read(_RECORD))
                ended = not said[-1]
        except ssl.SSLWantReadError:
            pass
        if self._outgoing.pending:  # the client wants new keys
            self._send()
        plain = said[0] if len(said) == 1 else b"".join(said)
        if plain:
            self._link.data_received(plain)
        if ended:
            self.close()

    def _send(self) -> None:
        if self._outgoing.pending and not self._transport.is_closing():
            self._transport.write(self._outgoing.read())

    def eof_received(self) -> bool:
        """It has hung up."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """It is gone."""
        self._link.connection_lost(error)

    def pause_writing(self) -> None:
        """It does not read fast enough."""
        self._link.pause_writing()

    def resume_writing(self) -> None:
        """It reads on."""
        self._link.resume_writing()

    # -- what its link calls -------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send *data*; nothing, before the handshake is over: nobody could read it."""
        if data and self._received is None and not self._transport.is_closing():
            self.session.write(data)
            self._transport.write(self._outgoing.read())

    def close(self) -> None:
        """Hang up, after what was written is sent."""
        if self._received is None and not self._transport.is_closing():
            with suppress(ssl.SSLError):  # it says goodbye, and would wait for the client's
                self.session.unwrap()
            self._send()
        self._transport.close()

    def abort(self) -> None:
        """Hang up at once."""
        self._transport.abort()

    def is_closing(self) -> bool:
        """Whether it was hung up on."""
        return bool(self._transport.is_closing())

    def pause_reading(self) -> None:
        """Read no more of it; what was read already still comes."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        self._transport.resume_reading()
