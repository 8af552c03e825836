"""Engines of both colours over one server; SQLAlchemy's ``run_sync`` lets a test body be written once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

import heliosproxy
from heliosproxy.sqlalchemy import proxy_of


class Sync:
    """Engines that block."""

    name = "sync"

    def engine(self, url: Any, **keywords: Any) -> Any:
        return sa.create_engine(url, **keywords)

    def run(self, engine: Any, body: Callable[[sa.Connection], Any]) -> Any:
        """*body* of a connection of *engine*."""
        with engine.connect() as connection:
            return body(connection)

    def session(self, engine: Any, body: Callable[[Session], Any], **keywords: Any) -> Any:
        """*body* of an ORM session of *engine*."""
        with Session(engine, **keywords) as session:
            return body(session)

    def dispose(self, engine: Any) -> None:
        engine.dispose()


class Async:
    """Engines of asyncio, all in one loop."""

    name = "async"

    def __init__(self) -> None:
        self.loop = asyncio.Runner()

    def engine(self, url: Any, **keywords: Any) -> AsyncEngine:
        return create_async_engine(url, **keywords)

    def run(self, engine: Any, body: Callable[[sa.Connection], Any]) -> Any:
        async def run() -> Any:
            async with engine.connect() as connection:
                return await connection.run_sync(body)

        return self.loop.run(run())

    def session(self, engine: Any, body: Callable[[Session], Any], **keywords: Any) -> Any:
        async def run() -> Any:
            async with AsyncSession(engine, **keywords) as session:
                return await session.run_sync(body)

        return self.loop.run(run())

    def dispose(self, engine: Any) -> None:
        self.loop.run(engine.dispose())


@pytest.fixture(params=[Sync, Async], ids=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = request.param()
    yield made
    if isinstance(made, Async):
        made.loop.close()


@pytest.fixture
def url(dsn: str) -> sa.URL:
    """The URL of our dialect, without options."""
    return sa.make_url(dsn).set(drivername="postgresql+heliosproxy")


@pytest.fixture
def make(colour: Any, url: sa.URL) -> Iterator[Callable[..., Any]]:
    """``make(helios_cache=True)``: an engine over a Proxy of its own; both are closed behind the test."""
    engines: list[Any] = []
    proxies: list[heliosproxy.Proxy] = []

    def make(mode: str = "transaction", *, proxy: dict[str, Any] | None = None, **keywords: Any) -> Any:
        options = {name: keywords.pop(name) for name in [*keywords] if name.startswith("helios_")}
        proxies.append(heliosproxy.Proxy(helios_mode=mode, **options, **(proxy or {})))
        engines.append(colour.engine(url, helios_proxy=proxies[-1], **keywords))
        return engines[-1]

    yield make
    for engine in engines:
        colour.dispose(engine)
    for proxy in proxies:
        stats = proxy.stats()
        proxy.close()
        assert stats["connections"] == 0, "logical connections still open"


@pytest.fixture
def leases() -> Callable[[Any], int]:
    """How often a server connection was leased for an engine."""

    def count(engine: Any) -> int:
        pools = proxy_of(engine).stats()["pools"].values()
        return sum(int(pool["requests_num"]) for pool in pools)

    return count


@pytest.fixture
def leased() -> Callable[[Any], int]:
    """How many server connections are leased now."""

    def count(engine: Any) -> int:
        pools = proxy_of(engine).stats()["pools"].values()
        return sum(int(pool["pool_size"] - pool["pool_available"]) for pool in pools)

    return count
