"""Thousands of clients, storms of cancel requests, a gigabyte: nothing is lost, mixed up or collected.

The same at full scale, with more figures: ``python -m benchmarks.endurance``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from benchmarks.endurance import cancels, clients, gigabyte, memory
from benchmarks.endurance.raw import Client, Peer, cancel, names, sqlstate
from benchmarks.endurance.served import Server, serving

pytestmark = pytest.mark.slow

SERVERS = 20


@pytest.fixture
def server(dsn: str) -> Iterator[Server]:
    with serving(dsn, pool=SERVERS) as running:
        yield running


def test_a_thousand_clients_do_transactions_and_none_waits_much_longer_than_others(dsn: str) -> None:
    found = clients.measure(dsn, 1000, 10.0)
    assert not found["errors"], found["first error"]
    assert found["writes missing"] == 0
    assert found["… in the steady state"] > 1000
    assert found["p99.9 / median of waiting"] < 5


def test_a_thousand_clients_use_no_more_server_connections_than_there_may_be(
    dsn: str, server: Server
) -> None:
    async def main() -> int:
        everybody = [await Client.connect(server.where, names(dsn)) for _ in range(1000)]
        for each in await asyncio.gather(*(client.ask("SELECT pg_sleep(0.01)") for client in everybody)):
            assert b"E" not in each
        with psycopg.connect(dsn, autocommit=True) as direct:
            counting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            row: Any = direct.execute(counting).fetchone()
        for client in everybody:
            client.close()
        return int(row[0]) - 1

    assert asyncio.run(main()) <= SERVERS
    assert server.faults() == []


@pytest.mark.parametrize(("over", "most"), [("TCP", 5.5), ("TLS", 30.0)])
def test_an_idle_client_takes_little_memory(dsn: str, certificates: Path, over: str, most: float) -> None:
    tls = (certificates / "server.crt", certificates / "server.key") if over == "TLS" else None
    found = memory.measure(dsn, 2000, tls)
    assert found["kB each, logged in"] < most
    assert found["kB each, after a transaction"] < most


def test_a_storm_of_cancel_requests_hits_nobody_else(dsn: str, server: Server) -> None:
    cancelled: list[str] = []

    async def quick(client: Client, stop: asyncio.Event) -> None:
        while not stop.is_set():
            found = await client.ask("SELECT 1")
            assert b"E" not in found, found[b"E"]

    async def slow(client: Client, turn: int) -> None:
        asking = client.ask("SELECT pg_sleep(20)")
        while not asking.done():
            await asyncio.to_thread(cancel, server.where, client.pid, client.key)
            await asyncio.sleep(0.001 * (turn % 7))
        cancelled.append(sqlstate((await asking)[b"E"]))

    async def main() -> None:
        stop = asyncio.Event()
        innocent = [await Client.connect(server.where, names(dsn)) for _ in range(20)]
        targets = [await Client.connect(server.where, names(dsn)) for _ in range(8)]
        busy = [asyncio.create_task(quick(client, stop)) for client in innocent]
        for turn in range(10):
            await asyncio.gather(*(slow(client, turn + number) for number, client in enumerate(targets)))
        stop.set()
        await asyncio.gather(*busy)
        for client in [*innocent, *targets]:
            client.close()

    asyncio.run(main())
    assert cancelled == ["57014"] * 80
    assert server.faults() == []


def test_cancel_requests_about_the_ends_of_statements_hit_nobody_else(dsn: str) -> None:
    found = cancels.measure(dsn, 400, direct=False)
    assert found["hit that should not have been"] == 0, found["first of them"]
    # On a busy machine some statements end while the request for them is under way: the benchmark has the figure.
    assert found["effect, sent while it ran, %"] >= 80


@pytest.mark.parametrize("way", gigabyte.ways(0))
def test_half_a_gigabyte_passes_in_little_memory(dsn: str, server: Server, way: str) -> None:
    with contextlib.closing(Peer(server.where, names(dsn))) as peer:
        peer.ask("SELECT 1")
        total, grown = gigabyte.growth(server, peer, gigabyte.ways(500_000_000)[way])
    assert total >= 125_000_000
    assert grown < 64_000_000
