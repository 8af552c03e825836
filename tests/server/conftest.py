"""Servers of the wire face: a Proxy served from a thread, over a real database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

import heliosproxy


class Served:
    """One server and its clients; closed, and found empty, behind the test.

    Attributes:
        proxy: the Proxy that is served.
        url: where its clients connect.
        dsn: the database itself.
    """

    def __init__(self, dsn: str, **options: Any) -> None:
        self.dsn = dsn
        stages = options.pop("stages", ())
        config = {"node": [{"name": "primary", "dsn": dsn}]}
        self.proxy = heliosproxy.Proxy(config, stages=stages, **options)
        self.serving = heliosproxy.serve(self.proxy)
        self.url = self.serving.url
        self._clients: list[Any] = []

    def connect(self, **keywords: Any) -> psycopg.Connection[Any]:
        """A client, in autocommit unless it says otherwise."""
        client = psycopg.connect(self.url, **{"autocommit": True, **keywords})
        self._clients.append(client)
        return client

    def direct(self, **keywords: Any) -> psycopg.Connection[Any]:
        """A connection past the proxy."""
        client = psycopg.connect(self.dsn, **{"autocommit": True, **keywords})
        self._clients.append(client)
        return client

    @property
    def pool(self) -> dict[str, Any]:
        """The numbers of the one pool."""
        (pool,) = self.proxy.stats()["pools"].values()
        return pool  # type: ignore[no-any-return]

    @property
    def leased(self) -> int:
        """Server connections leased now."""
        return int(self.pool["pool_size"] - self.pool["pool_available"])

    def settles(self, leased: int = 0) -> bool:
        """Whether so many are leased soon: what a client sees comes before its lease is back."""
        with psycopg.connect(self.dsn, autocommit=True) as clock:
            for _ in range(500):
                if self.leased == leased:
                    return True
                clock.execute("SELECT pg_sleep(0.01)")
        return False

    def close(self) -> None:
        for client in self._clients:
            client.close()
        try:
            pools = self.proxy.stats()["pools"]
            assert not pools or self.settles(), f"server connections still leased: {pools}"
        finally:
            self.serving.close()
            self.proxy.close()


@pytest.fixture
def served(dsn: str) -> Iterator[Callable[..., Served]]:
    """``served("transaction", helios_cache=True)``: a server in this mode."""
    made: list[Served] = []

    def make(mode: str = "transaction", **options: Any) -> Served:
        made.append(Served(dsn, helios_mode=mode, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def one_server(served: Callable[..., Served]) -> Served:
    """Transaction mode with a single server connection: who comes next gets the one before's."""
    return served("transaction", helios_server_connections=1, helios_pool_timeout=5)
