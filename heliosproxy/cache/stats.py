"""What the cache did, in numbers."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any

from .store import Store


class Stats:
    """Counters of one cache. Thread-safe, nothing is lost between threads.

    Hits, misses and bypasses are counted by ``next()`` of an `itertools.count`, one call into C that no other thread
    can split, because a lock would cost three times as much; everything else goes to the server anyway, and
    takes the lock.

    Attributes:
        hit: count one answer from the cache.
        miss: count one statement that the cache may answer, but could not.
    """

    __slots__ = (
        "_bypasses",
        "_hits",
        "_lock",
        "_looks",
        "_misses",
        "_others",
        "_refused",
        "_store",
        "hit",
        "miss",
    )

    def __init__(self, store: Store) -> None:
        """Start at zero; *store* adds its own counters to `snapshot`."""
        self._store = store
        self._lock = threading.RLock()  # reentrant: the collector may drop, and so count, a session anywhere
        self._looks = 0
        self.hit: Callable[[], int] = count().__next__
        self.miss: Callable[[], int] = count().__next__
        # Each with the number of looks before its time.
        self._bypasses: dict[str, tuple[Callable[[], int], int]] = {}
        self._refused: Counter[str] = Counter()
        self._others: Counter[str] = Counter(stores=0, invalidations=0)

    def bypass(self, reason: str) -> None:
        """Count a statement that the cache was not asked for; *reason* is one of a fixed set of words."""
        known = self._bypasses.get(reason)
        if known is None:
            with self._lock:
                known = self._bypasses.setdefault(reason, (count().__next__, self._looks))
        known[0]()

    def stored(self) -> None:
        """Count a result that was stored."""
        with self._lock:
            self._others["stores"] += 1

    def refuse(self, reason: str) -> None:
        """Count a result that was not stored; *reason* is one of a fixed set of words."""
        with self._lock:
            self._refused[reason] += 1

    def invalidated(self, relations: int = 1) -> None:
        """Count *relations* that were invalidated."""
        with self._lock:
            self._others["invalidations"] += relations

    def snapshot(self) -> dict[str, Any]:
        """All counters now.

        Returns:
            hits, misses, stores, invalidations, and of the store entries, bytes, evictions, expired: int;
            bypasses and refused: the number per reason.
        """
        with self._lock:
            # A count tells its number only by giving it away.
            hits, misses = self.hit() - self._looks, self.miss() - self._looks
            bypasses = {word: n() - (self._looks - born) for word, (n, born) in self._bypasses.items()}
            self._looks += 1
            return {
                "hits": hits,
                "misses": misses,
                "bypasses": bypasses,
                "refused": dict(self._refused),
                **self._others,
                **self._store.stats(),
            }
