"""The clients of one process, and what they share: where all that serves them hangs together."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from .cancelling import Cancelling
from .control import Control
from .homes import Homes
from .keepalive import of_clients
from .limits import Limits
from .login import tls
from .login.accounts import Accounts
from .login.authenticators import authenticator_of
from .login.certificates import certificate_of, end_point_hash
from .reception import Reception
from .timeouts import Timeouts
from .workers.doors import Doors, FarDoors
from .workers.peers import Alone, Peers

if TYPE_CHECKING:
    from ..config.features import Server
    from ..proxy import Proxy
    from .client.conversation import Conversation
    from .client.link import Link
    from .client.replication import Replication
    from .client.startup import Greeting
    from .console.console import Console
    from .upstream.connection import Upstream

logger = logging.getLogger("heliosproxy.server")

_UNREAD = 50  # hundredths of a second in which a client may read that it is hung up on


class Service:
    """The clients of one process, and what they share. Whoever makes one has asked `checks` whether it can be served.

    Attributes:
        proxy: whose path they take.
        settings: the ``[server]`` section.
        accounts, authenticator: who may log in, and how that is found out.
        tls: of the listeners; None = there is none.
        binding: hash of our certificate, for channel binding; None where there is none.
        since: when it was made, on the monotonic clock.
        limits: how many clients there may be.
        doors: where they are counted.
        timeouts: how long they may take.
        keepalive: socket options of those on TCP.
        links: the clients that are connected, by their process number.
        homes: the pools, as their clients see them.
        reception: how clients get in.
        cancelling: what ends their statements before the time.
        control: what an operator may do to them.
        peers: the line to the other processes of the server.
    """

    def __init__(self, proxy: Proxy, settings: Server) -> None:
        self.proxy = proxy
        self.settings = settings
        self.reception = Reception(self)
        self.cancelling = Cancelling(self)
        self.control = Control(self)
        self.homes = Homes(proxy, self.control.is_paused)
        self.peers: Peers | Alone = Alone(self.control.handlers)
        accounts = Accounts(proxy.config.user, settings.auth_query)
        self.accounts = accounts
        self.authenticator = authenticator_of(accounts)
        self.tls: ssl.SSLContext | None = None
        self.binding: bytes | None = None
        if settings.tls_cert and settings.tls_key:
            self.tls = tls.listener(settings.tls_cert, settings.tls_key)
            self.binding = end_point_hash(certificate_of(settings.tls_cert))
        for name in accounts.plain:
            logger.warning('user "%s": its password stands in the configuration as it is', name)
        self.since = time.monotonic()
        self.limits = Limits(settings, proxy.config.pool.max_connections, proxy.config.user)
        self.doors: Doors | FarDoors = Doors(self.limits)
        self.timeouts = Timeouts(self)
        self.keepalive = of_clients(settings)
        self.links: dict[int, Link] = {}
        self._everybody: set[Link] = set()

    def number(self, serial: int) -> None:
        """This process is the worker *serial*."""
        self.reception.number(serial)
        if self.settings.workers > 1:
            # Part of the names of pools, because their errors count what this process has and may have.
            self.homes.share = f" (worker {serial}'s share)"

    def arrived(self, link: Link) -> None:
        """A client is connected; nothing is known of it yet."""
        self._everybody.add(link)

    def left(self, link: Link) -> None:
        """A client is gone."""
        self._everybody.discard(link)
        if self.links.get(link.pid) is link:
            del self.links[link.pid]
        if link.place is not None:
            link.place.free()

    @property
    def busy(self) -> bool:
        """Whether anybody is connected, if only to log in."""
        return bool(self._everybody)

    async def drain(self, seconds: float, hurry: asyncio.Event) -> None:
        """Hang up on every client as soon as it has nothing under way; returns when none is left, or it is time."""
        end = asyncio.get_running_loop().time() + seconds
        while self._everybody and not hurry.is_set() and asyncio.get_running_loop().time() < end:
            for link in list(self._everybody):
                if link.conversation is None or link.conversation.at_rest:
                    link.dismiss()
            with suppress(TimeoutError):
                await asyncio.wait_for(hurry.wait(), 0.05)

    async def close(self) -> None:
        """Hang up on everybody, clients and servers; returns when the sockets are closed, or after a second."""
        self.timeouts.stop()
        for link in list(self._everybody):
            link.dismiss()
        self.cancelling.close()
        for home in self.homes.values():
            home.close()
        for again in range(100):
            if again == _UNREAD:
                for link in list(self._everybody):
                    link.transport.abort()
            if not self._everybody and not any(home.upstreams for home in self.homes.values()):
                return
            await asyncio.sleep(0.01)

    # -- what clients ask for ------------------------------------------------------------------------

    async def admit(self, link: Link, who: Greeting) -> Conversation | Console | Replication:
        """Let a client in; see `heliosproxy.server.reception.Reception.admit`."""
        return await self.reception.admit(link, who)

    def vacate(self, text: str) -> None:
        """A statement wants databases without sessions; see `heliosproxy.server.homes.Homes.vacate`."""
        self.homes.vacate(text)

    def cancel(self, pid: int, key: bytes, done: Callable[[], None]) -> None:
        """A cancel request; see `heliosproxy.server.cancelling.Cancelling.request`."""
        self.cancelling.request(pid, key, done)

    def cancel_on(self, server: Upstream) -> None:
        """Cancel what *server* runs now; see `heliosproxy.server.cancelling.Cancelling.on`."""
        self.cancelling.on(server)
