"""Sizes and durations as people write them: ``"256MB"``, ``"5m"``.

Sizes are binary multiples, as in postgresql.conf (1kB = 1024 bytes); the case of a unit does not matter.
Durations are seconds. Both may be plain numbers, and both may be numbers within a string, because that is
what an environment variable or a connection string can hold.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer

KB = 1024
MB = 1024 * KB
GB = 1024 * MB

_SIZES = {"TB": 1024 * GB, "GB": GB, "MB": MB, "kB": KB, "B": 1}
_SIZES_BY_FOLDED_NAME = {name.casefold(): factor for name, factor in _SIZES.items()}
_DURATIONS = {
    "d": Fraction(86400),
    "h": Fraction(3600),
    "m": Fraction(60),
    "s": Fraction(1),
    "ms": Fraction(1, 1000),
}

# Bounds keep a slip of the finger ("1000000TB") from becoming an integer that no counter or clock can hold.
MAX_SIZE = 2**63 - 1
MAX_SECONDS = 100 * 366 * 86400.0

# Digits are bounded, so that no text is long enough to make the conversion itself slow.
_QUANTITY = re.compile(r"\s*([0-9]{1,40}(?:\.[0-9]{1,400})?)\s*([A-Za-z]*)\s*")


def parse_size(value: object) -> int:
    """Bytes of *value*: an integer of bytes, or text such as ``"64kB"``, ``"1.5GB"``, ``"1024"``.

    Raises:
        ValueError: no size; an unknown unit; not a whole number of bytes; negative; more than 2**63 - 1.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        size = Fraction(value)
    elif isinstance(value, str) and (found := _QUANTITY.fullmatch(value)):
        factor = _SIZES_BY_FOLDED_NAME.get((found[2] or "B").casefold())
        if factor is None:
            raise ValueError(f'"{found[2]}" is no unit of size; there are B, kB, MB, GB, TB')
        size = Fraction(found[1]) * factor
    else:
        raise ValueError(
            f'{_shown(value)} is not a size; write bytes, or text such as "64kB", "256MB", "1GB"'
        )
    if size.denominator != 1:
        raise ValueError(f"{_shown(value)} is not a whole number of bytes")
    if not 0 <= size <= MAX_SIZE:
        raise ValueError(f"{_shown(value)} is out of range; a size is between 0 and {MAX_SIZE} bytes")
    return int(size)


def format_size(size: int) -> str:
    """The shortest exact text of *size* bytes; `parse_size` reads it back to the same number."""
    for name, factor in _SIZES.items():
        if size >= factor and size % factor == 0:
            return f"{size // factor}{name}"
    return f"{size}B"


def parse_duration(value: object) -> float:
    """Seconds of *value*: a number of seconds, or text such as ``"100ms"``, ``"60s"``, ``"1h"``.

    Raises:
        ValueError: no duration; an unknown unit; negative, not finite, or more than 100 years.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value) if abs(value) <= MAX_SECONDS else float("nan")
    elif isinstance(value, str) and (found := _QUANTITY.fullmatch(value)):
        factor = _DURATIONS.get(found[2] or "s")
        if factor is None:
            raise ValueError(f'"{found[2]}" is no unit of time; there are ms, s, m, h, d')
        # A fraction is rounded once, at the end: "100ms" is 0.1 to the last bit.
        seconds = float(Fraction(found[1]) * factor)
    else:
        raise ValueError(
            f'{_shown(value)} is not a duration; write seconds, or text such as "100ms", "60s", "5m"'
        )
    if not 0 <= seconds <= MAX_SECONDS:
        raise ValueError(f"{_shown(value)} is out of range; a duration is between 0 and 100 years")
    return abs(seconds)  # -0.0 would print as "-0.0s", which nobody could read back


def format_duration(seconds: float) -> str:
    """A short exact text of *seconds*; `parse_duration` reads it back to the same number."""
    if seconds == 0:
        return "0s"
    for name, factor in _DURATIONS.items():
        count = round(Fraction(seconds) / factor)
        if count and float(count * factor) == seconds:
            return f"{count}{name}"
    return f"{Decimal(repr(seconds)):f}s"


def _shown(value: object) -> str:
    text = f'"{value}"' if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:56] + "..."


Size = Annotated[
    int,
    BeforeValidator(parse_size),
    Field(gt=0),
    PlainSerializer(format_size, return_type=str, when_used="json"),
]
"""More than 0 bytes."""

SizeOrZero = Annotated[
    int, BeforeValidator(parse_size), PlainSerializer(format_size, return_type=str, when_used="json")
]
"""Bytes; the key that has this type says what 0 means."""

Seconds = Annotated[
    float,
    BeforeValidator(parse_duration),
    Field(gt=0),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
]
"""More than 0 seconds."""

SecondsOrZero = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
]
"""Seconds; the key that has this type says what 0 means."""
