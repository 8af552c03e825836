"""What the log says of servers that cannot be connected to: the first failure, some of the others, and the end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import psycopg

logger = logging.getLogger("heliosproxy.server")

AGAIN = 10.0
"""Seconds until another failure of the same pool is logged: every client that waits tries for itself."""

_NO_DATABASE = "3D000"


class Outage:
    """The failures of one pool to connect, since it last did.

    Args:
        name: the pool's.
        clock: seconds that only grow.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._failures = 0
        self._logged = 0.0

    def failed(self, error: psycopg.Error) -> None:
        """Connecting has failed by *error*."""
        if error.sqlstate == _NO_DATABASE:  # a client's mistake, and told to it
            return
        self._failures += 1
        now = self._clock()
        if self._failures > 1 and now - self._logged < AGAIN:
            return
        self._logged = now
        times = f" ({self._failures} times now)" if self._failures > 1 else ""
        logger.warning("no server connection for %s: %s%s", self._name, error, times)

    def over(self) -> None:
        """Connecting has succeeded."""
        if self._failures:
            logger.info("server connections for %s are there again", self._name)
            self._failures = 0
