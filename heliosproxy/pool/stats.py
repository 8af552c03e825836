"""Counters of one pool, under psycopg_pool's names."""

from __future__ import annotations

from .parts import S, Stock

_BUCKETS = 40


class Counters:
    """What cannot be derived from the stock. Changed under the pool's lock, off the hot path only.

    Waits are counted in buckets of powers of two microseconds, so that percentiles cost no memory; they are
    exact to a factor of two.
    """

    __slots__ = (
        "connections_errors",
        "connections_lost",
        "connections_num",
        "connections_time",
        "requests_errors",
        "requests_queued",
        "requests_wait",
        "returns_bad",
        "waits",
    )

    def __init__(self) -> None:
        self.connections_num = self.connections_errors = self.connections_lost = 0
        self.requests_queued = self.requests_errors = self.returns_bad = 0
        self.connections_time = self.requests_wait = 0.0
        self.waits = [0] * _BUCKETS

    def waited(self, seconds: float) -> None:
        """Count one request that was queued for *seconds*."""
        self.requests_queued += 1
        self.requests_wait += seconds
        self.waits[min(int(seconds * 1e6).bit_length(), _BUCKETS - 1)] += 1

    def wait_percentile(self, part: float) -> float:
        """Milliseconds within which *part* (0 to 1) of the queued requests were decided; 0.0 without any."""
        rank = part * self.requests_queued
        seen = 0
        for exponent, count in enumerate(self.waits):
            seen += count
            if count and seen >= rank:
                return float(2**exponent) / 1000.0
        return 0.0

    def report(self, stock: Stock[S], cap: int | None) -> dict[str, float]:
        """The counters and measures of `Pool.stats`."""
        servers = stock.servers
        uses = stock.past_uses + sum(server.uses for server in servers)
        used = stock.past_used + sum(server.used for server in servers)
        return {
            "pool_min": stock.options.min_size,
            "pool_max": stock.options.max_size or cap or 0,
            "pool_size": stock.size,
            "pool_available": len(stock.idle),
            "requests_waiting": len(stock.queue),
            "requests_num": uses + self.requests_errors,
            "requests_queued": self.requests_queued,
            "requests_wait_ms": int(self.requests_wait * 1000),
            "requests_wait_p50_ms": self.wait_percentile(0.5),
            "requests_wait_p95_ms": self.wait_percentile(0.95),
            "requests_wait_p99_ms": self.wait_percentile(0.99),
            "requests_errors": self.requests_errors,
            "usage_ms": int(used * 1000),
            "connections_num": self.connections_num,
            "connections_ms": int(self.connections_time * 1000),
            "connections_errors": self.connections_errors,
            "connections_lost": self.connections_lost,
            "returns_bad": self.returns_bad,
        }
