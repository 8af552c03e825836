"""What things cost in memory."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any, Protocol


class PGresult(Protocol):
    """What psycopg's ``PGresult`` has in all its implementations, though its protocol does not say so."""

    @property
    def pgresult_ptr(self) -> int | None:
        """The address; None when it was cleared."""


WRAPPER = 64
"""Bytes of psycopg's object around a result, its block of malloc included."""


def result_size(result: PGresult) -> int:
    """Bytes that a result of psycopg holds, malloc's own included; in constant time.

    libpq knows: ``PQresultMemorySize`` (version 12 and later), which psycopg does not show. A cell cannot be
    had in psycopg without a copy, and a sample of them would miss the one of 10 MB.
    """
    own: int | None = getattr(result, "size", None)
    if own is not None:
        return own  # no result of psycopg: bytes of another face
    # malloc rounds up each of libpq's blocks of 2 kB, and the two smaller ones of every result.
    size = _memory_size()(result.pgresult_ptr)
    return int(size + size // 128) + 48 + WRAPPER


@cache
def _memory_size() -> Any:
    """The function, of the very libpq that psycopg runs on: another's structure may differ."""
    from psycopg import pq

    file = sys.modules[pq.PGresult.__module__].__file__ or ""
    if file.endswith(".py"):  # psycopg's Python implementation, which itself loads the libpq of the system
        from psycopg.pq.misc import find_libpq_full_path

        file = find_libpq_full_path() or "libpq.so.5"
    # Of an extension module the dynamic linker also searches the libraries it was linked with.
    function = ctypes.PyDLL(file).PQresultMemorySize
    function.argtypes = [ctypes.c_void_p]
    function.restype = ctypes.c_size_t
    return function


def key_size(key: object) -> int:
    """Bytes a key holds: tuples with what is in them, as if nothing were shared with other keys."""
    size = sys.getsizeof(key)
    if isinstance(key, tuple):
        for part in key:
            size += key_size(part) if isinstance(part, tuple) else sys.getsizeof(part)
    return size
