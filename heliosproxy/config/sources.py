"""Where values come from: the file, the environment, keywords; each is a `Layer`, and a later one wins."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from heliosproxy.config import keys
from heliosproxy.config.keys import Location, Path
from heliosproxy.config.lines import line_of, lines_of_keys
from heliosproxy.errors import ConfigError

PREFIX = "HELIOSPROXY_"

# Read by the build when the package is installed from source; not a key of the configuration.
_NOT_KEYS = frozenset({"HELIOSPROXY_COMPILE"})

# What can only be meant as a connection string: a URI, or pairs of libpq's with one that everybody writes.
_DSN = re.compile(
    r"\s*[A-Za-z]\w*://|(?:^|.*\s)(?:host|hostaddr|port|dbname|user|password|service|passfile|sslmode)\s*=",
    re.S,
)
_REFERENCE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$\{")
_TOML_POSITION = re.compile(r"\(at line (\d+), column \d+\)")


@dataclass(frozen=True)
class Layer:
    """The values of one source, nested as in the file.

    Attributes:
        data: the values.
        names: what the user called a key, where that is not the key itself (an environment variable, an
            option).
        file: name of the file they stand in, or None.
        text: the text of that file.
    """

    data: dict[str, Any]
    names: Mapping[Path, str] = field(default_factory=dict)
    file: str | None = None
    text: str = ""

    def line(self, location: Location) -> int | None:
        """The line of the file on which *location* stands."""
        return line_of(location, lines_of_keys(self.text)) if self.file is not None else None

    def called(self, path: Path) -> str | None:
        """What the user called the key *path* or the section around it; None when by the key itself."""
        return next(
            (self.names[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self.names), None
        )


def read_file(path: str | os.PathLike[str], environ: Mapping[str, str]) -> Layer:
    """The TOML file *path*, with ``${NAME}`` in its values replaced from *environ*.

    Raises:
        ConfigError: it is a connection string, cannot be read, is not TOML, or refers to a variable that is not set.
    """
    file = os.fspath(path)
    if _DSN.match(file) and not os.path.exists(file):
        # Not quoted: it may hold a password.
        raise ConfigError(
            "this is a connection string: pass it to .connect(); Proxy takes a file, a mapping or a Config"
        )
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
        data = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror or error}", file=file) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8: {error}", file=file) from error
    except tomllib.TOMLDecodeError as error:
        found = _TOML_POSITION.search(str(error))
        # "at end of document" is all that is said about what is left open: the last line is the place.
        line = int(found[1]) if found else max(1, len(text.splitlines()))
        raise ConfigError(f"{file}:{line}: not TOML: {error}", file=file, line=line) from error
    layer = Layer(data, file=file, text=text)
    return Layer(_expand(data, (), environ, layer), file=file, text=text)


def _expand(value: Any, location: Location, environ: Mapping[str, str], layer: Layer) -> Any:
    if isinstance(value, dict):
        return {name: _expand(inner, (*location, name), environ, layer) for name, inner in value.items()}
    if isinstance(value, list):
        return [_expand(inner, (*location, index), environ, layer) for index, inner in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(found: re.Match[str]) -> str:
        if found[0] == "$${":
            return "${"
        if found[1] is not None and found[1] in environ:
            return environ[found[1]]
        problem = "is not a reference; write ${NAME}, or $${ for the characters themselves"
        if found[1] is not None:
            problem = "is not set in the environment"
        key, line = keys.dotted(location), layer.line(location)
        raise ConfigError(
            f"{layer.file}:{line}: {key}: {found[0]} {problem}", key=key, file=layer.file, line=line
        )

    return _REFERENCE.sub(replace, value)


def read_environment(model: type[BaseModel], environ: Mapping[str, str]) -> Layer:
    """The variables that begin with ``HELIOSPROXY_``; a double underscore descends into a section.

    Raises:
        ConfigError: a variable names no key.
    """
    data: dict[str, Any] = {}
    names: dict[Path, str] = {}
    known = keys.variables(model)
    # Sorted, so that a whole section (HELIOSPROXY_POOL) is laid down before a key of it.
    for variable in sorted(environ, key=str.upper):
        if not variable.upper().startswith(PREFIX) or variable.upper() in _NOT_KEYS:
            continue
        name = variable[len(PREFIX) :].lower()
        path = known.get(name)
        if path is None:
            near = keys.nearest(name, list(known))
            hint = (
                f"did you mean {PREFIX}{near.upper()}?" if near else f"a key is named like {PREFIX}POOL__MODE"
            )
            raise ConfigError(f"{variable}: unknown key, {hint}", key=name.replace("__", "."))
        annotation = keys.find(model, path)
        structured = keys.is_array(annotation) or keys.section_of(annotation) is not None
        place(data, path, _structure(environ[variable]) if structured else environ[variable])
        names[path] = variable
    return Layer(data, names)


def _structure(text: str) -> Any:
    """*text* as a TOML or JSON array or table; text that is neither stays text, and is a list of one."""
    if not text.lstrip().startswith(("[", "{")):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        pass
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def read_overrides(overrides: Mapping[str, object], names: Mapping[Path, str] | None = None) -> Layer:
    """Keywords: dotted keys (``{"pool.mode": "session"}``), nested mappings, or both."""
    data: dict[str, Any] = {}
    for key, value in overrides.items():
        place(data, tuple(key.split(".")), _plain(value))
    return Layer(data, names or {})


def _plain(value: object) -> object:
    return {name: _plain(inner) for name, inner in value.items()} if isinstance(value, Mapping) else value


def place(data: dict[str, Any], path: Path, value: Any) -> None:
    """Put *value* at *path* of *data*, beside what is there already."""
    for name in reversed(path):
        value = {name: value}
    merge(data, value)


def merge(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    """Lay *above* over *below*, in place: tables are merged key by key, anything else is replaced."""
    for name, value in above.items():
        if isinstance(value, Mapping):
            inner = below.get(name)
            below[name] = dict(inner) if isinstance(inner, Mapping) else {}
            merge(below[name], value)
        else:
            below[name] = value
