"""What a client brings along in its startup packet (PostgreSQL, 55.2.1 and the libpq parameter ``options``)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType

from ...sql.setting import as_set, folded, quote_literal
from ...state.settings import EMPTY, Values
from ..protocol.errors import ProtocolViolation

_SPECIAL = frozenset({b"user", b"database", b"options", b"replication"})
# -c name=value, --name=value, -cname=value; a backslash keeps the character behind it (postgres, pg_split_opts).
_WORD = re.compile(r"(?:\\.|[^\s\\])+", re.S)


@dataclass(frozen=True, slots=True)
class Greeting:
    """Who a client says it is, and what it wants set.

    Attributes:
        user, database: as given; the database is the user's name where none is.
        minor: the minor version of the protocol it speaks.
        replication: it wants a replication connection.
        settings: name → SQL text, in order, as a session's settings.
        unknown: ``_pq_`` options, none of which we know.
    """

    user: str
    database: str
    minor: int = 0
    replication: bool = False
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
    replication = parameters.get(b"replication", b"false").lower() not in (b"false", b"off", b"no", b"0")
    database = _text(parameters.get(b"database", b"")) or user
    return Greeting(user, database, minor, replication, MappingProxyType(settings), tuple(unknown))


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
