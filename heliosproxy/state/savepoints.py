"""States to return to by name: what SAVEPOINT, RELEASE and ROLLBACK TO mean for anything that a session remembers."""

from __future__ import annotations

from typing import Generic, TypeVar

State = TypeVar("State")


class Savepoints(Generic[State]):
    """The savepoints of one transaction, each with a state that nobody changes any more."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: list[tuple[str, State]] = []

    @property
    def names(self) -> list[str]:
        """Those there are, the oldest first; a name may come twice."""
        return [name for name, _ in self._kept]

    def keep(self, name: str, state: State) -> None:
        """SAVEPOINT *name*."""
        self._kept.append((name, state))

    def release(self, name: str) -> None:
        """RELEASE *name*: it and the savepoints after it are gone."""
        if (i := self._find(name)) is not None:
            del self._kept[i:]

    def back_to(self, name: str) -> State | None:
        """ROLLBACK TO *name*: the state to return to, None when there is no such savepoint; it stays itself."""
        if (i := self._find(name)) is None:
            return None
        del self._kept[i + 1 :]
        return self._kept[i][1]

    def clear(self) -> None:
        """The transaction is over."""
        if self._kept:
            self._kept = []

    def _find(self, name: str) -> int | None:
        # The latest of equal names is meant (SQL Commands, SAVEPOINT).
        for i in range(len(self._kept) - 1, -1, -1):
            if self._kept[i][0] == name:
                return i
        return None
