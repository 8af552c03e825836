"""What is seen of the demonstration, from the first server to the last line."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from heliosproxy.demo import data, report
from heliosproxy.demo.contest import DATABASES, HELIOS, Contest, Side, contest
from heliosproxy.embedded import Cluster, Node


def perform(seconds: float, json: bool) -> int:
    """Run the demonstration; see `heliosproxy.demo.run`.

    Returns:
        How many stale reads there were, on either side.
    """
    console = Console(quiet=json, highlight=False)
    console.print(f"[bold]heliosproxy demo[/]: the same shop with and without it, {seconds:g} s in all\n")
    with ExitStack() as stack:
        with _step(console, "PostgreSQL starts: a primary and a streaming replica"):
            cluster = stack.enter_context(Cluster(replicas=1))
        found = _measured(cluster, seconds, console)
    if json:
        import orjson

        sys.stdout.write(orjson.dumps(found).decode() + "\n")
    else:
        console.print()
        report.show(found, console)
    return int(found["stale"] + found["direct"]["stale"])


def _measured(cluster: Cluster, seconds: float, console: Console) -> dict[str, Any]:
    primary, replica = cluster.primary, cluster.replicas[0]
    version = primary.sql("SHOW server_version")[0][0]
    console.print(
        f"  PostgreSQL {version} on port {primary.port}, replica on {replica.port}: {_replication(primary)}"
    )
    with _step(
        console, f"A shop: {data.USERS:,} users, {data.PRODUCTS:,} products, {data.ORDERS:,} orders, twice"
    ):
        data.create(primary, tuple(DATABASES.values()))
    with contest(primary) as both:
        with _progress(console, both, seconds) as progress:
            both.run(seconds, progress)
        with _step(console, "All that was read is read again, and compared with the database"):
            reread = both.reread()
        with _step(console, "The replica has replayed every write"):
            cluster.wait_caught_up(timeout=60)
        return report.figures(both, reread, replica_orders=_orders(replica), primary_orders=_orders(primary))


def _replication(primary: Node) -> str:
    state, behind = primary.sql(
        "SELECT state, pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint FROM pg_stat_replication"
    )[0]
    return f"{state}, {behind} bytes behind"


def _orders(node: Node) -> int:
    with psycopg.connect(data.dsn_of(node, DATABASES[HELIOS]), autocommit=True) as conn:
        row = conn.execute("SELECT count(*) FROM orders").fetchone()
        return int(row[0]) if row else 0


@contextmanager
def _step(console: Console, what: str) -> Iterator[None]:
    start = time.perf_counter()
    if console.is_terminal:
        with console.status(what):
            yield
    else:
        yield
    console.print(f"  {what} [dim]({time.perf_counter() - start:.1f} s)[/]")


@contextmanager
def _progress(console: Console, both: Contest, seconds: float) -> Iterator[Callable[[Side, float], None]]:
    """A bar on a terminal; elsewhere one line at the end of each quarter or so."""

    def line(side: Side) -> str:
        return f"{side.name} {side.statements / side.elapsed:,.0f}/s"

    if not console.is_terminal:
        yield lambda side, part: console.print(f"  {part:4.0%}  {line(side)} (statements)")
        return
    columns = (TextColumn("  "), BarColumn(20), TaskProgressColumn(), TextColumn("{task.description}"))
    # Few refreshes: each takes the interpreter lock from the threads that are measured.
    with Progress(*columns, console=console, refresh_per_second=2) as bar:
        task = bar.add_task("statements per second", total=1.0)

        def show(side: Side, part: float) -> None:
            measured = [s for s in (both.direct, both.helios) if s.elapsed]
            bar.update(task, completed=part, description="  ".join(map(line, measured)))

        yield show
