"""A client whose time is limited: what it does when it is looked at, and since when."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..protocol.errors import ProtocolViolation
from . import replies
from .link import Link

if TYPE_CHECKING:
    from ...config.features import Server
    from ..service import Service
    from ..upstream.connection import Upstream
    from ..upstream.exchange import Exchange
    from .conversation import Conversation

logger = logging.getLogger("heliosproxy.server")

GRACE = 5.0
"""Seconds for a server to answer a statement that was cancelled, and for a client to read that it was hung up on."""

_IDLE, _IN_TRANSACTION, _WAITING = "idle", "idle in transaction", "waiting"


class TimedLink(Link):
    """A client connection that is looked at from time to time."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._stirred = False  # something has come of it since the last look
        self._seen: object = None  # what it did then: one of the words above, or an exchange
        self._since = 0.0  # the first look that found it so
        self._cancelled = 0.0  # when the exchange was cancelled; 0 = it was not

    def data_received(self, data: bytes) -> None:
        """Take what it sent."""
        self._stirred = True
        super().data_received(data)

    def look(self, now: float) -> None:
        """End what takes too long; *now* is the loop's time."""
        conversation = self.conversation
        if not self.served or self.transport.is_closing():
            return
        stirred, self._stirred = self._stirred, False
        exchange = conversation.worked_on
        doing: object = exchange if exchange is not None else _state(conversation)
        # A client goes on with a batch without Sync as it goes on with a transaction: each part has its time.
        fresh = stirred and (exchange is None or not exchange.synced)
        if doing != self._seen or fresh:
            self._seen, self._since, self._cancelled = doing, now, 0.0
            conversation.hasten()
        elif exchange is not None:
            self._working(exchange, conversation, now)
        else:
            self._resting(now - self._since)

    def _resting(self, seconds: float) -> None:
        settings: Server = self.service.settings
        if self._seen == _IDLE and 0 < settings.idle_timeout <= seconds:
            self._hang_up("idle-session", "57P05")
        elif self._seen == _IN_TRANSACTION and 0 < settings.idle_transaction_timeout <= seconds:
            self._hang_up("idle-in-transaction", "25P03")

    def _hang_up(self, which: str, sqlstate: str) -> None:
        logger.info("%s: %s timeout", self.named, which)
        self.refuse(ProtocolViolation(f"terminating connection due to {which} timeout", sqlstate=sqlstate))
        self.not_for_long(GRACE)

    def _working(self, exchange: Exchange, conversation: Conversation, now: float) -> None:
        limit: float = self.service.settings.query_timeout
        server = conversation.running
        if not limit or server is None or now - self._since < limit:
            return
        if not self._cancelled:
            self._cancelled = now
            logger.info("%s: canceling statement due to query_timeout (%g s)", self.named, limit)
            exchange.overdue = replies.overdue("canceling statement due to query_timeout of the proxy")
            self.service.cancel_on(server)
        elif now - self._cancelled >= GRACE:
            self._give_up(server)

    def _give_up(self, server: Upstream) -> None:
        logger.warning(
            "%s: server %s did not answer a cancel request within %g seconds: its connection is closed",
            self.named,
            server.address,
            GRACE,
        )
        server.final = replies.overdue(
            f"query_timeout of the proxy: the server did not answer a cancel request within {GRACE:g} seconds,"
            " and its connection was closed"
        )
        server.transport.abort()


def _state(conversation: Conversation) -> str:
    if not conversation.idle:
        return _WAITING
    return _IN_TRANSACTION if conversation.in_transaction else _IDLE


def client_of(service: Service) -> Link:
    """A client connection; looked at only where a time-out is configured."""
    return TimedLink(service) if service.timeouts.shortest else Link(service)
