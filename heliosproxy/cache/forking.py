"""What a forked child must do anew: locks that a thread of the parent may have held, claims, flights."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """An object that cannot be used in a forked child as the parent left it."""

    def after_fork(self) -> None:
        """Runs in the child, before any other Python code of it; must not wait for anything."""


_living: WeakSet[Forkable] | None = None


def register(obj: Forkable) -> None:
    """Call ``obj.after_fork()`` in every child forked while *obj* lives."""
    global _living  # hooks of os cannot be removed: one for the module, registered by its first user
    if _living is None:
        _living = WeakSet()
        os.register_at_fork(after_in_child=_after_fork)
    _living.add(obj)


def _after_fork() -> None:
    for obj in list(_living or ()):
        obj.after_fork()
