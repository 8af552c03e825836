"""One process that serves clients: its loop, from the fork to the end."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any

from ..running import accept, new_loop
from . import moving
from .doors import FarDoors
from .peers import Peers

if TYPE_CHECKING:
    from ..client.link import Link
    from ..service import Service

logger = logging.getLogger("heliosproxy.server")

REPORT_EVERY = 0.25
"""Seconds between two reports of what server connections this process has and lacks."""

_STAND_STILL = 0.02
"""Seconds for which clients that are to move stand still: what was written to them reaches the kernel."""

_LOOK_EVERY = 0.25
"""Seconds between two looks whether a client has come to rest that could move."""

_SELDOM = 1.0
"""Seconds between two looks whether those who stay have left."""


class Worker:
    """One process of a server.

    Args:
        service: made before the fork, used after it.
        sockets: listening ones.
        line: to the supervisor.
        moves: where clients of older workers come in, and where this one's go when it retires.
        quota: server connections it may have at first; None = any number.
        serial: its number.
    """

    def __init__(
        self,
        service: Service,
        sockets: list[socket.socket],
        line: socket.socket,
        moves: tuple[socket.socket, socket.socket],
        quota: int | None,
        serial: int,
    ) -> None:
        self.service = service
        self._serial = serial
        service.number(serial)
        self._sockets = sockets
        self._line = line
        self._moves_in, self._moves_out = moves
        self._quota = quota
        self._servers: list[asyncio.Server] = []
        self._hurry = asyncio.Event()
        self._ending: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self._arriving: set[asyncio.Task[None]] = set()
        self._accepts = False

    def run(self) -> None:
        """Serve until told otherwise; returns when every client is gone."""
        gc.freeze()  # what there is by now stays: looking through it takes 16 ms, in which nobody is served
        loop = new_loop()
        try:
            loop.run_until_complete(self._main())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        service = self.service
        handlers: dict[str, Callable[..., Any]] = {
            **service.control.handlers,
            "drain": self.drain,
            "quota": self._resize,
            "retire": self.retire,
        }
        peers = Peers(handlers, self._orphaned)
        await loop.create_connection(lambda: peers, sock=self._line)
        service.peers = peers
        if service.limits.on:
            service.doors = FarDoors(peers, self._serial)
        pools = service.proxy.pools
        pools.on_ddl = lambda database: peers.tell("others", "ddl", database)
        if self._quota is not None:
            pools.resize(self._quota)
        loop.call_later(REPORT_EVERY, self._keep_reporting)
        # Ctrl-C reaches every process of the terminal: the supervisor decides what it means.
        loop.add_signal_handler(signal.SIGINT, lambda: None)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
        loop.add_signal_handler(signal.SIGTERM, self.drain, service.settings.drain_timeout)
        self._servers = await accept(service, self._sockets)
        loop.add_reader(self._moves_in, self._arrive)
        self._accepts = True
        peers.tell("supervisor", "ready")
        await self._ended.wait()
        await service.close()
        service.proxy.close()

    # -- what the supervisor asks for ------------------------------------------------------------------

    def drain(self, seconds: float) -> None:
        """Take no new clients, hang up on those at rest, and end when all are gone or *seconds* are over."""
        if self._ending is not None:
            self._hurry.set()  # it is asked for the second time
        else:
            self._ending = asyncio.get_running_loop().create_task(self._drain(seconds))

    def retire(self, seconds: float | None, move: bool) -> None:
        """A newer worker serves in our place: give it every client that can move, and end without the others.

        Args:
            seconds: after which the others are hung up on; None = they may stay as long as they like.
            move: False = all stay.
        """
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self._retire(seconds, move))

    def _orphaned(self) -> None:
        logger.error("the supervisor is gone: this worker ends")
        self.drain(self.service.settings.drain_timeout)

    def _close_doors(self) -> None:
        if self._accepts:
            self._accepts = False
            asyncio.get_running_loop().remove_reader(self._moves_in)
            for server in self._servers:
                server.close()

    async def _drain(self, seconds: float) -> None:
        self._close_doors()
        await self.service.drain(seconds, self._hurry)
        self._ended.set()

    async def _retire(self, seconds: float | None, move: bool) -> None:
        self._close_doors()
        loop, service = asyncio.get_running_loop(), self.service
        end = inf if seconds is None else loop.time() + seconds
        standing: list[Link] = []
        staying: set[int] = set()
        while not self._hurry.is_set() and loop.time() < end:
            for link in standing:
                # What was written to it has reached the kernel since.
                moved = moving.send(link, self._moves_out) if moving.can_move(link) else False
                if moved is None:
                    staying.add(link.pid)
                if not moved:
                    link.stand_still(False)
            links = service.links.values() if move else ()
            may_move = [link for link in links if link.encrypted is None and link.pid not in staying]
            standing = [link for link in may_move if moving.can_move(link)]
            for link in standing:
                link.stand_still(True)
            # Those that are just logging in are not among the links.
            if not service.busy and not self._arriving:
                break
            with suppress(TimeoutError):
                pause = _STAND_STILL if standing else _LOOK_EVERY if may_move else _SELDOM
                await asyncio.wait_for(self._hurry.wait(), min(pause, max(0.0, end - loop.time())))
        await service.drain(0.0, self._hurry)
        self._ended.set()

    def _arrive(self) -> None:
        for task in moving.receive(self.service, self._moves_in):
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)

    def _resize(self, quota: int) -> None:
        self.service.proxy.pools.resize(quota)
        self._report()

    def _report(self) -> None:
        core = self.service.proxy.pools.core
        leased = core.size - sum(len(stock.idle) for stock in core.stocks)
        self.service.peers.tell("supervisor", "report", core.size, leased, core.waiting)

    def _keep_reporting(self) -> None:
        pools = self.service.proxy.pools
        pools.sweep(pools.clock())  # above the quota nothing stays idle
        self._report()
        asyncio.get_running_loop().call_later(REPORT_EVERY, self._keep_reporting)
