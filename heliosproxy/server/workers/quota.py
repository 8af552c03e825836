"""How the workers of a server share the cap on server connections: pure arithmetic.

Law, which the tests check: over all workers, the larger of what each may have and what each has never exceeds the
cap by more than it did before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

WORTH = 1.0
"""Server connections that a worker must be short of before others give theirs up: reconnecting costs, too."""

_MEMORY = 0.5  # the part of what was wanted before in what is believed to be wanted now


@dataclass(slots=True)
class Holder:
    """One worker's part.

    Attributes:
        quota: server connections it may have.
        size: those it has, or is opening.
        wanted: those it could use: leased ones and its queue, over the last reports.
        waits: somebody was queued at its last report.
    """

    quota: int
    size: int = 0
    wanted: float = 0.0
    waits: bool = False

    def report(self, size: int, leased: int, waiting: int) -> None:
        """What the worker has told of itself."""
        self.size = size
        self.wanted = _MEMORY * self.wanted + (1 - _MEMORY) * (leased + waiting)
        self.waits = waiting > 0


def first(cap: int, number: int) -> list[int]:
    """The quotas of *number* workers of which nothing is known."""
    return [cap // number + (at < cap % number) for at in range(number)]


def spread(cap: int, holders: Mapping[int, Holder]) -> dict[int, int]:
    """What is nobody's goes to those with less than an even part: larger quotas, by worker."""
    even = first(cap, len(holders)) if holders else []
    free = cap - sum(max(holder.quota, holder.size) for holder in holders.values())
    raised: dict[int, int] = {}
    for part, (worker, holder) in zip(even, holders.items(), strict=True):
        more = min(free, part - max(holder.quota, holder.size))
        if more > 0:
            raised[worker] = max(holder.quota, holder.size) + more
            free -= more
    return raised


def rebalanced(cap: int, holders: Mapping[int, Holder]) -> dict[int, int]:
    """The quotas that are to change now, by worker; empty while nobody is short of anything.

    One that loses is told at once, one that gains only as far as the others have really given up.
    """
    ideal = _ideal(cap, {worker: holder.wanted for worker, holder in holders.items()})
    short = any(holder.waits and ideal[worker] - holder.quota >= WORTH for worker, holder in holders.items())
    over = sum(holder.quota for holder in holders.values()) > cap
    if not short and not over:
        return {}
    changed = {worker: ideal[worker] for worker, holder in holders.items() if ideal[worker] < holder.quota}
    taken = sum(max(changed.get(worker, holder.quota), holder.size) for worker, holder in holders.items())
    for worker, holder in holders.items():
        missing = ideal[worker] - max(holder.quota, holder.size)
        gained = min(missing, cap - taken)
        if gained > 0 and worker not in changed:
            changed[worker] = max(holder.quota, holder.size) + gained
            taken += gained
    return changed


def _ideal(cap: int, wanted: Mapping[int, float]) -> dict[int, int]:
    """Everybody what it wants, the rest evenly; where that is too much, nobody less than who gets more wants."""
    parts = dict.fromkeys(wanted, 0)
    left = cap
    while left and (hungry := [worker for worker in parts if parts[worker] < wanted[worker]]):
        # A round at a time: the numbers are small, and whole.
        each = max(1, min(left // len(hungry), int(min(wanted[w] - parts[w] for w in hungry))))
        for worker in hungry[:left]:
            parts[worker] += each
            left -= each
    for at, worker in enumerate(parts):
        parts[worker] += left // len(parts) + (at < left % len(parts))
    return parts
