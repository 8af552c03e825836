"""One way to write a test for the blocking and the asyncio connection: `Blocking` makes asyncio objects block."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import psycopg

import heliosproxy
from heliosproxy import dbapi


class Blocking:
    """An asyncio object whose coroutines are run to their end on *loop* at once."""

    def __init__(self, target: Any, loop: asyncio.AbstractEventLoop) -> None:
        object.__setattr__(self, "target", target)
        object.__setattr__(self, "_loop", loop)

    def __getattr__(self, name: str) -> Any:
        return self._made(getattr(self.target, name))

    def __setattr__(self, name: str, value: Any) -> None:
        setter = getattr(self.target, f"set_{name}", None)
        if setter is None:
            setattr(self.target, name, value)
        else:
            self._run(setter(value))

    def __enter__(self) -> Any:
        return self._made(self._run(self.target.__aenter__()))

    def __exit__(self, *error: Any) -> Any:
        return self._run(self.target.__aexit__(*error))

    def __iter__(self) -> Iterator[Any]:
        if not hasattr(self.target, "__aiter__"):
            yield from self.target
            return
        iterator = self.target.__aiter__()
        while True:
            try:
                yield self._run(iterator.__anext__())
            except StopAsyncIteration:
                return

    def _run(self, awaitable: Any) -> Any:
        async def awaited() -> Any:
            return await awaitable

        return self._loop.run_until_complete(awaited())

    def _made(self, value: Any) -> Any:
        if inspect.isawaitable(value):
            return self._made(self._run(value))
        if inspect.isroutine(value) or inspect.ismethod(value):
            return lambda *args, **kwargs: self._made(value(*map(bare, args), **kwargs))
        if hasattr(value, "__aenter__") or hasattr(value, "__anext__"):
            return Blocking(value, self._loop)
        return value


def bare(value: Any) -> Any:
    """*value* as psycopg and heliosproxy know it."""
    return value.target if isinstance(value, Blocking) else value


class Face:
    """The blocking face.

    Attributes:
        connection_class: heliosproxy's connection class.
        stock: psycopg's own module attributes by the name of the blocking one: ``face.stock("ClientCursor")``.
    """

    is_async = False
    connection_class: Any = dbapi.Connection

    def connect(self, dsn: Any = "", **keywords: Any) -> Any:
        return heliosproxy.connect(dsn, **keywords)

    def open(self, proxy: heliosproxy.Proxy, dsn: Any = "", **keywords: Any) -> Any:
        return proxy.connect(dsn, **keywords)

    def plain(self, dsn: str, **keywords: Any) -> Any:
        return psycopg.connect(dsn, **keywords)

    def stock(self, name: str) -> Any:
        return getattr(psycopg, name)

    def ours(self, name: str) -> Any:
        return getattr(dbapi, name)

    def make(self, factory: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        """``factory(*args)`` with connections as the library knows them, the outcome made blocking."""
        return factory(*map(bare, args), **keywords)

    def close(self) -> None:
        pass


class AsyncFace(Face):
    """The asyncio face, made blocking."""

    is_async = True
    connection_class = dbapi.AsyncConnection

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()

    def connect(self, dsn: Any = "", **keywords: Any) -> Any:
        return self._made(heliosproxy.connect_async(dsn, **keywords))

    def open(self, proxy: heliosproxy.Proxy, dsn: Any = "", **keywords: Any) -> Any:
        return self._made(proxy.connect_async(dsn, **keywords))

    def plain(self, dsn: str, **keywords: Any) -> Any:
        return self._made(psycopg.AsyncConnection.connect(dsn, **keywords))

    def stock(self, name: str) -> Any:
        return getattr(psycopg, f"Async{name}")

    def ours(self, name: str) -> Any:
        return getattr(dbapi, f"Async{name}")

    def make(self, factory: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        return self._made(factory(*map(bare, args), **keywords))

    def close(self) -> None:
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def _made(self, value: Any) -> Any:
        return Blocking(None, self.loop)._made(value)
