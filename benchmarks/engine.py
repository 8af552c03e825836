"""What SQLAlchemy costs with heliosproxy below it, beside SQLAlchemy over psycopg: CPU and wall time, in turns.

    python -m benchmarks.engine [--json] [--quick]

``connect + execute + close`` is what a web request does: a connection of SQLAlchemy's pool, one statement by key, and
back, rolled back. ``held`` is the statement alone, in an open transaction. ``session.get`` is the ORM's, with a session
of its own each time. ``hit`` is answered from the cache.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import heliosproxy

from .common import Turns, apart, bar, command, server

ROWS = 1000


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "engine_item"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    price: Mapped[int]


WANTED = sa.select(Item.__table__).where(Item.id == sa.bindparam("key"))
KEY = {"key": 42}


def _engines(stack: ExitStack, url: sa.URL) -> dict[str, dict[str, Any]]:
    """What create_engine() is given, by contestant."""
    proxies = {
        "transaction": heliosproxy.Proxy(helios_mode="transaction"),
        "hit": heliosproxy.Proxy(helios_mode="transaction", helios_cache=True),
    }
    for proxy in proxies.values():
        stack.callback(proxy.close)
    ours = url.set(drivername="postgresql+heliosproxy")
    return {
        "psycopg": {"url": url},
        "plugin": {"url": url, "plugins": ["heliosproxy"]},
        **{name: {"url": ours, "helios_proxy": proxy} for name, proxy in proxies.items()},
    }


def _request(engine: sa.Engine) -> Callable[[], object]:
    def request() -> object:
        with engine.connect() as connection:
            return connection.execute(WANTED, KEY).all()

    return request


def _held(stack: ExitStack, engine: sa.Engine) -> Callable[[], object]:
    connection = stack.enter_context(engine.connect())
    connection.execute(WANTED, KEY).all()
    return lambda: connection.execute(WANTED, KEY).all()


def _get(engine: sa.Engine) -> Callable[[], object]:
    def get() -> object:
        with Session(engine) as session:
            return session.get(Item, 42)

    return get


def _request_async(loop: asyncio.Runner, engine: AsyncEngine, times: int) -> Callable[[], object]:
    """*times* requests at once: starting the loop is not what is measured."""

    async def request() -> None:
        for _ in range(times):
            async with engine.connect() as connection:
                (await connection.execute(WANTED, KEY)).all()

    return lambda: loop.run(request())


def run(dsn: str | None = None, *, quick: bool = False) -> dict[str, Any]:
    """Measure; returns a section per kind of use, and the bars."""
    times, rounds = (20, 3) if quick else (300, 25)
    found: dict[str, Any] = {}
    ratios: dict[str, Turns] = {}
    with ExitStack() as stack:
        elsewhere = stack.enter_context(apart())
        dsn = stack.enter_context(server(dsn))
        with psycopg.connect(dsn) as conn:
            conn.execute("DROP TABLE IF EXISTS engine_item")
            conn.execute("CREATE TABLE engine_item (id int PRIMARY KEY, name text, price int)")
            conn.execute(
                "INSERT INTO engine_item SELECT i, 'item ' || i, i FROM generate_series(1, %s) i", (ROWS,)
            )
        elsewhere()
        url = sa.make_url(dsn).set(drivername="postgresql+psycopg")
        given = _engines(stack, url)
        engines = {name: sa.create_engine(**keywords) for name, keywords in given.items()}
        for engine in engines.values():
            stack.callback(engine.dispose)
        for title, kind in (
            ("connect + execute + close", _request),
            ("session.get", _get),
            ("held", lambda engine: _held(stack, engine)),
        ):
            ratios[title] = Turns({name: kind(engine) for name, engine in engines.items()}, times, rounds)
        loop = stack.enter_context(asyncio.Runner())
        several = {name: create_async_engine(**keywords) for name, keywords in given.items()}
        for each in several.values():
            stack.callback(lambda each=each: loop.run(each.dispose()))
        calls = {name: _request_async(loop, each, times) for name, each in several.items()}
        ratios[f"asyncio: {times} x connect + execute + close"] = Turns(calls, 1, rounds)
    for title, turns in ratios.items():
        found[title] = turns.table()
        for name, row in found[title].items():
            row["x psycopg, wall"] = turns.ratio(name, "psycopg", "wall")
    found["bars"] = _bars(ratios)
    heliosproxy.shutdown()
    return found


def _bars(ratios: dict[str, Turns]) -> dict[str, Any]:
    bars = {}
    for title, turns in ratios.items():
        if title == "held":
            bars["held, hit: x psycopg, wall"] = bar(turns.ratio("hit", "psycopg", "wall"), 0.5)
        elif title != "session.get":
            for name, most in (("transaction", 0.8), ("hit", 0.4), ("plugin", 1.1)):
                bars[f"{title}, {name}: x psycopg, wall"] = bar(turns.ratio(name, "psycopg", "wall"), most)
    return bars


def main() -> None:
    """Print a table per section, or with --json one object."""
    command(__doc__, run)


if __name__ == "__main__":
    main()
