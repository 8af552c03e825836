"""``heliosproxy serve``: in the foreground, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import ConfigError, UnsupportedError
from .login.users import refuse_unsafe
from .running import listen, new_loop
from .service import Service

if TYPE_CHECKING:
    from ..config import Config

logger = logging.getLogger("heliosproxy.server")

DRAIN = 30.0
"""Seconds that clients are given to end their transactions after SIGTERM; SIGINT gives them none."""


def run(config: Config, started: Callable[[list[str]], None] | None = None) -> None:
    """Serve as *config* says, until a signal ends it: SIGTERM waits for open transactions, SIGINT does not.

    Args:
        started: called with the addresses as soon as clients can connect.

    Raises:
        ConfigError: there is no server to connect to; an address cannot be listened on, or is not safe.
        UnsupportedError: what this version does not have.
    """
    from ..proxy import Proxy

    if not config.node:
        raise ConfigError("no server: give a DSN, or a configuration with a [[node]]", key="node")
    server = config.server
    if server is None:
        raise ConfigError("no [server] section, and no --listen", key="server.listen")
    if server.workers > 1:
        raise UnsupportedError("server.workers: more than 1 is not available in this version")
    loop = new_loop()
    try:
        with Proxy(config) as proxy:
            service = Service(proxy, server)
            refuse_unsafe(server.listen, service.accounts, service.tls is not None)
            loop.run_until_complete(_serve(service, list(server.listen), started))
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def _serve(service: Service, addresses: list[str], started: Callable[[list[str]], None] | None) -> None:
    loop = asyncio.get_running_loop()
    told: asyncio.Future[signal.Signals] = loop.create_future()
    hurry = asyncio.Event()

    def tell(which: signal.Signals) -> None:
        if told.done() or which is signal.SIGINT:
            hurry.set()
        if not told.done():
            told.set_result(which)

    for which in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(which, tell, which)
    # Else it would end us, and whoever sends it means another thing.
    loop.add_signal_handler(
        signal.SIGHUP, logger.warning, "SIGHUP: reloading the configuration is not available in this version"
    )
    try:
        servers = await listen(service, addresses)
    except OSError as error:
        raise ConfigError(f"server.listen: {error}", key="server.listen") from None
    if started is not None:
        started(addresses)
    try:
        which = await told
        logger.info("%s: no new clients; waiting for transactions to end", which.name)
        for server in servers:
            server.close()
        await service.drain(0.0 if hurry.is_set() else DRAIN, hurry)
    finally:
        await service.close()
