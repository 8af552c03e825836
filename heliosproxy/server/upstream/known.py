"""The prepared statements that one server connection knows, by names of ours."""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice

MOST = 500
"""Statements kept prepared on one server connection: each costs it some 10 to 100 kB for its plan."""


PREFIX = b"helios_"
"""How the names of ours begin."""


class Known:
    """What one server connection has prepared, the longest unused first.

    Attributes:
        unnamed: what its unnamed statement is, as far as we prepared it; None = nobody can tell.
    """

    __slots__ = ("_names", "unnamed")

    def __init__(self) -> None:
        self._names: OrderedDict[bytes, None] = OrderedDict()
        self.unnamed: object = None

    def __contains__(self, name: bytes) -> bool:
        if name in self._names:
            self._names.move_to_end(name)
            return True
        return False

    def __len__(self) -> int:
        """How many there are."""
        return len(self._names)

    def oldest(self) -> bytes:
        """The longest unused one; there must be one."""
        return next(iter(self._names))

    def add(self, name: bytes) -> None:
        """*name* was prepared."""
        self._names[name] = None

    def discard(self, name: bytes) -> None:
        """*name* was closed."""
        self._names.pop(name, None)

    def surplus(self) -> list[bytes]:
        """Names to be closed: those beyond what is kept."""
        return list(islice(self._names, max(0, len(self._names) - MOST)))

    def clear(self) -> list[bytes]:
        """Nothing is prepared any more; returns what was."""
        found = list(self._names)
        self._names.clear()
        self.unnamed = None
        return found
