"""``proxy.cache`` where the cache is off: an application that steers its cache goes on without one."""

from __future__ import annotations

from typing import Any

from .names import check_names


class NoCache:
    """What `CacheService` offers applications, over nothing."""

    memory = None

    def invalidate(self, *names: str) -> int:
        """Nothing: there is nothing to forget.

        Returns:
            0.

        Raises:
            ConfigError: as that of a cache that is on.
        """
        check_names(names)
        return 0

    def flush(self) -> int:
        """Nothing: there is nothing to forget.

        Returns:
            0.
        """
        return 0

    def stats(self) -> dict[str, Any]:
        """The counters of a cache that is on, all 0; ``scope`` is "off"."""
        numbers = ("stores", "invalidations", "entries", "bytes", "evictions", "expired")
        return {
            "hits": 0,
            "misses": 0,
            "bypasses": {},
            "refused": {},
            **dict.fromkeys(numbers, 0),
            "scope": "off",
        }
