"""What a FunctionCall does to its session, as far as the function is one that we know: it is named by its OID alone."""

from __future__ import annotations

from struct import error

from ...sql.setting import UNKNOWN, as_set, folded
from ...sql.statement import Kind, Setting, Statement
from ..protocol import frontend

# Of pg_proc.dat, where they are fixed: pg_advisory_lock, _lock_shared, pg_try_advisory_lock, _lock_shared, by one
# number and by two.
_SESSION_LOCKS = frozenset({2880, 2881, 2882, 2883, 2886, 2887, 2888, 2889})
_SET_CONFIG = 2078
_TRUE = frozenset({b"\1", b"t", b"tr", b"tru", b"true", b"y", b"ye", b"yes", b"on", b"1"})


def facts(message: bytes) -> Statement:
    """The facts of the FunctionCall *message*: beyond what is known it may do anything."""
    oid = int.from_bytes(message[5:9], "big")
    return Statement(
        "",
        Kind.UNCLASSIFIED,
        writes_anything=True,
        error="function_call",
        pins=frozenset({"advisory_lock"}) if oid in _SESSION_LOCKS else frozenset(),
        settings=(_setting(message),) if oid == _SET_CONFIG else (),
    )


def _setting(message: bytes) -> Setting:
    try:
        name, value, local = frontend.function_arguments(message)
        if name is None:
            return UNKNOWN
        setting, text, known = folded(name.decode()), None, True
        if value is not None:
            text, known = as_set(setting, value.decode())
    except (ValueError, error):  # the server will say so; UnicodeDecodeError is one
        return UNKNOWN
    return Setting(setting, text, local is not None and local.strip().lower() in _TRUE, known)
