"""A client's connection: from its first byte to its last."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import psycopg

from ..login.certificates import subject_cn
from ..login.errors import LoginRefused
from ..protocol import backend, frontend, limits
from ..protocol.errors import ProtocolViolation
from ..protocol.frames import Frames
from . import replies
from .conversation import Conversation
from .startup import Greeting, greeting

if TYPE_CHECKING:
    from ..service import Service

logger = logging.getLogger("heliosproxy.server")

LOGIN = HANDSHAKE = 60.0
"""Seconds for a whole login, and for TLS in it: PostgreSQL's default authentication_timeout."""

MOST_WAITING = 1 << 18
"""Bytes of a client's messages that wait for their turn, before no more is read from it."""


class Link(asyncio.Protocol):
    """One client connection, as asyncio calls it.

    Attributes:
        service: what serves it.
        conversation: its ready phase; None before the login is complete.
        pid, key: what it was given for cancel requests.
        greeting: who it says it is; None before it said so.
        choked: it takes no more data for now.
        peer: its address, for people.
        local: it is on a Unix socket, where nothing is encrypted.
        encrypted: the SSLObject of its line; None = it is not encrypted.
        binding: hash of the certificate it can bind its login to; None = it cannot.
        certificate: common name of its own certificate; None = it has shown none.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.conversation: Conversation | None = None
        self.greeting: Greeting | None = None
        self.pid = 0
        self.key = b""
        self.choked = False
        self.peer = ""
        self.local = False
        self.encrypted: Any = None
        self.binding: bytes | None = None
        self.certificate: str | None = None
        self.transport: Any = None
        self.write: Callable[[bytes], None] = self._nowhere
        self._frames = Frames(backend=False)
        self._startup = b""
        self._waiting = 0
        self._held = 0
        self._unchoked: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None
        self._asked = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._early: list[bytes] = []
        self._asleep: asyncio.Future[None] | None = None

    # -- what asyncio calls --------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """The client is connected."""
        self.transport = transport
        self.write = transport.write
        peer = transport.get_extra_info("peername")
        self.local = not isinstance(peer, tuple)
        self.peer = "local" if self.local else f"{peer[0]}:{peer[1]}"
        self.service.arrived(self)
        self._deadline = asyncio.get_running_loop().call_later(LOGIN, self._too_late)

    def _too_late(self) -> None:
        self.refuse(ProtocolViolation("canceling authentication due to timeout", sqlstate="57014"))

    def data_received(self, data: bytes) -> None:
        """Take what it sent."""
        conversation = self.conversation
        if conversation is None:
            self._before_login(data)
            return
        try:
            if (
                len(data) > 5
                and not conversation.inbox
                and not self._frames.middle
                and conversation.swiftly(data)
            ):
                return
            conversation.inbox.extend(self._frames.feed(data))
            conversation.pump()
        except ProtocolViolation as violation:
            self.refuse(violation)
            return
        except Exception:  # a mistake of ours: nobody may wait for what will not come
            logger.exception("serving %s failed", self.peer)
            self.refuse(ProtocolViolation("internal error: see the log of the proxy", sqlstate="XX000"))
            return
        if conversation.inbox:
            self._waiting += len(data)
            if self._waiting > MOST_WAITING:
                self._hold(1)

    def eof_received(self) -> bool:
        """It has hung up; whatever it asked for nobody wants any more."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """It is gone."""
        self._no_deadline()
        if self._task is not None:
            self._task.cancel()
        if self.conversation is not None:
            self.conversation.close()
        self.service.left(self)
        for call in self._unchoked:
            call()
        self._unchoked = []

    def _no_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def pause_writing(self) -> None:
        """It does not read fast enough."""
        self.choked = True

    def resume_writing(self) -> None:
        """It reads on."""
        self.choked = False
        waiting, self._unchoked = self._unchoked, []
        for call in waiting:
            call()

    # -- for its conversation ------------------------------------------------------------------------

    def when_unchoked(self, call: Callable[[], None]) -> None:
        """Call *call* as soon as it takes data again."""
        self._unchoked.append(call)

    def hold_reading(self, hold: bool) -> None:
        """Read no more of it as long as the server takes no more."""
        if hold:
            self._hold(2)
        else:
            self._go_on(2)

    def drained(self) -> None:
        """Nothing of it waits any more."""
        if self._waiting:
            self._waiting = 0
            if self._held:
                self._go_on(1)

    def _hold(self, why: int) -> None:
        if not self._held:
            self.transport.pause_reading()
        self._held |= why

    def _go_on(self, why: int) -> None:
        before, self._held = self._held, self._held & ~why
        if before and not self._held and not self.transport.is_closing():
            self.transport.resume_reading()

    def close(self) -> None:
        """Hang up, after what was written is sent."""
        if self.conversation is not None:
            self.conversation.close()
        if not self.transport.is_closing():
            self.transport.close()

    def dismiss(self) -> None:
        """The proxy is shutting down: say so, and hang up."""
        if not self.transport.is_closing():
            self.write(replies.fatal("57P01", "terminating connection due to administrator command"))
        self.close()

    def refuse(self, violation: ProtocolViolation) -> None:
        """Say what it did wrong, and hang up."""
        if not self.transport.is_closing():
            self.write(replies.error(violation))
        self.close()

    def _nowhere(self, data: bytes) -> None:
        raise RuntimeError("nothing can be written before a client is connected")

    # -- before the login ----------------------------------------------------------------------------

    def _before_login(self, data: bytes) -> None:
        if self._task is not None:
            self._early.append(data)
            if sum(map(len, self._early)) > limits.BEFORE_LOGIN:
                self.refuse(ProtocolViolation("too much data before the login is complete"))
            elif self._asleep is not None and not self._asleep.done():
                self._asleep.set_result(None)
            return
        self._startup += data
        try:
            self._packets()
        except ProtocolViolation as violation:
            self.refuse(violation)
        except Exception:  # a mistake of ours: nobody may wait for what will not come
            logger.exception("the startup packet of %s could not be handled", self.peer)
            self.refuse(ProtocolViolation("internal error: see the log of the proxy", sqlstate="XX000"))

    def _packets(self) -> None:
        while len(self._startup) >= 8 and self._task is None and not self.transport.is_closing():
            size = int.from_bytes(self._startup[:4], "big")
            if not 8 <= size <= limits.STARTUP:
                raise ProtocolViolation("invalid length of startup packet")
            if len(self._startup) < size:
                return
            body, self._startup = self._startup[4:size], self._startup[size:]
            code = int.from_bytes(body[:4], "big")
            if code in (frontend.SSL_REQUEST, frontend.GSSENC_REQUEST):
                self._encryption(code)
            elif code == frontend.CANCEL_REQUEST:
                pid, key = frontend.parse_cancel(body)
                self.service.cancel(pid, key, self.transport.close)
            else:
                startup = frontend.parse_startup(body)
                self.greeting = greeting(startup.version[1], startup.parameters)
                if self._startup:
                    self._early.append(self._startup)
                self._startup = b""
                self._task = asyncio.get_running_loop().create_task(self._login(self.greeting))

    def _encryption(self, code: int) -> None:
        if self._asked & (1 << (code & 1)) or self.encrypted is not None:
            raise ProtocolViolation("encryption was asked for before")
        self._asked |= 1 << (code & 1)
        if self._startup:
            raise ProtocolViolation("received unencrypted data after SSL request")
        context = self.service.tls
        if code == frontend.GSSENC_REQUEST or context is None or self.local:
            self.write(b"N")
            return
        self.transport.pause_reading()
        self.write(b"S")
        self._task = asyncio.get_running_loop().create_task(self._shake_hands(context))

    async def _shake_hands(self, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        try:
            transport: Any = await loop.start_tls(
                self.transport, self, context, server_side=True, ssl_handshake_timeout=HANDSHAKE
            )
        except (OSError, ssl.SSLError) as error:
            logger.info("TLS with %s failed: %s", self.peer, error)
            self.transport.abort()
            return
        finally:
            self._task = None
        self.transport, self.write = transport, transport.write
        self.encrypted = transport.get_extra_info("ssl_object")
        self.binding = self.service.binding
        self.certificate = subject_cn(self.encrypted)
        early, self._early = b"".join(self._early), []
        if early:
            self._before_login(early)

    async def password(self) -> bytes:
        """The body of the next message, which must be a password, or a SASL message.

        Raises:
            ProtocolViolation: it is another one.
        """
        while True:
            data = b"".join(self._early)
            if data and data[0] != ord("p"):
                raise ProtocolViolation(f"expected password response, got message type {data[0]}")
            if len(data) >= 5:
                size = int.from_bytes(data[1:5], "big")
                if not 4 <= size <= limits.BEFORE_LOGIN:
                    raise ProtocolViolation("invalid message length")
                if len(data) > size:
                    self._early = [data[1 + size :]] if len(data) > 1 + size else []
                    return data[5 : 1 + size]
            self._asleep = asyncio.get_running_loop().create_future()
            await self._asleep

    async def _login(self, who: Greeting) -> None:
        try:
            if self.service.settings.tls_required and self.encrypted is None and not self.local:
                raise ProtocolViolation(
                    "this proxy takes encrypted connections only: connect with sslmode=require",
                    sqlstate="28000",
                )
            if who.minor > 2 or who.unknown:
                self.write(backend.negotiate_protocol_version(frontend.V3 + min(who.minor, 2), who.unknown))
            if who.replication:
                raise ProtocolViolation(
                    "replication connections are not supported by this version: connect to the server itself",
                    sqlstate="0A000",
                )
            conversation = await self.service.admit(self, who)
        except ProtocolViolation as violation:
            self.refuse(violation)
            return
        except LoginRefused as refusal:
            self.refuse(ProtocolViolation(str(refusal), sqlstate=refusal.sqlstate))
            return
        except (psycopg.Error, OSError) as error:
            if not self.transport.is_closing():
                self.write(replies.of_exception(error, "FATAL"))
            self.close()
            return
        except Exception:
            logger.exception("the login of %s failed", self.peer)
            self.refuse(ProtocolViolation("internal error while logging in: see the log", sqlstate="XX000"))
            return
        finally:
            self._task = None
        if self.transport.is_closing():
            conversation.close()
            return
        self._no_deadline()
        self.conversation = conversation
        early, self._early = b"".join(self._early), []
        if early:
            self.data_received(early)
