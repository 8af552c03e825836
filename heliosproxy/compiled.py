"""Words for the compiler of the optional build (docs/decisions/0011): they mean nothing where nothing is compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def mypyc_attr(*attrs: str, **kwattrs: object) -> Callable[[T], T]:
    """As `mypy_extensions.mypyc_attr`, for a class that the compiler does not see."""
    return lambda cls: cls
