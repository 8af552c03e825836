"""Cutting a stream of bytes into messages.

A message is a kind (one byte), a length that counts itself (four bytes) and a body (PostgreSQL, 55.7). `feed` gives
the pieces of what was read, in order, together every byte once. A whole message within one read is a slice of it, not
a copy; a message split over reads is collected, within its limit. Rows and COPY data are never collected: a run of
them is one piece, which may begin and end within a message.
"""

from __future__ import annotations

from struct import Struct

from . import limits
from .errors import ProtocolViolation

Piece = tuple[int, bytes, int, int]

PARTIAL = 0x100
"""Added to the kind of a piece that ends within a message: what follows is the rest of it."""

# From a client that is logged in; the second ones hold names at most.
_FRONTEND = dict.fromkeys(b"QPBdF", limits.LARGE) | dict.fromkeys(b"CDEHSXcf", limits.SMALL)
_BACKEND = dict.fromkeys(b"RKSZTDCIEN123nstAGHWdcvV", limits.REPLY)
_HEAD = Struct(">BI").unpack_from  # a third of what it takes to slice and convert


# Of a reply that is nothing but an answer: no error, notice, parameter, notification or COPY.
_PLAIN = frozenset(b"12TDnC")
_READY = ord("Z")
_COMPLETE = ord("C")


def whole_reply(data: bytes) -> int:
    """Where the last tag begins, if *data* is a whole reply up to ReadyForQuery and nothing else; 0 if not.

    For the commonest of all reads: one small answer. It is walked from its beginning: bytes of a row may look like
    anything.
    """
    at, size, tag = 0, len(data), 0
    if size < 6 or data[size - 6] != _READY:
        return 0
    stop = size - 6
    while at < stop:
        kind, length = _HEAD(data, at)  # six bytes at least: `stop` is before them
        if kind not in _PLAIN:
            return 0
        if kind == _COMPLETE:
            tag = at + 5
        at += 1 + length
    return tag if at == stop else 0


class Frames:
    """One direction of one connection.

    Args:
        backend: the stream is a server's; else a client's.

    Attributes:
        inside: bytes that are missing of the row or COPY data in whose middle the stream stands; 0 = between messages.
        limits: the longest allowed message by kind; others are refused.
    """

    __slots__ = ("_backend", "_held", "_kind", "_missing", "_streamed", "inside", "limits")

    def __init__(self, *, backend: bool) -> None:
        self._backend = backend
        self._streamed = b"Dd" if backend else b"d"
        self._held = bytearray()
        self._missing = 0
        self._kind = 0
        self.inside = 0
        self.limits = _BACKEND if backend else _FRONTEND

    @property
    def middle(self) -> bool:
        """Whether the stream stands within a message."""
        return bool(self._held) or self.inside > 0

    def feed(self, data: bytes) -> list[Piece]:
        """The pieces of *data*: (kind, buffer, start, end).

        Raises:
            ProtocolViolation: no such message, or a length that cannot be.
        """
        pieces: list[Piece] = []
        at, size = 0, len(data)
        if self._held:
            at = self._complete(data, pieces)
            if at < 0:
                return pieces
        streamed, sizes = self._streamed, self.limits
        run = -1  # where the run of streamed messages begins
        if self.inside:
            run = at
            at += self.inside
            self.inside = 0
        while at < size:
            if at + 5 > size:
                break
            kind, length = _HEAD(data, at)
            if run >= 0 and kind != self._kind:
                pieces.append((self._kind, data, run, at))
                run = -1
            if not 4 <= length <= sizes.get(kind, -1):
                self._refuse(kind, length)
            end = at + 1 + length
            if kind in streamed:
                if run < 0:
                    run = at
                    self._kind = kind
            elif end <= size:
                pieces.append((kind, data, at, end))
            else:
                break
            at = end
        if run >= 0:
            if at > size:
                self.inside = at - size
                if size > run:
                    pieces.append((self._kind | PARTIAL, data, run, size))
            else:
                pieces.append((self._kind, data, run, at))
        if at < size:
            self._hold(data[at:])
        return pieces

    def _hold(self, rest: bytes) -> None:
        self._held = bytearray(rest)
        if len(rest) >= 5:
            self._missing = int.from_bytes(rest[1:5], "big") + 1 - len(rest)
        else:
            self._missing = 0  # not even its length is known

    def _complete(self, data: bytes, pieces: list[Piece]) -> int:
        """Add to the message that is held; returns where the next begins, -1 when it is still not complete."""
        at = 0
        if not self._missing:
            at = min(5 - len(self._held), len(data))
            self._held += data[:at]
            if len(self._held) < 5:
                return -1
            kind, length = _HEAD(self._held)
            if not 4 <= length <= self.limits.get(kind, -1):
                self._refuse(kind, length)
            if kind in self._streamed:
                head = bytes(self._held)
                self._held = bytearray()
                self._kind = kind
                self.inside = length - 4
                pieces.append((kind | PARTIAL if self.inside else kind, head, 0, 5))
                return at
            self._missing = length - 4
        taken = min(self._missing, len(data) - at)
        if taken:
            self._held += data[at : at + taken]  # one buffer: a list of tiny reads takes 40 times their bytes
            self._missing -= taken
        if self._missing:
            return -1
        whole = bytes(self._held)
        self._held = bytearray()
        pieces.append((whole[0], whole, 0, len(whole)))
        return at + taken

    def _refuse(self, kind: int, length: int) -> None:
        if kind not in self.limits:
            side = "server" if self._backend else "frontend"
            raise ProtocolViolation(f"invalid {side} message type {kind}")
        raise ProtocolViolation("invalid message length")
