"""A real server connection, spoken to by our own codec: what the pool holds, and what asyncio calls.

Whoever leases it (`holder`) appends an `Exchange` for everything it sends that ends in ReadyForQuery. Replies are
forwarded as they come, in slices of what was read; nothing is collected but what a script or the cache wants.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
from psycopg._encodings import pg2pyenc

from ...pool.server import Server
from ...state.settings import EMPTY, Values
from ..protocol import backend, frontend
from ..protocol.errors import ProtocolViolation
from ..protocol.frames import Frames, Piece, whole_reply
from .exchange import UNIT_ENDS, Exchange, Insert, Unit
from .known import PREFIX, Known

logger = logging.getLogger("heliosproxy.server")

READY, ERROR, NOTICE, PARAMETER, NOTIFICATION = b"ZENSA"
COPY_IN, COPY_BOTH, COMPLETE, PARSED = b"GWC1"
_UNASKED = frozenset((NOTICE, PARAMETER, NOTIFICATION))
IDLE = ord("I")
FAILED = ord("E")


def python_encoding(name: bytes) -> str:
    """Python's name of a client_encoding; UTF-8 for one that Python lacks, whose texts are then seen as not UTF-8."""
    try:
        return pg2pyenc(name)
    except psycopg.NotSupportedError:
        return "utf-8"


