"""Cancel requests: from whom they come, whose statement they end, and their delivery to the server."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Callable, Coroutine
from contextlib import closing
from typing import TYPE_CHECKING, Any

from .protocol import frontend
from .upstream.opening import Reach

if TYPE_CHECKING:
    from .service import Service
    from .upstream.connection import Upstream

logger = logging.getLogger("heliosproxy.server")

CANCEL = 10.0
"""Seconds for the delivery of a cancel request: its server connection is kept back meanwhile."""


class Cancelling:
    """What ends statements of the clients of *service*."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._tasks: set[asyncio.Task[Any]] = set()

    def close(self) -> None:
        """Deliver nothing more."""
        for task in self._tasks:
            task.cancel()

    def request(self, pid: int, key: bytes, done: Callable[[], None]) -> None:
        """Cancel what the client with this process number runs, if *key* is its own; it may be another worker's.

        *done* is called when it is delivered: who waits for that must not have its next statement cancelled.
        """
        if not self.here(pid, key.hex(), done):
            asked = self._service.peers.ask("others", "cancel", pid, key.hex(), within=CANCEL)
            self._in_background(asked).add_done_callback(lambda _: done())

    async def for_another(self, pid: int, key: str) -> bool:
        """As `here`, for another worker; returns when it is delivered."""
        delivered = asyncio.Event()
        found = self.here(pid, key, delivered.set)
        if found:
            await delivered.wait()
        return found

    def here(self, pid: int, key: str, done: Callable[[], None] | None = None) -> bool:
        """As `request`, in this process; whether the client is here. *key* is in hexadecimal."""
        link = self._service.links.get(pid)
        if link is None or not hmac.compare_digest(link.key.hex(), key) or link.conversation is None:
            return False
        server = link.conversation.running
        if server is not None:
            self.on(server, done)
            return True
        if link.served:
            link.conversation.cancel_wait()
        if done is not None:
            done()
        return True

    def on(self, server: Upstream, done: Callable[[], None] | None = None) -> None:
        """Cancel what *server* runs now; *done* is called when the request is delivered."""
        # From this moment on: what is read in the same round of the loop must not hand the connection on.
        server.keep()
        task = self._in_background(self._deliver(server))
        # By callbacks, because a task that is cancelled before it began runs nothing of its own.
        task.add_done_callback(lambda _: server.unkeep())
        if done is not None:
            task.add_done_callback(lambda _: done())

    def _in_background(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _deliver(self, server: Upstream) -> None:
        reach: Reach = server.address
        try:
            async with asyncio.timeout(CANCEL):
                reader, writer = await reach.connect()
                with closing(writer):
                    writer.write(frontend.cancel_request(server.backend_pid, server.secret))
                    await reader.read()  # the server hangs up once the request is delivered
        except OSError as error:  # TimeoutError is one
            server.expires_at = 0.0  # it may still be delivered, and must not hit who comes next
            reason = str(error) or "no answer"
            logger.warning("a cancel request could not be delivered to %s: %s", reach, reason)
