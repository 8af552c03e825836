"""Orders that stand until they are revoked: a worker that starts later must know them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..control import Control

_ORDERS = {"pause": "stay_paused", "disable": "disable"}
_REVOKED = {"resume": "pause", "enable": "disable"}


class Standing:
    """The databases that are paused or disabled, as the requests that pass tell."""

    def __init__(self) -> None:
        self._orders: set[tuple[str, str]] = set()

    def passing(self, do: str, args: list[Any]) -> None:
        """*do* is passed on to the workers."""
        database = args[0] if args else ""
        if do in _ORDERS:
            self._orders.add((do, database))
        elif do in _REVOKED:
            order = _REVOKED[do]
            self._orders = {
                known for known in self._orders if known[0] != order or (database and known[1] != database)
            }

    def apply(self, control: Control) -> None:
        """Let a new process follow them."""
        for do, database in self._orders:
            control.handlers[_ORDERS[do]](database)
