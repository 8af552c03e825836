"""The text that ``heliosproxy check`` prints: the effective configuration, as TOML, with secrets masked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from heliosproxy.config import Config, unavailable
from heliosproxy.config.support import NOT_BUILT, asked


def report(config: Config) -> str:
    """The configuration as it takes effect, defaults included; then what this version cannot do, as comments.

    Keys and sections that are not set are comments, too: the whole is TOML. What this version has not is left
    out, where it is not asked for.
    """
    lines = list(_table(_dumped(config), ""))
    missing = unavailable(config)
    lines += ["", *(f"# {message}" for message in missing)] if missing else []
    return "\n".join(lines).strip() + "\n"


def flat(config: Config) -> dict[str, str]:
    """Every key of *config* with its value, dotted, as text; secrets masked, "" where it is not set; as in `report`."""
    found: dict[str, str] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                walk(inner, f"{path}.{key}" if path else key)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for number, inner in enumerate(value):
                walk(inner, f"{path}[{number}]")
        else:
            found[path] = "" if value is None else value if isinstance(value, str) else _value(value)

    walk(_dumped(config), "")
    return found


def _dumped(config: Config) -> dict[str, Any]:
    # JSON mode is where sizes and durations become text again, and secrets are masked.
    found: dict[str, Any] = config.model_dump(mode="json")
    for name in NOT_BUILT:
        *around, last = name.split(".")
        section: Any = found
        for part in around:
            section = (section or {}).get(part)
        if section and not asked(config, name):
            section.pop(last, None)
    return {name: section for name, section in found.items() if section != {}}


def _table(table: Mapping[str, Any], prefix: str) -> Iterator[str]:
    inner: list[tuple[str, str, Mapping[str, Any]]] = []
    for key, value in table.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            inner.append((f"[{path}]", path, value))
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            inner += [(f"[[{path}]]", path, each) for each in value]
        elif value is None:
            yield f"# {key}: not set"
        else:
            yield f"{key} = {_value(value)}"
    for header, path, section in inner:
        yield from ("", header)
        yield from _table(section, f"{path}.")


def _value(value: Any) -> str:
    # For text, numbers, booleans and lists of them JSON's notation is TOML's, except for the one control
    # character that JSON leaves as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
