"""The ``helios_…`` execution options: what an engine, a connection or one statement asks of the path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config.keys import nearest
from ..config.options import FILE_OPTION, OPTIONS
from ..errors import ConfigError, UnsupportedError
from ..sql.hint_values import checked

PREFIX = "helios_"

# Each option, and what `Cursor.execute(helios={...})` calls it.
HINTS = {"helios_cache": "cache", "helios_ttl": "ttl"}

# Names that are kept for features this version does not have.
NOT_YET = {"helios_route": "routing", "helios_tenant": "tenancy"}


def hints(options: Mapping[Any, Any]) -> dict[str, Any] | None:
    """What *options*, of an execution, say for `Cursor.execute(helios={...})`; None when they say nothing.

    Raises:
        ConfigError: an option is unknown, or its value is of a wrong type.
        UnsupportedError: it needs a feature that this version does not have.
    """
    found: dict[str, Any] | None = None
    for name in options:
        if name.__class__ is str and name.startswith(PREFIX):  # the ORM has tuples among them
            if found is None:
                found = {}
            found[_hint(name)] = options[name]
    return None if found is None else checked(found, prefix=PREFIX)


def _hint(name: str) -> str:
    if name in NOT_YET:
        raise UnsupportedError(
            f"{name}: this version has no {NOT_YET[name]}, so the option cannot be followed"
        )
    if name not in HINTS:
        if name in OPTIONS or name == FILE_OPTION:
            raise ConfigError(
                f"{name}: an option of an engine, not of executions: give it to create_engine(), or in the URL",
                key=name,
            )
        near = nearest(name, list(HINTS))
        raise ConfigError(
            f"{name}: unknown execution option, "
            + (f'did you mean "{near}"?' if near else f"there are {', '.join(HINTS)}"),
            key=name,
        )
    return HINTS[name]