class Upstream(Server):
    """One server connection of the wire face. Made when its login is complete.

    Attributes:
        holder: the conversation that leases it; None while it is idle.
        exchanges: what is on its way, the oldest first.
        prepared: the statements that it knows by names of ours.
        reported: its ParameterStatus, by name.
        status: transaction status after the last exchange: I, T or E.
        backend_pid, secret: for cancel requests.
        settings, tainted, streamed, last, parameters: as `heliosproxy.drivers.pgserver.PGServer` has them.
        partial: what was sent last ends within a message.
        final: the ErrorResponse with which it ended; b"" = it gave none.
    """

    names_recur = True  # they are made of the text

    __slots__ = (
        "_frames",
        "_held",
        "_loop",
        "_paused",
        "address",
        "backend_pid",
        "cancels",
        "closed",
        "exchanges",
        "final",
        "gone",
        "holder",
        "last",
        "parameters",
        "parted",
        "partial",
        "prepared",
        "reported",
        "secret",
        "settings",
        "status",
        "streamed",
        "tainted",
        "transport",
    )

    def __init__(
        self,
        transport: Any,
        reported: dict[bytes, bytes],
        pid: int,
        secret: bytes,
        address: Any,
        closed: Callable[[Upstream], None],
    ) -> None:
        super().__init__()
        self.transport = transport
        self.reported = reported
        self.backend_pid = pid
        self.secret = secret
        self.address = address
        self.closed = closed
        self.holder: Any = None
        self.exchanges: deque[Exchange] = deque()
        self.prepared = Known()
        self.settings: Values = EMPTY
        self.tainted = self.streamed = False
        self.last: object = None
        self.parameters: Any = None
        self.status = IDLE
        self.final = b""
        self.gone = False
        self.cancels = 0
        self.parted = False
        self.partial = False
        self._frames = Frames(backend=True)
        self._paused = False
        self._held: Any = None  # whose messages it takes no more of for now
        self._loop = asyncio.get_running_loop()

    # -- for the pool --------------------------------------------------------------------------------

    def alive(self) -> bool:
        return not self.gone and not self.transport.is_closing()

    def close(self) -> None:
        # Any thread may ask for it: one that gives its own server connection back, or closes the Proxy.
        if asyncio._get_running_loop() is self._loop:
            self._close()
        else:
            with suppress(RuntimeError):  # the loop is closed, and the socket with it
                self._loop.call_soon_threadsafe(self._close)

    def _close(self) -> None:
        if not self.gone:
            self.transport.write(frontend.TERMINATE)
            self.transport.close()

    def orphan(self) -> None:
        self.gone = True

    def numbers(self) -> dict[str, Any]:
        """What the console says of it."""
        key, holder = self.pool.key, self.holder
        return {
            "pid": self.backend_pid,
            "user": key.user,
            "database": key.database,
            "node": key.node,
            "state": "active" if self.leased else "idle",
            "address": str(self.address),
            "age": time.monotonic() - self.created_at,
            "uses": self.uses,
            "client": 0 if holder is None else holder.pid,
            "prepared": len(self.prepared),
            "tls": self.transport.get_extra_info("ssl_object") is not None,
        }

    def keep(self) -> None:
        """A cancel request is under way: the connection is not given to anybody else until `unkeep`."""
        self.cancels += 1

    def unkeep(self) -> None:
        """It is delivered, or given up."""
        self.cancels -= 1
        if not self.cancels and self.parted:
            self.parted = False
            self.part()

    def part(self) -> None:
        """Back to the pool, or out of it where it is in no state for that; once no cancel request is under way."""
        self.holder = None
        if self.cancels and self.alive():
            self.parted = True
        elif self.clean():
            self.pool.release(self)
        else:
            self.resume_writing()  # what it has not taken yet nobody waits for
            self.pool.discard(self)

    # -- for the session -----------------------------------------------------------------------------

    def failed(self) -> bool:
        """Whether it is in a failed transaction."""
        return self.status == FAILED

    def clean(self) -> bool:
        """Whether it may go back to the pool as it is: no transaction, no reply outstanding."""
        # One that has not taken all of a COPY whose failure it has reported would not take the next client's, either.
        idle = self.status == IDLE and not self.exchanges and not self.partial and self._held is None
        return idle and self.alive()

    def forget_prepared(self) -> list[bytes]:
        """What was prepared is gone, or stale. Returns the names there were."""
        return self.prepared.clear()

    def forget(self) -> None:
        """After DISCARD ALL."""
        self.prepared.clear()
        self.settings = EMPTY
        self.tainted = False
        self.signature = None
        self.last = None

    def ask(self, text: bytes, done: Callable[[Exchange], None]) -> bytes:
        """A Query of our own, to be sent now; *done* is called at its end, and nobody gets its replies."""
        self.exchanges.append(Exchange(None, done))
        self.prepared.unnamed = None  # a Query takes it away
        return frontend.query(text)

    def send(self, data: bytes) -> None:
        """Send *data*; what it is answered with must be in `exchanges`."""
        self.transport.write(data)

    # -- what asyncio calls --------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take replies apart, and pass them on."""
        try:
            exchanges = self.exchanges
            if exchanges and not self._frames.middle:
                exchange = exchanges[0]
                if exchange.script is None and not exchange.ahead and exchange.client is not None:
                    tag = whole_reply(data)
                    if tag:
                        if exchange.passing and data[-1] == self.status:
                            exchange.land(self, data)
                        else:
                            self._whole(exchange, data, tag)
                        return
            self._take(self._frames.feed(data))
        except ProtocolViolation as violation:
            logger.error("server %s broke the protocol: %s", self.address, violation)
            self.transport.abort()
        except Exception:  # a mistake of ours: nobody may wait for what will not come
            logger.exception("a reply of server %s could not be handled", self.address)
            self.transport.abort()

    def _whole(self, exchange: Exchange, data: bytes, tag: int) -> None:
        """What `_take` comes to for *data* that is all of a reply, its last tag beginning at *tag*."""
        self.status = exchange.status = data[-1]
        exchange.tag = data[tag : data.index(0, tag)]
        if exchange.naming:
            self.prepared.add(exchange.naming)
        self.exchanges.popleft()
        client = exchange.client
        if exchange.tee is not None:
            exchange.keep(data[:-6])
        exchange.end()
        exchange.tee = None
        if exchange.prefix:
            data = exchange.prefix + data
        client.home.sent += len(data)
        client.write(data)
        if client.inbox:
            client.pump()
        else:
            client.rested()

    def _take(self, pieces: list[Piece]) -> None:
        out: list[tuple[bytes, int, int]] = []
        exchanges = self.exchanges
        for kind, buffer, start, end in pieces:
            exchange = exchanges[0] if exchanges else None
            if kind in _UNASKED:
                forward = self._unasked(kind, buffer, start, end, exchange)
                client = exchange.client if exchange is not None else self.holder
                if kind == NOTIFICATION and client is not None:
                    buffer = self._notification(buffer[start:end], client.pid)
                    start, end = 0, len(buffer)
                    forward = client.ears is None or not client.ears.hears(buffer)
            elif exchange is None:
                if kind == ERROR:
                    self.final = buffer[start:end]
                continue
            elif kind == READY:
                self._ready(exchange, buffer, start, end, out)
                out = []
                continue
            else:
                client = exchange.client
                forward = self._reply(exchange, kind, buffer, start, end, out)
            if forward and client is not None:
                if out and out[-1][0] is buffer and out[-1][2] == start:
                    out[-1] = (buffer, out[-1][1], end)
                else:
                    out.append((buffer, start, end))
                if exchange is None:
                    self._flush(client, None, out)
                    out = []
            if exchange is not None and exchange.script:
                self._inserts(exchange, out)
        if out:
            exchange = exchanges[0]
            self._flush(exchange.client, exchange, out)
            if not exchange.synced and exchange.client is not None and exchange.client.inbox:
                exchange.client.pump()

    def _unasked(self, kind: int, buffer: bytes, start: int, end: int, exchange: Exchange | None) -> bool:
        """Whether a message that answers nothing is for whoever uses this connection now."""
        if kind == PARAMETER:
            name, value = backend.parse_parameter_status(buffer, start, end)
            self.reported[name] = value
            if exchange is not None:
                exchange.reported = {**(exchange.reported or {}), name: value}
            if name == b"client_encoding" and self.holder is not None:
                self.holder.encoding = python_encoding(value)
        if exchange is not None:
            exchange.tee = None  # no part of the answer, so the answer is not kept
        # What our own commands cause is not the client's affair, except what others have told it.
        return kind == NOTIFICATION or exchange is None or exchange.client is not None

    def _notification(self, message: bytes, pid: int) -> bytes:
        """*message* as it is told a client that knows its own server process by number *pid*."""
        if int.from_bytes(message[5:9], "big") != self.backend_pid:
            return message
        return message[:5] + pid.to_bytes(4, "big") + message[9:]

    def _reply(
        self,
        exchange: Exchange,
        kind: int,
        buffer: bytes,
        start: int,
        end: int,
        out: list[tuple[bytes, int, int]],
    ) -> bool:
        """Whether a message of a reply is forwarded."""
        if kind == ERROR:
            if backend.ends(buffer[start:end]):
                # Its last words: the client hears of them when the connection is gone, and by then lives on.
                self.final = buffer[start:end]
                return False
            refusal = exchange.refusal if not exchange.script else b""
            if exchange.overdue and backend.parse_error(buffer[start:end]).get("C") == "57014":
                refusal = exchange.overdue
            elif not refusal and PREFIX in buffer[start:end] and exchange.client is not None:
                refusal = exchange.client.in_its_words(buffer[start:end])
            if not exchange.error:
                exchange.error = refusal or buffer[start:end]
            exchange.copying = False
            exchange.tee = None
            if exchange.queried and (exchange.script or exchange.ahead or refusal):
                # The server skips the Query, too, up to a Sync that the client still owes.
                exchange.synced = False
                self._loop.call_soon(exchange.client.pump)
            if exchange.script:
                exchange.script.clear()
            if exchange.ahead:
                exchange.ahead = 0
                if exchange.simple:
                    self.send(frontend.SYNC)  # a Query behind a failed BEGIN is skipped, and ends nothing
            if refusal:
                out.append((refusal, 0, len(refusal)))
            return not refusal
        if kind == PARSED and exchange.naming:
            self.prepared.add(exchange.naming)
        if exchange.ahead:
            exchange.ahead -= kind in UNIT_ENDS
            return False
        if kind == COMPLETE:
            exchange.tag = buffer[start + 5 : end - 1]
            exchange.copying = False
        elif kind in (COPY_IN, COPY_BOTH):
            exchange.copying = True
            if exchange.script is not None and len(exchange.script) == 1:
                # A Sync that was sent with the COPY counts for nothing (PostgreSQL, 55.2.6): the client owes another.
                exchange.synced = False
            if exchange.client is not None:  # its data may be there already
                self._loop.call_soon(exchange.client.pump)
        script = exchange.script
        if script is None:
            return True
        if not script:
            return True  # between the end of what was sent so far and more of it
        unit: Any = script[0]
        if kind in UNIT_ENDS:
            script.popleft()
            if unit.done is not None:
                unit.done()
            if unit.told is not None:
                unit.told(buffer[start:end])
        forward: bool = unit.forward
        return forward

    def _inserts(self, exchange: Exchange, out: list[tuple[bytes, int, int]]) -> None:
        script: Any = exchange.script
        while script and script[0].__class__ is Insert:
            insert = script.popleft()
            if insert.done is not None:
                insert.done()
            if insert.data:
                out.append((insert.data, 0, len(insert.data)))

    def _ready(
        self, exchange: Exchange, buffer: bytes, start: int, end: int, out: list[tuple[bytes, int, int]]
    ) -> None:
        self.status = exchange.status = buffer[end - 1]
        self.exchanges.popleft()
        client = exchange.client
        if client is None:
            exchange.end()
            return
        if exchange.tee is not None:
            for data, first, last in out:
                exchange.keep(data[first:last])
        if out and out[-1][0] is buffer and out[-1][2] == start:
            out[-1] = (buffer, out[-1][1], end)
        else:
            out.append((buffer, start, end))
        # Settled before the client can see that it is over: who reads its answer reads what it wrote.
        exchange.end()
        exchange.tee = None
        self._flush(client, exchange, out)
        client.pump()

    def _flush(self, client: Any, exchange: Exchange | None, out: list[tuple[bytes, int, int]]) -> None:
        if client is None:
            return
        if exchange is not None and exchange.tee is not None:
            for buffer, start, end in out:
                exchange.keep(buffer[start:end])
        write = client.write
        if exchange is not None and exchange.prefix:
            out.insert(0, (exchange.prefix, 0, len(exchange.prefix)))
            exchange.prefix = b""
        if len(out) == 1:
            buffer, start, end = out[0]
            data = buffer if start == 0 and end == len(buffer) else buffer[start:end]
        else:
            data = b"".join([buffer[start:end] for buffer, start, end in out])
        client.home.sent += len(data)
        write(data)
        if client.choked and not self._paused and not self.gone:
            self._paused = True
            self.transport.pause_reading()
            client.when_unchoked(self.go_on)

    def go_on(self) -> None:
        """The client takes data again."""
        if self._paused:
            self._paused = False
            if not self.gone and not self.transport.is_closing():
                self.transport.resume_reading()

    @property
    def middle(self) -> bool:
        """Whether what was forwarded last ends within a message."""
        return self._frames.inside > 0

    def connection_made(self, transport: Any) -> None:
        """Nothing: the login was on the same transport."""

    def eof_received(self) -> bool:
        """The server has hung up; so do we."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Whoever waits for something learns that it will not come."""
        self.gone = True
        self.closed(self)
        self.resume_writing()
        holder, exchanges = self.holder, list(self.exchanges)
        self.exchanges.clear()
        if holder is not None:
            holder.server_gone(self, exchanges)

    def pause_writing(self) -> None:
        """The server takes no more data for now: neither do we."""
        self._held = self.holder
        if self._held is not None:
            self._held.hold_reading(True)

    def resume_writing(self) -> None:
        """The server takes data again, or never will: whoever holds it now, it is he who was held that goes on."""
        held, self._held = self._held, None
        if held is not None:
            held.hold_reading(False)


__all__ = ["Exchange", "Insert", "Unit", "Upstream"]
