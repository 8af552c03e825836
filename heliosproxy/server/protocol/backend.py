"""What a server sends: written, as a server; read, as a client (PostgreSQL, 55.7, messages marked B)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .errors import ProtocolViolation
from .frontend import message

Field = bytes | None


def authentication(code: int, payload: bytes = b"") -> bytes:
    """An Authentication… message: 0 ok, 3 cleartext, 5 MD5, 10 SASL, 11 continue, 12 final."""
    return message(b"R", code.to_bytes(4, "big") + payload)


def parameter_status(name: bytes, value: bytes) -> bytes:
    """A ParameterStatus."""
    return message(b"S", name + b"\0" + value + b"\0")


def backend_key_data(pid: int, key: bytes) -> bytes:
    """A BackendKeyData."""
    return message(b"K", pid.to_bytes(4, "big") + key)


def ready_for_query(status: bytes) -> bytes:
    """A ReadyForQuery: I, T or E."""
    return message(b"Z", status)


def negotiate_protocol_version(newest: int, unknown: Sequence[bytes]) -> bytes:
    """A NegotiateProtocolVersion: the version spoken, major and minor (0x30002), and the options not known."""
    names = b"".join(name + b"\0" for name in unknown)
    return message(b"v", newest.to_bytes(4, "big") + len(unknown).to_bytes(4, "big") + names)


def error_response(fields: Mapping[str, str]) -> bytes:
    """An ErrorResponse of *fields* by their codes (``S``, ``V``, ``C``, ``M``, …)."""
    return message(b"E", _fields(fields))


def notice_response(fields: Mapping[str, str]) -> bytes:
    """A NoticeResponse, as `error_response`."""
    return message(b"N", _fields(fields))


def _fields(fields: Mapping[str, str]) -> bytes:
    parts = [code.encode() + text.replace("\0", "").encode(errors="replace") for code, text in fields.items()]
    return b"\0".join(parts) + b"\0\0"


def data_row(values: Sequence[Field]) -> bytes:
    """A DataRow; None is NULL."""
    parts = [len(values).to_bytes(2, "big")]
    for value in values:
        parts.append(b"\xff\xff\xff\xff" if value is None else len(value).to_bytes(4, "big") + value)
    return message(b"D", b"".join(parts))


def command_complete(tag: bytes) -> bytes:
    """A CommandComplete."""
    return message(b"C", tag + b"\0")


# -- reading ---------------------------------------------------------------------------------------


def parse_parameter_status(buffer: bytes, start: int, end: int) -> tuple[bytes, bytes]:
    """Name and value of a ParameterStatus."""
    parts = buffer[start + 5 : end].split(b"\0")
    if len(parts) != 3 or parts[2]:
        raise ProtocolViolation("invalid ParameterStatus")
    return parts[0], parts[1]


def ends(data: bytes) -> bool:
    """Whether an ErrorResponse, whole in *data*, is the last that a server says."""
    return b"\0VFATAL\0" in data or b"\0VPANIC\0" in data


def parse_error(data: bytes) -> dict[str, str]:
    """The fields of an ErrorResponse or a NoticeResponse, whole in *data*."""
    fields = {}
    for part in data[5:].split(b"\0"):
        if part:
            fields[chr(part[0])] = part[1:].decode("utf-8", "replace")
    return fields
