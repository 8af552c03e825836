"""A client's connection: from its first byte to its last."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg

from ..keepalive import keep_alive
from ..login.certificates import subject_cn
from ..login.errors import LoginRefused
from ..protocol import backend, frontend, limits
from ..protocol.errors import ProtocolViolation
from ..protocol.frames import Frames
from . import replies
from .conversation import Conversation
from .replication import Replication
from .secure import HANDSHAKE, SecureLine
from .settling import NOTHING
from .startup import Greeting, greeting

if TYPE_CHECKING:
    from ..console.console import Console
    from ..service import Service
    from ..workers.doors import Taken

logger = logging.getLogger("heliosproxy.server")

CHOKED, STANDING = 8, 4
"""Why nothing is read of a client: it does not read what it is sent; it is about to be given to another process."""

MOST_WAITING = 1 << 18
"""Bytes of a client's messages that wait for their turn, before no more is read from it."""


class Link(asyncio.Protocol):
    """One client connection, as asyncio calls it.

    Attributes:
        service: what serves it.
        conversation: its ready phase, a `Conversation` or a `Console`; None before the login is complete.
        relay: the same of a replication client.
        pid, key: what it was given for cancel requests.
        greeting: who it says it is; None before it said so.
        choked: it takes no more data for now.
        peer: its address, for people.
        received: bytes of it since its login.
        since: when it connected, seconds since the epoch.
        address: its address without the port; "" on a Unix socket.
        place: what it takes up of the limits; None before it logs in.
        local: it is on a Unix socket, where nothing is encrypted.
        encrypted: the SSLObject of its line; None = it is not encrypted.
        binding: hash of the certificate it can bind its login to; None = it cannot.
        certificate: common name of its own certificate; None = it has shown none.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.conversation: Any = None
        self.relay: Replication | None = None
        self.greeting: Greeting | None = None
        self.pid = 0
        self.key = b""
        self.choked = False
        self.since = time.time()
        self.received = 0
        self.peer = self.address = ""
        self.place: Taken | None = None
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
        self._early = b""
        self._asleep: asyncio.Future[None] | None = None

    # -- what asyncio calls --------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """The client is connected."""
        self.transport = transport
        self.write = transport.write
        peer = transport.get_extra_info("peername")
        self.local = not isinstance(peer, tuple)
        self.peer = "local"
        if not self.local:
            self.address, self.peer = str(peer[0]), f"{peer[0]}:{peer[1]}"
            with suppress(OSError):  # it has gone meanwhile
                keep_alive(transport.get_extra_info("socket"), self.service.keepalive)
        self.service.arrived(self)
        seconds = self.service.settings.login_timeout
        self._deadline = asyncio.get_running_loop().call_later(seconds, self._too_late)

    @property
    def named(self) -> str:
        """Who it is, for the log."""
        who = self.greeting
        return self.peer if who is None else f"{self.peer}: user {who.user!r}, database {who.database!r}"

    def _too_late(self) -> None:
        logger.info("%s: login timeout", self.named)
        self.refuse(ProtocolViolation("canceling authentication due to timeout", sqlstate="57014"))

    def data_received(self, data: bytes) -> None:
        """Take what it sent."""
        conversation = self.conversation
        if conversation is None:
            self._before_login(data)
            return
        self.received += len(data)
        try:
            if (
                not conversation.inbox
                and not self._frames.middle
                and len(data) > 5
                and (conversation.swiftly(data) or conversation.whole(data))
            ):
                return
            if conversation.inbox is NOTHING:
                conversation.inbox = deque()
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
        if (serving := self.conversation or self.relay) is not None:
            serving.close()
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
        self._hold(CHOKED)

    def resume_writing(self) -> None:
        """It reads on."""
        self.choked = False
        waiting, self._unchoked = self._unchoked, []
        for call in waiting:
            call()
        if self.conversation is not None:
            self.conversation.pump()
        self._go_on(CHOKED)

    def numbers(self) -> dict[str, Any]:
        """What the console says of it."""
        serving, who = self.conversation or self.relay, self.greeting
        return {
            "pid": self.pid,
            "user": "" if who is None else who.user,
            "database": "" if who is None else who.database,
            "address": self.peer,
            "connected": self.since,
            "tls": ""
            if self.encrypted is None
            else f"{self.encrypted.version()}/{self.encrypted.cipher()[0]}",
            **({} if serving is None else serving.numbers()),
        }

    # -- for its conversation ------------------------------------------------------------------------

    def when_unchoked(self, call: Callable[[], None]) -> None:
        """Call *call* as soon as it takes data again."""
        self._unchoked.append(call)

    @property
    def served(self) -> bool:
        """Whether it is let in, and not on the console."""
        return isinstance(self.conversation, Conversation)

    @property
    def quiet(self) -> bool:
        """Whether nothing of it, or for it, is in our hands: neither half a message nor data it has not taken."""
        conversation = self.conversation
        return (
            not self._frames.middle
            and not self._held & ~STANDING
            and not self.choked
            and (conversation is None or not conversation.inbox)
            and not self.transport.is_closing()
            and not self.transport.get_write_buffer_size()
        )

    def stand_still(self, still: bool) -> None:
        """Read nothing more of it for a moment, to give it to another process; or, after all, do."""
        if still:
            self._hold(STANDING)
        else:
            self._go_on(STANDING)

    def take_over(self, who: Greeting, pid: int, key: bytes, since: float) -> None:
        """It comes from another process, which has let it in; until `start` its messages are kept."""
        self.greeting, self.pid, self.key, self.since = who, pid, key, since
        self._task = asyncio.current_task()

    def start(self, conversation: Conversation | Console | Replication) -> None:
        """It is let in: from now on *conversation* takes its messages."""
        self._task = None
        self._no_deadline()
        if isinstance(conversation, Replication):
            self.relay = conversation
        else:
            self.conversation = conversation
        early, self._early = self._early, b""
        if early:
            self.data_received(early)

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
        if (serving := self.conversation or self.relay) is not None:
            serving.close()
        if not self.transport.is_closing():
            self.transport.close()

    def dismiss(self) -> None:
        """The proxy is shutting down: say so, and hang up."""
        server = self.conversation.running if self.served else None
        # Within a message nothing can be said.
        if not self.transport.is_closing() and (server is None or not server.middle):
            self.write(replies.fatal("57P01", "terminating connection due to administrator command"))
        self.close()

    def not_for_long(self, seconds: float) -> None:
        """It was hung up on: if it does not even read that within *seconds*, its socket is closed all the same."""
        asyncio.get_running_loop().call_later(seconds, self.transport.abort)

    def refuse(self, violation: ProtocolViolation) -> None:
        """Say what it did wrong, and hang up."""
        if not self.transport.is_closing():
            self.write(replies.error(violation))
        self.close()

    def _nowhere(self, data: bytes) -> None:
        raise RuntimeError("nothing can be written before a client is connected")

    # -- before the login ----------------------------------------------------------------------------

    def _before_login(self, data: bytes) -> None:
        if self.relay is not None:
            self.relay.forward(data)
            return
        if self._task is not None:
            self._early += data
            if len(self._early) > limits.BEFORE_LOGIN:
                self.refuse(ProtocolViolation("too much data before the login is complete"))
            elif self._asleep is not None and not self._asleep.done():
                self._asleep.set_result(None)
            return
        direct = data[0] == HANDSHAKE and not self._startup and not self._asked and self.encrypted is None
        self._startup += data
        try:
            if direct:
                self._direct()
            else:
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
                self._early, self._startup = self._startup, b""
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
        self.write(b"S")
        self._secure(context, direct=False)

    def _direct(self) -> None:
        """TLS begins with the first byte (``sslnegotiation=direct``)."""
        context, first, self._startup = self.service.tls, self._startup, b""
        if context is None or self.local:
            where = "a Unix socket" if self.local else "a listener without server.tls_cert"
            logger.info("%s began TLS directly, on %s: it was hung up on", self.peer, where)
            self.transport.close()
        else:
            self._secure(context, direct=True).data_received(first)

    def _secure(self, context: ssl.SSLContext, *, direct: bool) -> SecureLine:
        line = SecureLine(self, self.transport, context, direct=direct)
        self.transport, self.write = line, line.write
        return line

    def secured(self, session: ssl.SSLObject) -> None:
        """The handshake is over."""
        self.encrypted = session
        self.binding = self.service.binding
        self.certificate = subject_cn(session)

    async def password(self) -> bytes:
        """The body of the next message, which must be a password, or a SASL message.

        Raises:
            ProtocolViolation: it is another one.
        """
        while True:
            data = self._early
            if data and data[0] != ord("p"):
                raise ProtocolViolation(f"expected password response, got message type {data[0]}")
            if len(data) >= 5:
                size = int.from_bytes(data[1:5], "big")
                if not 4 <= size <= limits.BEFORE_LOGIN:
                    raise ProtocolViolation("invalid message length")
                if len(data) > size:
                    self._early = data[1 + size :]
                    return data[5 : 1 + size]
            self._asleep = asyncio.get_running_loop().create_future()
            await self._asleep

    def _log_refusal(self, who: Greeting, why: Exception) -> None:
        if not self.transport.is_closing():
            logger.info("%s: login refused: %s", self.named, why)

    async def _login(self, who: Greeting) -> None:
        try:
            if self.service.settings.tls_required and self.encrypted is None and not self.local:
                raise ProtocolViolation(
                    "this proxy takes encrypted connections only: connect with sslmode=require",
                    sqlstate="28000",
                )
            if who.minor > 2 or who.unknown:
                self.write(backend.negotiate_protocol_version(frontend.V3 + min(who.minor, 2), who.unknown))
            if who.replication and self.service.proxy.config.pool.mode != "session":
                raise ProtocolViolation(
                    "replication needs a server connection of its own: it works with pool.mode = 'session', or"
                    " without this proxy",
                    sqlstate="0A000",
                )
            conversation = await self.service.admit(self, who)
        except ProtocolViolation as violation:
            self._log_refusal(who, violation)
            self.refuse(violation)
            return
        except LoginRefused as refusal:
            self._log_refusal(who, refusal)
            self.refuse(ProtocolViolation(str(refusal), sqlstate=refusal.sqlstate))
            return
        except (psycopg.Error, OSError) as error:
            self._log_refusal(who, error)
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
        self.start(conversation)
