"""5,000 clients over TCP on 50 server connections, in a steady state: errors, writes that are missing, fairness."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import psycopg

from ..common import bar, quantile
from .crew import Cue, crew
from .raw import Client, names
from .served import serving

POOL = 50
PROCESSES = 2
SETTLING = 2
"""Transactions of each client before the figures begin: at first all come at once."""

TABLE = """
    DROP TABLE IF EXISTS endured;
    CREATE TABLE endured (id int PRIMARY KEY, total int) WITH (fillfactor = 50);
    INSERT INTO endured SELECT i, 0 FROM generate_series(0, {} - 1) AS i
"""


class Tally:
    """What the clients of one process have found.

    Attributes:
        done: transactions that the server has said are committed.
        begun: clients that have got through their first ones.
        waits: seconds from a transaction's first statement to its answer, and when that was asked.
    """

    def __init__(self) -> None:
        self.done = self.begun = 0
        self.waits: list[tuple[float, float]] = []
        self.whole: list[tuple[float, float]] = []
        self.errors: list[str] = []


async def _transact(client: Client, number: int, tally: Tally) -> None:
    begun = time.monotonic()
    # The proxy itself answers a BEGIN: it is with the first statement that a client waits for its turn.
    for text in ("BEGIN", f"SELECT total FROM endured WHERE id = {number}"):
        asked = time.monotonic()
        found = await client.ask(text)
        _check(found, text)
    tally.waits.append((asked, time.monotonic() - asked))
    for text in (f"UPDATE endured SET total = total + 1 WHERE id = {number}", "COMMIT"):
        found = await client.ask(text)
        _check(found, text)
    tally.done += 1
    tally.whole.append((begun, time.monotonic() - begun))


def _check(found: dict[bytes, bytes], text: str) -> None:
    if b"E" in found:
        raise ConnectionError(f"{text}: {found[b'E']!r}")
    if found[b"Z"] != (b"I" if text == "COMMIT" else b"T"):
        raise ConnectionError(f"{text}: status {found[b'Z']!r}")


async def work(cue: Cue, dsn: str, where: tuple[str, int], first: int, count: int) -> dict[str, Any]:
    """*count* clients, in this process."""
    tally = Tally()
    startup = names(dsn)
    clients = [await Client.connect(tuple(where), startup) for _ in range(count)]
    steady = 0.0

    async def transact(client: Client, number: int) -> None:
        nonlocal steady
        turns = 0
        try:
            while not cue.over.is_set():
                await _transact(client, number, tally)
                turns += 1
                if turns == SETTLING:
                    tally.begun += 1
                    if tally.begun == count:
                        steady = time.monotonic()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
            tally.errors.append(repr(error))

    await cue()
    await asyncio.gather(*(transact(client, first + at) for at, client in enumerate(clients)))
    ended = time.monotonic()
    for client in clients:
        client.close()
    return {**vars(tally), "steady": steady or ended}


def measure(dsn: str, clients: int, seconds: float) -> dict[str, Any]:
    """One run."""
    share = clients // PROCESSES
    with psycopg.connect(dsn, autocommit=True) as direct:
        for text in TABLE.format(clients).split(";"):
            direct.execute(text)
        with serving(dsn, pool=POOL) as server:
            parts = [
                {"dsn": dsn, "where": server.where, "first": at * share, "count": share}
                for at in range(PROCESSES)
            ]
            started = time.monotonic()
            with crew(__spec__.name, parts) as running:
                logins = time.monotonic() - started
                before = server.memory()
                running.tell()
                time.sleep(seconds)  # for so long they are measured
                running.tell()
                ended = time.monotonic()
                found = running.results()
            faults = server.faults()
            grown = server.memory() - before
        row = direct.execute("SELECT sum(total) FROM endured").fetchone()
    begun = max(part["steady"] for part in found)
    waits = [
        took for part in found for asked, took in part["waits"] if begun <= asked and asked + took < ended
    ]
    whole = [
        took for part in found for asked, took in part["whole"] if begun <= asked and asked + took < ended
    ]
    errors = [error for part in found for error in part["errors"]] + faults
    done = sum(part["done"] for part in found)
    return {
        "clients": share * PROCESSES,
        "server connections": POOL,
        "seconds to log in": logins,
        "steady, seconds": max(0.0, ended - begun),
        "transactions": done,
        "… in the steady state": len(whole),
        "transactions per second": len(whole) / max(ended - begun, 0.001),
        "errors": len(errors),
        "first error": errors[0][:300] if errors else None,
        "writes missing": done - int(row[0] if row else 0),
        **{
            f"{name} {label}, ms": quantile(values or [0.0], at) * 1000
            for name, values in (("wait", waits), ("transaction", whole))
            for label, at in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("most", 1.0))
        },
        "p99.9 / median of waiting": quantile(waits, 0.999) / quantile(waits, 0.5) if waits else 0.0,
        "growth under load, MB": grown / 1e6,
    }


def part(dsn: str, seconds: float | None, quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """The figures, and the bars."""
    row = measure(dsn, 200 if quick else 5000, seconds or (3.0 if quick else 90.0))
    bars = {
        "clients: errors": bar(row["errors"], 0),
        "clients: writes missing": bar(abs(row["writes missing"]), 0),
        "clients: waiting, p99.9 / median": bar(row["p99.9 / median of waiting"], 5.0),
        # Without one the figures are of nothing.
        "clients: none in the steady state": bar(int(not row["… in the steady state"]), 0),
    }
    return row, bars
