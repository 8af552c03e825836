"""Hints: what a statement asks of us, in a comment (``/* helios:cache=off ttl=5s */``) or as ``helios={…}``.

A hint that nobody understands is an error, always: ``cach=off`` that is passed over would answer from the cache
what must not come from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heliosproxy.config.keys import nearest
from heliosproxy.config.units import parse_duration
from heliosproxy.errors import ConfigError

KNOWN = ("cache", "ttl")

_SWITCH = {
    "off": False,
    "no": False,
    "false": False,
    "0": False,
    "on": True,
    "yes": True,
    "true": True,
    "1": True,
}


def checked(given: object, *, prefix: str = "helios: ") -> dict[str, Any]:
    """*given*, a mapping of hints from either place, as values: ``{"cache": bool, "ttl": seconds}``.

    Args:
        prefix: what stands before a hint's name where it was given, for the messages.

    Raises:
        ConfigError: it is no mapping; a name is unknown; a value is of a wrong type or out of range.
    """
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"helios={_shown(given)}: a mapping is wanted, such as {{'cache': False, 'ttl': 5}}"
        )
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name == "cache":
            found["cache"] = _switch(value, prefix)
        elif name == "ttl":
            found["ttl"] = _ttl(value, prefix)
        else:
            near = nearest(name, list(KNOWN)) if isinstance(name, str) else None
            hint = f'did you mean "{near}"?' if near else f"there are {', '.join(KNOWN)}"
            key = name if isinstance(name, str) else repr(name)
            raise ConfigError(f"{prefix}{key}: unknown hint, {hint}", key=key)
    return found


def _switch(value: object, prefix: str) -> bool:
    if isinstance(value, bool | int | str):
        known = _SWITCH.get(str(value).strip().lower())
        if known is not None:
            return known
    raise ConfigError(f"{prefix}cache: on or off is wanted, not {_shown(value)}", key="cache")


def _ttl(value: object, prefix: str) -> float:
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise ConfigError(f"{prefix}ttl: {error}", key="ttl") from None
    if seconds <= 0:
        raise ConfigError(
            f"{prefix}ttl: more than 0 is wanted, not {_shown(value)}; cache=off asks the server", key="ttl"
        )
    return seconds


def _shown(value: object) -> str:
    text = f'"{value}"' if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:56] + "..."
