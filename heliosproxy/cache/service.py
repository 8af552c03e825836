"""The cache of one Proxy, as the application sees it: ``proxy.cache``."""

from __future__ import annotations

import itertools
import logging
import time
from math import inf
from typing import TYPE_CHECKING, Any

from .book import Book
from .flight import Flights
from .names import check_names
from .policy import Policy
from .stats import Stats
from .store import Store
from .versions import Versions

if TYPE_CHECKING:
    from ..config import Config
    from .rows import Rows

logger = logging.getLogger("heliosproxy.cache")


class CacheService:
    """Store, versions, policy and what is known of each database.

    Attributes:
        poll_interval: seconds between looks at the catalogue for changes made outside.
        most_contexts: distinct session states remembered per database; beyond it all are forgotten, which
            costs misses. Applications have a handful; one that sets a new value each time has no use of them.
    """

    most_contexts = 1000

    def __init__(self, config: Config, memory: Rows | None = None) -> None:
        cache = config.cache
        self.clock = time.monotonic
        self.poll_interval = cache.poll_interval
        self.versions = Versions(memory=memory)
        self.policy = Policy(
            cache.trusted_functions, cache.allow_unordered_limit, cache.query.exclude_patterns, cache.table
        )
        self.tables = cache.table
        self.store = Store(cache.l1.size, cache.l1.ttl, cache.l1.eviction, cache.query.max_result_size)
        self.stats_ = Stats(self.store)
        self.flights = Flights() if cache.query.single_flight else None
        self.flight_timeout = cache.query.single_flight_timeout
        self._books: dict[Any, Book] = {}
        self._epochs = itertools.count(1)
        self._contexts = itertools.count(1)

    @property
    def memory(self) -> Rows:
        """The counters that tell of writes, for another cache to take part in."""
        return self.versions.rows

    def book(self, pool: Any) -> Book:
        """What is known of the database of *pool*."""
        book = self._books.get(pool.key)
        if book is None or book.pool is not pool:
            book = self._books.setdefault(pool.key, Book(self, pool))
            book.pool = pool
        return book

    def next_epoch(self) -> int:
        """A number no catalogue of this Proxy had."""
        return next(self._epochs)

    def next_context(self) -> int:
        """A number no context of this Proxy had."""
        return next(self._contexts)

    def invalidate(self, *names: str) -> int:
        """Forget what was read from these relations (``"users"``, ``"shop.users"``), in every database.

        For writes that did not pass this Proxy. A name is taken as it is, not as SQL: never folded, never
        unquoted. One that no database has invalidates everything, because it may be too new to be known, and is
        logged as a warning.

        Returns:
            The number of relations invalidated; 0 when everything was.

        Raises:
            ConfigError: no name is given, or one is no text; nothing is invalidated then.
        """
        check_names(names)
        count = 0
        for name in names:
            found = 0
            for book in list(self._books.values()):
                if book.catalog is not None and (oids := book.catalog.relations_named(name)):
                    base = book.catalog.family(book.catalog.reads(oids).oids | oids)
                    self.versions.touch(book.slots(base)[1:])
                    found += len(base)
            if not found:
                self._unknown(name)
                self.flush()
                return 0
            count += found
        self.stats_.invalidated(count)
        return count

    def _unknown(self, name: str) -> None:
        if any(
            book.catalog is not None for book in list(self._books.values())
        ):  # else nothing is kept anyway
            quoted = "; names are given without quotes, in their own case" if '"' in name else ""
            logger.warning(
                "invalidate(%r): no such relation is known, so everything is forgotten%s", name, quoted
            )

    def flush(self) -> int:
        """Forget every answer, in this process and its workers; look at the catalogues anew.

        Returns:
            The number of answers this process forgot.
        """
        entries = self.store.stats()["entries"]
        self.versions.touch_all()
        for book in list(self._books.values()):
            book.next_poll = -inf
        self.store.clear()
        return entries

    def stats(self) -> dict[str, Any]:
        """Hits, misses, bypasses by reason, stores, evictions, entries, bytes; ``scope`` of the guarantee.

        ``scope`` is "proxy": writes through this Proxy and its forked workers invalidate at once, those of
        others after ``ttl``. "ttl" means that more processes write than counters were made for.
        """
        return {**self.stats_.snapshot(), "scope": "proxy" if self.versions.shared else "ttl"}
