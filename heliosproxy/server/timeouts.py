"""How long clients may take: one look at all of them from time to time, so that a statement costs nothing."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from .client.timed import TimedLink

if TYPE_CHECKING:
    from .service import Service

logger = logging.getLogger("heliosproxy.server")

SELDOM = 1.0
"""Seconds between two looks at most, and how late a client may be found out."""


class Timeouts:
    """Looks at the clients of *service* every second, or ten times within the shortest of its time-outs.

    It runs only while there are clients and a time-out is configured.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._timer: asyncio.TimerHandle | None = None

    @property
    def shortest(self) -> float:
        """Seconds of the shortest time-out of clients that are logged in; 0 = there is none."""
        settings = self._service.settings
        given = (settings.idle_timeout, settings.idle_transaction_timeout, settings.query_timeout)
        return min((seconds for seconds in given if seconds), default=0.0)

    def start(self) -> None:
        """There is a client."""
        if self._timer is None and (shortest := self.shortest):
            period = min(SELDOM, shortest / 10)
            self._timer = asyncio.get_running_loop().call_later(period, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for link in list(self._service.links.values()):
            try:
                if isinstance(link, TimedLink):
                    link.look(now)
            except Exception:  # a mistake of ours: the others are to be looked at
                logger.exception("the time-outs of %s could not be looked at", link.peer)
        if self._service.links:
            self.start()
