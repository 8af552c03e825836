"""Who may have how many server connections: what `quota` reckons, told to the workers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .child import Child
from .quota import Holder, first, rebalanced, spread


class Shares:
    """The cap on server connections, among all workers.

    Args:
        children: the supervisor's, by their numbers.
        places: how many of them serve.
    """

    def __init__(self, children: Mapping[int, Child], places: int) -> None:
        self._children = children
        self._places = places

    def of_new(self, cap: int | None, place: int) -> Holder | None:
        """What a new worker begins with; None = there is no cap."""
        if cap is None:
            return None
        return Holder(max(0, min(cap - _taken(self._children.values()), first(cap, self._places)[place])))

    def balance(self, cap: int | None) -> None:
        """Give to who is short of something what others do not need."""
        if cap is None:
            return
        # Who hears nothing keeps what it has.
        cap -= _taken(child for child in self._children.values() if child.deaf)
        able = [child for child in self._children.values() if not child.deaf]
        self._tell(rebalanced(max(0, cap), _holders(able)))
        serving = [child for child in able if child.serving]
        cap -= _taken(child for child in able if not child.serving)
        self._tell(spread(max(0, cap), _holders(serving)))

    def retires(self, child: Child) -> None:
        """It needs no more than it has."""
        if child.holder is not None:
            self._tell({child.serial: child.holder.size})

    def _tell(self, quotas: Mapping[int, int]) -> None:
        for serial, quota in quotas.items():
            child = self._children[serial]
            if child.holder is not None and not child.deaf:
                child.holder.quota = quota
                child.send({"do": "quota", "args": [quota]})


def _holders(children: Iterable[Child]) -> dict[int, Holder]:
    return {child.serial: child.holder for child in children if child.holder is not None}


def _taken(children: Iterable[Child]) -> int:
    return sum(max(holder.quota, holder.size) for holder in _holders(children).values())
