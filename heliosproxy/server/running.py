"""Listening, and running until told to stop: in this process, or in a thread of an application."""

from __future__ import annotations

import asyncio
import inspect
import shutil
import socket
import tempfile
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ..config import from_options
from ..config.features import Server
from ..errors import ConfigError
from .checks import refuse_unservable
from .client.timed import client_of
from .service import Service
from .workers.sockets import BACKLOG, Listening

if TYPE_CHECKING:
    from ..proxy import Proxy


def new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's event loop where that is installed, else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


async def accept(service: Service, sockets: Sequence[socket.socket]) -> list[asyncio.Server]:
    """Accept the clients of listening *sockets*."""
    loop = asyncio.get_running_loop()
    servers: list[asyncio.Server] = []
    for each in sockets:
        if each.family == socket.AF_UNIX:
            # asyncio would remove the file when it closes: others still listen there.
            keep: Any = {"cleanup_socket": False} if _removes(loop) else {}
            make = loop.create_unix_server
            server = await make(lambda: client_of(service), sock=each, backlog=BACKLOG, **keep)
        else:
            server = await loop.create_server(lambda: client_of(service), sock=each, backlog=BACKLOG)
        servers.append(server)
    return servers


def _removes(loop: asyncio.AbstractEventLoop) -> bool:
    return "cleanup_socket" in inspect.signature(loop.create_unix_server).parameters


class Serving:
    """A server in a thread of this process, on a Unix socket of its own. Made by `heliosproxy.serve`.

    Attributes:
        proxy: whose path the clients take.
        url: the connection string for any PostgreSQL client of this machine and user.
    """

    def __init__(self, proxy: Proxy, *, own: bool, addresses: Sequence[str] = ()) -> None:
        refuse_unservable(proxy.config, addresses)
        self.proxy = proxy
        self._own = own
        self._service = Service(proxy, proxy.config.server or Server())
        self._folder = "" if addresses else tempfile.mkdtemp(prefix="helios")
        self._listening = Listening(list(addresses) or [f"{self._folder}:5432"])
        self._started = threading.Event()
        self._error: BaseException | None = None
        self._loop = new_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="heliosproxy serve", daemon=True)
        self._thread.start()
        self._started.wait()
        self._raise()

    @property
    def url(self) -> str:
        """A connection string: host, port and database of the first address."""
        from psycopg.conninfo import conninfo_to_dict

        dsn = self.proxy.config.node[0].dsn.get_secret_value()
        given = conninfo_to_dict(dsn)
        user, database = given.get("user") or "", given.get("dbname") or given.get("user") or ""
        host, _, port = self._listening.addresses[0].rpartition(":")
        return f"postgresql://{user}@/{database}?host={host}&port={port}"

    def _raise(self) -> None:
        if self._error is not None:
            self.close()
            raise self._error

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main())
        except BaseException as error:  # noqa: BLE001 - told to whoever waits for the start
            self._error = error
        finally:
            self._started.set()
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    async def _main(self) -> None:
        service = self._service
        servers = await accept(service, self._listening.of(0))
        self._started.set()
        await self._stop.wait()
        for server in servers:
            server.close()
        await service.close()
        if self._own:
            self.proxy.close()

    def close(self) -> None:
        """Hang up on the clients, close the server connections, end the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
        self._listening.close()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def serve(config: Any = "", **options: Any) -> Serving:
    """A server in a thread of this process; see `heliosproxy.serve`."""
    from ..proxy import Proxy

    if isinstance(config, Proxy):
        if options:
            raise ConfigError(f"{', '.join(sorted(options))}: options of a Proxy are given when it is made")
        return Serving(config, own=False)
    made = from_options(options)
    if config:
        made = made.with_dsn(config)
    return Serving(Proxy(made), own=True)
