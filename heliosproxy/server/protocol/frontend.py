"""What a client sends: read, as a server; written, as a client (PostgreSQL, 55.7, messages marked F)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import Struct, error
from typing import NamedTuple, NoReturn

from . import limits
from .errors import ProtocolViolation

V3 = 0x30000
SSL_REQUEST, GSSENC_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102
_INT, _SHORT, _HEAD = Struct("!i"), Struct("!h"), Struct("!ci")
_COUNT = Struct("!H")
_EMPTY_BIND = b"\0\0\0\0\0\0"  # no formats, no parameters, no result formats


class Startup(NamedTuple):
    """A startup packet.

    Attributes:
        version: major and minor of the protocol, 3.x.
        parameters: by name, as they came.
    """

    version: tuple[int, int]
    parameters: dict[bytes, bytes]


class Bind(NamedTuple):
    """A Bind message; formats as they stand there, so perhaps none or one for all."""

    portal: bytes
    statement: bytes
    formats: tuple[int, ...]
    parameters: tuple[bytes | None, ...]
    result_formats: tuple[int, ...]


# -- reading ---------------------------------------------------------------------------------------


def _malformed() -> NoReturn:
    raise ProtocolViolation("invalid message format", fatal=False)


def _name(buffer: bytes, at: int, end: int) -> tuple[bytes, int]:
    stop = buffer.find(0, at, end)
    if stop < 0:
        raise ProtocolViolation("invalid string in message", fatal=False)
    return buffer[at:stop], stop + 1


def parse_startup(body: bytes) -> Startup:
    """The startup packet of which *body* is what follows its length: code, then names and values."""
    if len(body) < 5 or len(body) + 4 > limits.STARTUP:
        raise ProtocolViolation("invalid length of startup packet")
    code = int.from_bytes(body[:4], "big")
    if code >> 16 != 3:
        raise ProtocolViolation(
            f"unsupported frontend protocol {code >> 16}.{code & 0xFFFF}: server supports 3.0 to 3.2",
            sqlstate="0A000",
        )
    parts = body[4:].split(b"\0")
    # name, value, …, an empty name, and nothing behind its NUL.
    if len(parts) < 2 or parts[-1] or parts[-2] or len(parts) % 2:
        raise ProtocolViolation("invalid startup packet layout: expected terminator as last byte")
    fields = parts[:-2]
    if any(not name for name in fields[::2]):
        raise ProtocolViolation("invalid startup packet layout: expected terminator as last byte")
    return Startup((3, code & 0xFFFF), dict(zip(fields[::2], fields[1::2], strict=True)))


def parse_cancel(body: bytes) -> tuple[int, bytes]:
    """Process number and key of a CancelRequest; *body* begins with its code."""
    if not 12 <= len(body) <= 8 + 256:
        raise ProtocolViolation("invalid length of cancel request packet")
    return int.from_bytes(body[4:8], "big"), body[8:]


def parse_query(buffer: bytes, start: int, end: int) -> bytes:
    """The text of a Query."""
    if buffer.find(0, start + 5, end) != end - 1:
        _malformed()
    return buffer[start + 5 : end - 1]


def split_parse(buffer: bytes, start: int, end: int) -> tuple[bytes, bytes, bytes]:
    """Name and text of a Parse, and the rest: number and OIDs of its parameter types."""
    name, at = _name(buffer, start + 5, end)
    text, at = _name(buffer, at, end)
    rest = buffer[at:end]
    if len(rest) < 2 or len(rest) != 2 + 4 * _COUNT.unpack_from(rest)[0]:
        _malformed()
    return name, text, rest


def split_bind(buffer: bytes, start: int, end: int) -> tuple[bytes, bytes, int]:
    """Portal and statement of a Bind, and where the rest begins."""
    portal, at = _name(buffer, start + 5, end)
    statement, at = _name(buffer, at, end)
    return portal, statement, at


def parse_bind(buffer: bytes, start: int, end: int) -> Bind:
    """A Bind, whole."""
    portal, statement, at = split_bind(buffer, start, end)
    try:
        formats, at = _shorts(buffer, at, end)
        (count,) = _COUNT.unpack_from(buffer, at)
        at += 2
        parameters: list[bytes | None] = []
        for _ in range(count):
            (size,) = _INT.unpack_from(buffer, at)
            at += 4
            if size < -1 or at + size > end:
                _malformed()
            parameters.append(None if size < 0 else buffer[at : at + size])
            at += max(size, 0)
        results, at = _shorts(buffer, at, end)
    except error:
        _malformed()
    if at != end:
        _malformed()
    return Bind(portal, statement, formats, tuple(parameters), results)


def function_arguments(message: bytes) -> list[bytes | None]:
    """The arguments of a FunctionCall, text or binary; raises struct.error where there are less than it says."""
    _, at = _shorts(message, 9, len(message))
    (count,) = _COUNT.unpack_from(message, at)
    at += 2
    arguments: list[bytes | None] = []
    for _ in range(count):
        (size,) = _INT.unpack_from(message, at)
        at += 4
        arguments.append(None if size < 0 else message[at : at + size])
        at += max(size, 0)
    return arguments


def _shorts(buffer: bytes, at: int, end: int) -> tuple[tuple[int, ...], int]:
    (count,) = _COUNT.unpack_from(buffer, at)
    stop = at + 2 + 2 * count
    if stop > end:
        _malformed()
    return tuple(_SHORT.unpack_from(buffer, place)[0] for place in range(at + 2, stop, 2)), stop


def parse_execute(buffer: bytes, start: int, end: int) -> tuple[bytes, int]:
    """Portal and number of rows (0: all) of an Execute."""
    name, at = _name(buffer, start + 5, end)
    if at + 4 != end:
        _malformed()
    return name, _INT.unpack_from(buffer, at)[0]


def parse_describe(buffer: bytes, start: int, end: int) -> tuple[int, bytes]:
    """What (S or P) and its name, of a Describe or a Close."""
    if end - start < 7 or buffer.find(0, start + 6, end) != end - 1:
        _malformed()
    if buffer[start + 5] not in b"SP":
        what = "DESCRIBE" if buffer[start] == ord("D") else "CLOSE"
        raise ProtocolViolation(f"invalid {what} message subtype {buffer[start + 5]}", fatal=False)
    return buffer[start + 5], buffer[start + 6 : end - 1]


# -- writing ---------------------------------------------------------------------------------------


def message(kind: bytes, body: bytes) -> bytes:
    """A message of *kind*."""
    return _HEAD.pack(kind, len(body) + 4) + body


def _packet(code: int, body: bytes) -> bytes:
    return _INT.pack(len(body) + 8) + _INT.pack(code) + body


def startup(parameters: Mapping[bytes, bytes], version: int = V3) -> bytes:
    """A startup packet."""
    return _packet(
        version, b"".join(name + b"\0" + value + b"\0" for name, value in parameters.items()) + b"\0"
    )


def ssl_request() -> bytes:
    """An SSLRequest."""
    return _packet(SSL_REQUEST, b"")


def cancel_request(pid: int, key: bytes) -> bytes:
    """A CancelRequest."""
    return _packet(CANCEL_REQUEST, pid.to_bytes(4, "big") + key)


def query(text: bytes) -> bytes:
    """A Query."""
    return message(b"Q", text + b"\0")


def parse(name: bytes, text: bytes, types: Sequence[int] = ()) -> bytes:
    """A Parse."""
    return parse_raw(name, text, _COUNT.pack(len(types)) + b"".join(oid.to_bytes(4, "big") for oid in types))


def parse_raw(name: bytes, text: bytes, types: bytes) -> bytes:
    """A Parse with the rest as `split_parse` gave it."""
    return message(b"P", name + b"\0" + text + b"\0" + types)


def bind_nothing(statement: bytes = b"") -> bytes:
    """A Bind without parameters, to the unnamed portal."""
    return message(b"B", b"\0" + statement + b"\0" + _EMPTY_BIND)


def rename_bind(buffer: bytes, start: int, end: int, rest: int, statement: bytes) -> bytes:
    """The Bind in *buffer*, its rest beginning at *rest*, for another statement."""
    portal_end = buffer.index(0, start + 5) + 1
    return message(b"B", buffer[start + 5 : portal_end] + statement + b"\0" + buffer[rest:end])


def describe(what: int, name: bytes) -> bytes:
    """A Describe of a statement (S) or portal (P)."""
    return message(b"D", bytes((what,)) + name + b"\0")


def close(what: int, name: bytes) -> bytes:
    """A Close of a statement (S) or portal (P)."""
    return message(b"C", bytes((what,)) + name + b"\0")


def copy_fail(reason: bytes) -> bytes:
    """A CopyFail."""
    return message(b"f", reason + b"\0")


def password(data: bytes) -> bytes:
    """A PasswordMessage, or a SASLResponse; *data* is all of its body."""
    return message(b"p", data)


EXECUTE_ALL = message(b"E", b"\0\0\0\0\0")
SYNC = message(b"S", b"")
FLUSH = message(b"H", b"")
TERMINATE = message(b"X", b"")
