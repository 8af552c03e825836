"""What a client brings along in its startup packet (PostgreSQL, 55.2.1 and the libpq parameter ``options``)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from ...sql.setting import as_set, folded, quote_literal
from ...state.settings import EMPTY, Values
from ..protocol.errors import ProtocolViolation

_SPECIAL = frozenset({b"user", b"database", b"options", b"replication"})
_NONE = frozenset({"false", "off", "no", "0"})
_TO_ESCAPE, _ESCAPED = r"([\\\s])", r"\\\1"
# -c name=value, --name=value, -cname=value; a backslash keeps the character behind it (postgres, pg_split_opts).
_WORD = re.compile(r"(?:\\.|[^\s\\])+", re.S)


@dataclass(frozen=True, slots=True)
class Greeting:
    """Who a client says it is, and what it wants set.

    Attributes:
        user, database: as given; the database is the user's name where none is.
        minor: the minor version of the protocol it speaks.
        replication: what the server connection of its own is opened with that it wants for replication; empty =
            it wants none.
        settings: name → SQL text, in order, as a session's settings.
        unknown: ``_pq_`` options, none of which we know.
    """

    user: str
    database: str
    minor: int = 0
    replication: Mapping[str, str] = field(default_factory=dict)
    settings: Values = field(default_factory=lambda: EMPTY)
    unknown: tuple[bytes, ...] = ()


def greeting(minor: int, parameters: dict[bytes, bytes]) -> Greeting:
    """Read the *parameters* of a startup packet.

    Raises:
        ProtocolViolation: there is no user (28000), ``options`` cannot be read (42601), something is no UTF-8 (22021).
    """
    user = _text(parameters.get(b"user", b""))
    if not user:
        raise ProtocolViolation("no PostgreSQL user name specified in startup packet", sqlstate="28000")
    settings: dict[str, str] = {}
    for name, value in _options(_text(parameters.get(b"options", b""))):
        _set(settings, name, value)
    unknown = []
    for raw, data in parameters.items():
        if raw.startswith(b"_pq_."):
            unknown.append(raw)
        elif raw not in _SPECIAL:
            _set(settings, _text(raw), _text(data))
    database = _text(parameters.get(b"database", b"")) or user
    return Greeting(
        user, database, minor, _replication(parameters), MappingProxyType(settings), tuple(unknown)
    )


def _replication(parameters: dict[bytes, bytes]) -> dict[str, str]:
    """Connection parameters, in libpq's words, for a server connection that begins as the client wants its own to."""
    kind = _text(parameters.get(b"replication", b"false")).lower()
    if kind in _NONE:
        return {}
    found, options = {"replication": kind}, [_text(parameters.get(b"options", b""))]
    for raw, data in parameters.items():
        name, value = _text(raw), _text(data)
        if name in ("application_name", "client_encoding"):
            found[name] = value
        elif raw not in _SPECIAL and not raw.startswith(b"_pq_."):
            options.append(f"-c {name}={re.sub(_TO_ESCAPE, _ESCAPED, value)}")
    if any(options):
        found["options"] = " ".join(options).strip()
    return found


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ProtocolViolation('invalid byte sequence for encoding "UTF8"', sqlstate="22021") from None


def _set(settings: dict[str, str], name: str, value: str) -> None:
    name = folded(name)
    text, _ = as_set(name, value)
    settings.pop(name, None)
    settings[name] = quote_literal(value) if text is None else text


def _options(text: str) -> list[tuple[str, str]]:
    words = [re.sub(r"\\(.)", r"\1", word, flags=re.S) for word in _WORD.findall(text)]
    found, at = [], 0
    while at < len(words):
        word = words[at]
        at += 1
        if word == "-c" and at < len(words):
            word = words[at]
            at += 1
        elif word.startswith(("--", "-c")):
            word = word[2:]
        else:
            raise ProtocolViolation(
                f"invalid command-line argument for server process: {word}", sqlstate="42601"
            )
        name, equals, value = word.partition("=")
        if not equals:
            raise ProtocolViolation(f"-c {name} requires a value", sqlstate="42601")
        found.append((name.replace("-", "_"), value))
    return found
