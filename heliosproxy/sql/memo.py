"""Facts by exact text, bounded in bytes: `Memo`."""

from __future__ import annotations

import threading

from heliosproxy.sql.hint_values import checked
from heliosproxy.sql.statement import Statement

DEFAULT_SIZE = 32 * 1024 * 1024

# A text that costs more than this share of the memo is analysed each time: it would drive out hundreds of
# others, and texts of that size hold their data, so they do not come again.
_LARGEST_SHARE = 64


class Memo:
    """Remembers the facts of texts, the recently used ones, within *size* bytes. Safe to share between
    threads.

    Two generations instead of a linked list: a hit in the young one is one look-up in a dict, without a
    lock and without moving anything. A hit in the old one moves the entry to the young. When the young
    one holds half the bytes it becomes the old one, and what was still old is forgotten.
    """

    def __init__(self, size: int = DEFAULT_SIZE) -> None:
        from heliosproxy.sql.analyse import analyse  # imports pglast, which only those who have a Proxy need

        self._analyse = analyse
        self._half = size // 2
        self._largest = size // _LARGEST_SHARE
        self._lock = threading.Lock()
        self._young: dict[str, Statement] = {}
        self._old: dict[str, Statement] = {}
        self._young_bytes = 0
        self._old_bytes = 0

    def get(self, text: str) -> Statement:
        """Return the facts of *text*; analyses it when it is not remembered.

        Raises:
            StatementRejected: as `analyse` does; nothing is remembered then.
            ConfigError: it has a hint that is not understood; nothing is remembered, so it is refused again.
        """
        found = self._young.get(text)
        if found is None:
            found = self._promote(text) or self._remember(self._analyse(text))
        return found

    @property
    def size(self) -> int:
        """Bytes held, as estimated by `Statement.cost`."""
        return self._young_bytes + self._old_bytes

    def __len__(self) -> int:
        """Texts remembered."""
        return len(self._young) + len(self._old)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._young, self._old = {}, {}
            self._young_bytes = self._old_bytes = 0

    def _promote(self, text: str) -> Statement | None:
        if text not in self._old:
            return None
        with self._lock:
            found = self._old.pop(text, None)
            if found is None:  # another thread was faster, or a generation has passed
                return self._young.get(text)
            self._old_bytes -= found.cost
            self._add(found)
            return found

    def _remember(self, statement: Statement) -> Statement:
        if statement.hints:
            checked(statement.hints)
        if statement.cost > self._largest:
            return statement
        with self._lock:
            # Two threads may have analysed one text: all callers get one object.
            known = self._young.get(statement.text)
            if known is not None:
                return known
            self._add(statement)
            return statement

    def _add(self, statement: Statement) -> None:
        self._young[statement.text] = statement
        self._young_bytes += statement.cost
        if self._young_bytes > self._half:
            self._old, self._old_bytes = self._young, self._young_bytes
            self._young, self._young_bytes = {}, 0
