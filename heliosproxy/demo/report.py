"""The figures of a contest: as a dictionary, and as tables for a terminal of 80 columns."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

from heliosproxy.demo import data
from heliosproxy.demo.clients import ORDER, ZIPF
from heliosproxy.demo.contest import (
    DIRECT,
    HELIOS,
    PACE,
    READERS,
    SERVER_CONNECTIONS,
    WRITERS,
    Contest,
    Reread,
    Side,
)

ALL = "all reads"


def figures(contest: Contest, reread: Reread, *, replica_orders: int, primary_orders: int) -> dict[str, Any]:
    """All that was measured, as one JSON object.

    Returns:
        ``stale``: stale reads through heliosproxy, the differences of the last comparison included;
        ``direct`` and ``heliosproxy``: ``statements_per_second``, ``server_connections``, ``p50_ms`` and
        ``p99_ms`` of all reads, ``kinds`` with the same per kind, …; ``load``: what was compared.
    """
    direct, helios = contest.direct, contest.helios
    return {
        "stale": helios.stale + reread.different,
        "stale_examples": helios.examples[:3],
        "ratio": _rate(helios) / _rate(direct) if _rate(direct) else 0.0,
        "direct": _side(direct),
        "heliosproxy": {
            **_side(helios),
            "hit_rate": _part(sum(_hits(helios, data.READS)), len(_seconds(helios, data.READS))),
            "cache": contest.proxy.stats()["cache"],
        },
        "reread": {"compared": reread.compared, "hits": reread.hits, "different": reread.different},
        "replica": {"orders": replica_orders, "orders_on_primary": primary_orders},
        "load": {
            "cores": os.cpu_count(),
            "readers": READERS,
            "writers": WRITERS,
            "writes_per_second": WRITERS * PACE,
            "zipf": ZIPF,
            "users": data.USERS,
            "shares_percent": data.SHARES,
            "transport": "loopback",
        },
    }


def _side(side: Side) -> dict[str, Any]:
    kinds = {ALL: tuple(data.READS), **{kind: (kind,) for kind in (*data.READS, ORDER)}}
    measured = {name: _kind(side, parts) for name, parts in kinds.items()}
    return {
        "statements": side.statements,
        "seconds": side.elapsed,
        "statements_per_second": _rate(side),
        "p50_ms": measured[ALL]["p50_ms"],
        "p99_ms": measured[ALL]["p99_ms"],
        "client_connections": len(side.clients),
        "server_connections": side.peak,
        "orders_placed": side.book.acked.placed - data.ORDERS,
        "checked": side.checked,
        "stale": side.stale,
        "kinds": measured,
    }


def _kind(side: Side, kinds: Iterable[str]) -> dict[str, Any]:
    kinds = tuple(kinds)
    seconds = sorted(_seconds(side, kinds))
    return {
        "count": len(seconds),
        "p50_ms": _percentile(seconds, 0.5),
        "p99_ms": _percentile(seconds, 0.99),
        "hit_rate": _part(sum(_hits(side, kinds)), len(seconds)),
    }


def _seconds(side: Side, kinds: Iterable[str]) -> list[float]:
    return [second for kind in kinds for client in side.clients for second in client.seconds[kind]]


def _hits(side: Side, kinds: Iterable[str]) -> list[int]:
    return [client.hits.get(kind, 0) for kind in kinds for client in side.clients]


def _percentile(ordered: list[float], part: float) -> float | None:
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)] * 1000 if ordered else None


def _rate(side: Side) -> float:
    return _part(side.statements, side.elapsed)


def _part(some: float, whole: float) -> float:
    return some / whole if whole else 0.0


def show(found: dict[str, Any], console: Console) -> None:
    """Print the tables, and what they compare."""
    direct, helios = found["direct"], found["heliosproxy"]
    console.print(_latencies(direct["kinds"], helios["kinds"]))
    console.print(_totals(found, direct, helios))
    reread, replica, load = found["reread"], found["replica"], found["load"]
    for example in found["stale_examples"]:
        console.print(f"stale: {example}", markup=False, style="bold red")
    console.print(
        f"After the last write all {reread['compared']:,} answers were read again, {reread['hits']:,} of "
        f"them from the cache: {reread['different']} differ from the database. The replica has "
        f"{replica['orders']:,} of {replica['orders_on_primary']:,} orders; nothing is routed to it yet.\n"
    )
    console.print(
        f"What is compared: {load['readers']} threads that read without a pause and {load['writers']} that "
        f"together write {load['writes_per_second']:g} times a second, all in one Python process, with the "
        f"servers on the same {load['cores']} cores, over loopback: no network is saved here. Direct has one "
        f"connection per thread, kept open, in autocommit; heliosproxy shares {SERVER_CONNECTIONS} in "
        f"transaction mode, and looks at the catalogue on one more now and then. Same code, same keys, a "
        f"database each, blocks in turns. Users are drawn by Zipf (s = {load['zipf']}) from "
        f"{load['users']:,}. Each side warms up first. A write to a table drops all answers that read it: "
        f"with more writes the gain is smaller.",
        style="dim",
    )


def _latencies(direct: dict[str, Any], helios: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, title="milliseconds, execute and fetchall", title_justify="left")
    table.add_column("")
    table.add_column("share", justify="right")
    for side in ("direct", "helios"):
        table.add_column(f"{side} p50", justify="right", no_wrap=True)
        table.add_column("p99", justify="right", no_wrap=True)
    table.add_column("hits", justify="right")
    for kind in (*data.READS, ALL, ORDER):
        share = data.SHARES.get(kind)
        table.add_row(
            kind,
            f"{share} %" if share is not None else "",
            *(_ms(side[kind][name]) for side in (direct, helios) for name in ("p50_ms", "p99_ms")),
            "" if kind == ORDER else f"{helios[kind]['hit_rate']:.0%}",
            style="bold" if kind == ALL else "",
        )
    return table


def _totals(found: dict[str, Any], direct: dict[str, Any], helios: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column(DIRECT, justify="right", no_wrap=True)
    table.add_column(HELIOS, justify="right", no_wrap=True)
    table.add_column("")

    def row(name: str, key: str, remark: str = "", style: str = "") -> None:
        table.add_row(name, f"{direct[key]:,.0f}", f"{helios[key]:,.0f}", remark, style=style)

    row("statements per second", "statements_per_second", f"{found['ratio']:.1f} x", "bold")
    row("client connections", "client_connections")
    row("server connections, peak", "server_connections", "by pg_stat_activity")
    row("orders placed", "orders_placed")
    row("reads checked", "checked")
    color = "red" if found["stale"] or direct["stale"] else "green"
    table.add_row(
        "stale reads", str(direct["stale"]), str(found["stale"]), "must be 0", style=f"bold {color}"
    )
    table.add_section()
    return table


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if value < 10 else f"{value:.1f}"
