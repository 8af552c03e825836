"""What one client hears of the listening connection, and when.

PostgreSQL sends notifications between transactions only; so do we, and never within an answer. What the client does
is seen by what is written to it: after each message there is a moment to look whether it rests. So clients without
ears do not even pay for a question.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ...state.channels import NONE, Channels, Notice
from ...state.transaction import Status
from ..client import replies
from .audience import Held

if TYPE_CHECKING:
    from ..client.settling import Settling
    from .listener import Listener

FOREIGN = 1 << 30
"""Added to a server's process number that is by chance the client's own: no process has such a number."""


class Ears:
    """What *conversation* hears; from its first LISTEN until it listens to nothing any more."""

    def __init__(self, conversation: Settling, listener: Listener) -> None:
        session = conversation.session
        self._conversation = conversation
        self._listener = listener
        self._held = Held()
        self._settled = NONE
        self._reached = False  # for a channel, and nobody knows yet what becomes of that
        self._missed = False
        self._patient = False  # until the client takes data again
        self._channels = session.channels = Channels(session.settings.savepoints.names)
        conversation.ears = self
        conversation.write = self.write

    def reach(self, channel: bytes) -> asyncio.Future[bool]:
        """Hear *channel* from now on, if only to hold it until its LISTEN is certain."""
        self._reached = True
        return self._listener.reach(self, channel)

    def write(self, data: bytes) -> None:
        """Write *data* to the client, and what waits for it if it rests then.

        What it has sent itself it hears before the ReadyForQuery behind its NOTIFY or COMMIT, as from PostgreSQL.
        """
        link = self._conversation.link
        if data[-6:] == _READY and (fresh := self._channels.fresh()):
            try:
                data = data[:-6] + b"".join([self._own(notice) for notice in fresh]) + _READY
            except UnicodeError:
                link.write(data[:-6] + _UNTRANSLATABLE)
                link.close()
                return
        link.write(data)
        self.attend()

    def attend(self) -> None:
        """The client may rest now."""
        if (
            self._held
            or self._reached
            or self._missed
            or self._held.full
            or self._channels.now is not self._settled
        ) and self._conversation.rests:
            self._catch_up()

    def hears(self, message: bytes) -> bool:
        """Whether the client hears of *message*, a NotificationResponse, by the listening connection anyway."""
        return message[9 : message.index(0, 9)] in self._channels.active

    def hear(self, message: bytes) -> None:
        """A notification of a channel that was reached for."""
        self._held.put(message)
        if self._conversation.rests:
            self._catch_up()
        elif self._conversation.choked:
            self._wait()

    def lost(self) -> None:
        """The listening connection was lost."""
        if self._channels.now or self._channels.active:
            self._missed = True
            self.attend()

    def close(self) -> None:
        """The client hears nothing any more."""
        conversation = self._conversation
        conversation.ears = conversation.session.channels = None
        conversation.write = conversation.link.write
        self._listener.keep(self, ())

    def _wait(self) -> None:
        if self._held.full:
            self._conversation.link.transport.abort()  # it does not read, so it cannot be told
        elif not self._patient:
            self._patient = True
            self._conversation.when_unchoked(self._unchoked)

    def _unchoked(self) -> None:
        self._patient = False
        if self._conversation.ears is self:
            self.attend()

    def _catch_up(self) -> None:
        """Between transactions: what they changed counts, and what was heard meanwhile is told."""
        link = self._conversation.link
        if self._missed or self._held.full:
            # PostgreSQL loses none while a connection lives: so this one may not live on as if nothing was.
            link.write(_FULL if self._held.full else _LOST)
            link.close()
            return
        channels = self._channels.now
        self._settled, self._reached = channels, False
        self._listener.keep(self, channels)
        try:
            told = [self._told(message) for message in self._held.take()]
        except UnicodeError:
            link.write(_UNTRANSLATABLE)
            link.close()
            return
        if any(told):
            link.write(b"".join(told))
        if not channels:
            self.close()

    def _told(self, message: bytes) -> bytes:
        """*message* as the client is told it; b"" where it listens to something else now."""
        channel, payload, _ = message[9:].split(b"\0")
        if channel not in self._channels.now:
            return b""
        pid, own = int.from_bytes(message[5:9], "big"), self._conversation.pid
        if self._channels.is_own(Notice(pid, channel, payload)):
            return b""  # it was told at once
        if pid == own:
            pid += FOREIGN
        return self._message(pid, message[9:])

    def _own(self, notice: Notice) -> bytes:
        return self._message(self._conversation.pid, notice.channel + b"\0" + notice.payload + b"\0")

    def _message(self, pid: int, body: bytes) -> bytes:
        encoding = self._conversation.encoding
        if encoding not in ("utf-8", "ascii"):  # "ascii" is SQL_ASCII, for which nothing is converted
            body = body.decode().encode(encoding)
        return b"A" + (len(body) + 8).to_bytes(4, "big") + pid.to_bytes(4, "big") + body


def usable(conversation: Settling) -> bool:
    """Whether channels and notifications are in UTF-8 on both sides, where a LISTEN is to be shared."""
    named = conversation.session.settings.values.get("client_encoding", "'utf8'")
    return (
        conversation.encoding == "utf-8"
        and named.strip("'\" ").lower().replace("-", "").replace("_", "") in ("utf8", "unicode")
        and conversation.home.reported.get(b"client_encoding") == b"UTF8"
        and conversation.session.tx.status in (Status.IDLE, Status.PROMISED, Status.OPEN)
    )


_READY = b"Z\0\0\0\5I"
_LOST = replies.fatal("57P01", "the listening connection was lost; notifications may have been missed")
_FULL = replies.fatal("54000", "too many notifications wait for the end of a transaction; some are lost")
_UNTRANSLATABLE = replies.fatal("22P05", "a notification has no equivalent in the client_encoding")
