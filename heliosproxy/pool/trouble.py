"""The errors of a pool, in words: which pool, how full, which limit, how long it was waited for."""

from __future__ import annotations

from ..errors import PoolClosed, PoolTimeout, TooManyRequests
from .core import Core
from .parts import S, Stock

AT_ONCE = 0.001
"""Seconds below which nobody can be said to have waited."""


def timed_out(name: str, stock: Stock[S], core: Core[S], waited: float) -> PoolTimeout:
    if stock.paused:
        return PoolTimeout(
            f"pool {name} is paused, and was not resumed within {waited:.3g} s: RESUME on the console serves it again"
        )
    if stock.may_grow:
        limit, advice = core.cap, "raise pool.server_connections"
        elsewhere = core.size - stock.size
        others = f", other pools hold {elsewhere}" if elsewhere else ""
    else:
        limit, advice, others = stock.options.max_size, "raise the pool's max_size", ""
    leased = len(stock.servers) - len(stock.idle)
    bound = "" if limit is None else f" of {limit}"
    opening = f" and {stock.connecting} being opened" if stock.connecting else ""
    waiting = max(0, len(stock.queue) - 1)  # without the one who is told
    when = "is free at once" if waited < AT_ONCE else f"became free within {waited:.3g} s"
    return PoolTimeout(
        f"no server connection {when}: pool {name} has {leased}{bound} leased{opening}{others}, {waiting} others "
        f"waiting; {advice}, or shorten transactions; in session mode close connections sooner, or use another mode"
    )


def too_many(name: str, stock: Stock[S]) -> TooManyRequests:
    return TooManyRequests(
        f"pool {name} has {len(stock.queue)} requests waiting for {stock.size} server connections, "
        f"and pool.max_waiting is {stock.options.max_waiting}"
    )


def closed(name: str, proxy: bool = False) -> PoolClosed:
    if proxy:
        return PoolClosed("the Proxy was closed, and its connections with it: open a new one")
    return PoolClosed(f"pool {name} is closed")
