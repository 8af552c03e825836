"""From pydantic's report to a ConfigError: which key of which source is wrong, and what would be right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from heliosproxy.config import keys
from heliosproxy.config.keys import Location
from heliosproxy.config.masking import MASK, is_secret
from heliosproxy.config.sources import Layer
from heliosproxy.errors import ConfigError


def config_error(model: type[BaseModel], error: ValidationError, layers: Sequence[Layer]) -> ConfigError:
    """One error for all that *error* reports, a line of text each; its attributes are those of the first.

    Args:
        model: what was validated.
        error: what pydantic said.
        layers: where the values came from, the strongest last.
    """
    # pydantic's own text is without the input, which may be a password; `_shown` says what of it may be seen.
    problems = [_problem(model, details, layers) for details in error.errors(include_url=False)]
    problems.sort(key=lambda problem: problem.line or 0)
    first = problems[0]
    return ConfigError("\n".join(map(str, problems)), key=first.key, file=first.file, line=first.line)


def _problem(model: type[BaseModel], details: ErrorDetails, layers: Sequence[Layer]) -> ConfigError:
    location: Location = details["loc"]
    key = keys.dotted(location)
    layer = _origin(location, layers)
    line = layer.line(location)
    where = f"{layer.file}:{line}: " if layer.file else ""
    called = layer.called(keys.names_of(location))
    if called is not None:
        where = f"{called}: "
    return ConfigError(f"{where}{key}: {_explain(model, details)}", key=key, file=layer.file, line=line)


def _explain(model: type[BaseModel], details: ErrorDetails) -> str:
    path = keys.names_of(details["loc"])
    match details["type"]:
        case "extra_forbidden":
            return f"unknown key, {keys.suggestion(model, path)}"
        case "missing":
            return "required, and not given"
        case "literal_error":
            choices = ", ".join(map(_quoted, keys.choices_of(keys.find(model, path))))
            return f"one of {choices} is wanted, not {_shown(details['input'])}"
        case "bool_parsing" | "bool_type":
            return f"true or false is wanted, not {_shown(details['input'])}"
        case "int_parsing" | "int_type" | "int_from_float":
            return f"an integer is wanted, not {_shown(details['input'])}"
        case "float_parsing" | "float_type":
            return f"a number is wanted, not {_shown(details['input'])}"
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            return f"{_lowered(details['msg'])}, not {_shown(details['input'])}"
        case "value_error":
            return str(details["ctx"]["error"])
        case "model_type" | "model_attributes_type":
            return "a table is wanted"
        case "tuple_type":
            if keys.section_of(keys.find(model, path)) is None:
                return "a list is wanted"
            return f"an array of tables is wanted; write [[{'.'.join(path)}]], with double brackets"
        case _:
            return _lowered(details["msg"])


def _lowered(message: str) -> str:
    return message[:1].lower() + message[1:]


def _shown(value: object) -> str:
    """*value* of a key that is a word, a switch or a number; masked all the same if somebody put a secret there."""
    if isinstance(value, Mapping | list | tuple):
        return "a table" if isinstance(value, Mapping) else "a list"
    text = _quoted(value) if isinstance(value, str) else repr(value)
    if "://" in text or is_secret(text.lower()):
        return MASK
    return text if len(text) <= 60 else text[:56] + "..."


def _quoted(word: str) -> str:
    return f'"{word}"'


def _origin(location: Location, layers: Sequence[Layer]) -> Layer:
    """The strongest layer that holds *location*, or, for a key that is missing, the section around it."""
    for end in range(len(location), 0, -1):
        for layer in reversed(layers):
            if _holds(layer.data, location[:end]):
                return layer
    return layers[-1]


def _holds(data: Any, location: Location) -> bool:
    for part in location:
        if isinstance(part, int):
            # One table or one text where a list may be stands for a list of one.
            if isinstance(data, Sequence) and not isinstance(data, str):
                if part >= len(data):
                    return False
                data = data[part]
        elif isinstance(data, Mapping) and part in data:
            data = data[part]
        else:
            return False
    return True
