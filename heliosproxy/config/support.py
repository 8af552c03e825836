"""What a configuration asks for that this version cannot do: refused by name, never read and then ignored."""

from __future__ import annotations

from typing import Any

from heliosproxy.config.model import Config
from heliosproxy.errors import UnsupportedError

# The issue that builds a feature deletes its row. [server], [[user]] and [http] are not here: they concern
# `heliosproxy serve` alone, and a library that shares the file with it goes on without them.
NOT_BUILT: tuple[str, ...] = (
    "cache.l2",
    "cache.semantic",
    "graphql",
    "plugins.wasm",
    "routing",
    "routing.workload",
    "circuit_breaker",
    "ai_cache",
    "auth",
    "auth.jwt",
    "auth.api_key",
    "auth.ldap",
    "tenancy",
    "rate_limit",
    "transaction_replay",
    "session_migration",
)

MAX_NODES = 1
"""How many ``[[node]]`` this version uses; a second one needs routing."""


def unavailable(config: Config) -> list[str]:
    """A message for each section that *config* asks for and this version has not built; empty when none.

    A section asks with ``enabled = true`` or, where it has no such key, by being present.
    """
    messages = [f"{name}: not available in this version" for name in NOT_BUILT if asked(config, name)]
    if len(config.node) > MAX_NODES:
        messages.append(f"node: more than {MAX_NODES} is not available in this version")
    return messages


def asked(config: Config, name: str) -> bool:
    """Whether *config* asks for the section *name*."""
    section: Any = config
    for part in name.split("."):
        section = getattr(section, part)
        if section is None:
            return False
    return bool(getattr(section, "enabled", section))


def refuse_unavailable(config: Config) -> None:
    """Nothing, when this version can do all that *config* asks for.

    Raises:
        UnsupportedError: it cannot; the message names each section.
    """
    messages = unavailable(config)
    if messages:
        raise UnsupportedError("\n".join(messages))
