"""Which keys there are: the model as a tree of names, to look up types and the nearest of a misspelt key."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

Path = tuple[str, ...]
Location = tuple[str | int, ...]
"""A path with the indices of arrays of tables: ``("node", 1, "dsn")``."""


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a key of this type holds, optional or in an array; None for a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if is_array(annotation) or get_origin(annotation) in (Union, types.UnionType):
        return next(filter(None, map(section_of, get_args(annotation))), None)
    return None


def is_array(annotation: Any) -> bool:
    """Whether a key of this type holds a list."""
    return get_origin(annotation) is tuple


def choices_of(annotation: Any) -> tuple[str, ...]:
    """The words that a key of this type may be; empty when it is no choice of words."""
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def find(model: type[BaseModel], path: Path) -> Any:
    """The type of the key at *path*, through arrays of tables as well; None when there is no such key."""
    annotation: Any = model
    for name in path:
        section = section_of(annotation)
        if section is None or name not in section.model_fields:
            return None
        annotation = section.model_fields[name].annotation
    return annotation


@cache
def all_paths(model: type[BaseModel]) -> tuple[Path, ...]:
    """Every key and every section of *model*, in its order."""
    return tuple(_walk(model, ()))


def _walk(model: type[BaseModel], prefix: Path) -> Iterator[Path]:
    for name, field in model.model_fields.items():
        yield (*prefix, name)
        section = section_of(field.annotation)
        if section is not None:
            yield from _walk(section, (*prefix, name))


@cache
def variables(model: type[BaseModel]) -> dict[str, Path]:
    """Each key by its environment variable, in lower case, without prefix; an array of tables is one key."""
    found: dict[str, Path] = {}
    for path in all_paths(model):
        if not any(is_array(find(model, path[:end])) for end in range(1, len(path))):
            found["__".join(path)] = path
    return found


def nearest(word: str, known: list[str]) -> str | None:
    """The one of *known* that *word* most likely was to be; None when none is near."""
    found = difflib.get_close_matches(word.lower(), known, n=1)
    return found[0] if found else None


def suggestion(model: type[BaseModel], path: Path) -> str:
    """What to say of the unknown key *path*: the nearest beside it, or below that, or all there are."""
    section = section_of(find(model, path[:-1])) if len(path) > 1 else model
    beside = list(section.model_fields) if section else []
    near = nearest(path[-1], beside)
    if near is None:
        # A section left out ("cache.size"). Not one of another section: "cache.l2.enabled" is not "cache.enabled".
        around = path[:-1]
        deeper = [known for known in all_paths(model) if len(known) > len(path)]
        below = [".".join(known) for known in deeper if known[: len(around)] == around]
        near = nearest(".".join(path), below)
    if near is not None:
        return f'did you mean "{near}"?'
    return f"known here: {', '.join(beside)}"


def dotted(location: Location) -> str:
    """``("node", 1, "dsn")`` as ``node[1].dsn``."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def names_of(location: Location) -> Path:
    """*location* without indices."""
    return tuple(part for part in location if isinstance(part, str))
