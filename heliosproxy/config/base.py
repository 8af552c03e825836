"""What all sections of the configuration have in common."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Section(BaseModel):
    """A table of the configuration: immutable, hashable, and strange to keys it does not know."""

    # Lax rather than strict: a value that came through ${ENV}, an environment variable or a connection string
    # is text ("50", "on"), whatever its key's type. hide_input: an error must not show a password.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a number is wanted, not true or false")
    return value


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Count = Annotated[int, BeforeValidator(_no_bool), Field(ge=1)]
"""An integer, 1 or more. (Python counts True as 1; a configuration that says so is a mistake.)"""

CountOrZero = Annotated[int, BeforeValidator(_no_bool), Field(ge=0)]
"""An integer; the key that has this type says what 0 means."""

Share = Annotated[float, BeforeValidator(_no_bool), Field(ge=0, le=1)]
"""A fraction between 0 and 1."""

Name = Annotated[str, Field(min_length=1)]
"""Text that is not empty."""

Strings = Annotated[tuple[str, ...], BeforeValidator(_listed)]
"""A list of texts; one text alone is a list of one."""


def distinct(items: tuple[Any, ...], key: str) -> tuple[Any, ...]:
    """*items* as they are.

    Raises:
        ValueError: two of them have the same *key*; which one is meant would be a guess.
    """
    repeated = _first_repeated(getattr(item, key) for item in items)
    if repeated is not None:
        raise ValueError(f'{key} "{repeated}" is given twice')
    return items


def _first_repeated(values: Iterable[Hashable]) -> Hashable | None:
    seen: set[Hashable] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None
