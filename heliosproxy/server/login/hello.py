"""What a client offers in the first message of TLS: Python's ssl tells only what was agreed on."""

from __future__ import annotations

_HANDSHAKE, _CLIENT_HELLO, _ALPN = 22, 1, 16
_FIXED = 4 + 2 + 32  # type and length, version, random


def offered_protocols(received: bytes) -> list[bytes]:
    """The protocols that a client offers by ALPN (RFC 7301); empty = it offers none.

    Args:
        received: all that it has sent, of a handshake that was completed: so it is known to be well formed.
    """
    hello = _first_message(received)
    if hello[:1] != bytes((_CLIENT_HELLO,)):
        return []
    at = _FIXED
    for width in (1, 2, 1):  # session id, cipher suites, compression methods
        at += width + int.from_bytes(hello[at : at + width], "big")
    at += 2
    while at + 4 <= len(hello):
        kind, size = int.from_bytes(hello[at : at + 2], "big"), int.from_bytes(hello[at + 2 : at + 4], "big")
        if kind == _ALPN:
            return _names(hello[at + 6 : at + 4 + size])
        at += 4 + size
    return []


def _first_message(received: bytes) -> bytes:
    """The first handshake message, which may lie in several records."""
    message, at = b"", 0
    while received[at : at + 1] == bytes((_HANDSHAKE,)):
        size = int.from_bytes(received[at + 3 : at + 5], "big")
        message += received[at + 5 : at + 5 + size]
        at += 5 + size
        if len(message) >= 4 + int.from_bytes(message[1:4], "big"):
            break
    return message[: 4 + int.from_bytes(message[1:4], "big")]


def _names(listed: bytes) -> list[bytes]:
    names, at = [], 0
    while at < len(listed):
        names.append(listed[at + 1 : at + 1 + listed[at]])
        at += 1 + listed[at]
    return names
