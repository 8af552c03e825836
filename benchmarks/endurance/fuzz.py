"""Any bytes, and clients with a model, against servers of every mode; after each burst: is everything as it was?"""

from __future__ import annotations

import contextlib
import random
import secrets
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from ..common import bar
from .machine import drive
from .model import TABLES
from .mutator import before_login, play, stream
from .raw import Peer, names
from .served import Server, certificate, serving

STREAMS, EXAMPLES = 25, 6
BOUND = 64.0
# No wait ends by itself while the model thinks; a login does.
PATIENT = {"POOL__TIMEOUT": "600", "SERVER__LOGIN_TIMEOUT": "5"}


class World(NamedTuple):
    """A server to be fuzzed.

    Attributes:
        modelled: clients with a model drive it, too.
        scarce: some of them wait.
    """

    mode: str
    pool: int
    arguments: tuple[str, ...]
    modelled: bool = True
    scarce: bool = False


WORLDS = {
    "transaction": World("transaction", 2, (), scarce=True),
    "transaction, 1 connection": World("transaction", 1, (), scarce=True),
    "transaction, cache": World("transaction", 8, ("--cache",)),
    "transaction, cache, 2 workers": World("transaction", 8, ("--cache", "--workers", "2")),
    "session, cache": World("session", 8, ("--cache",)),
    "statement, cache": World("statement", 3, ("--cache",), modelled=False),
}


def burst(server: Server, world: World, chance: random.Random, count: Counter[str]) -> list[str]:
    """What was found out of order."""
    faults = []
    try:
        for _ in range(STREAMS):
            if chance.random() < 0.25:
                play(Peer(server.where), before_login(chance), chance)
            else:
                play(Peer(server.where, names(server.dsn)), stream(chance), chance)
            count["streams"] += 1
        if world.modelled:
            drive(server, world.mode, world.scarce, EXAMPLES, seed=chance.getrandbits(60))
            count["modelled runs"] += EXAMPLES
        with contextlib.closing(Peer(server.where, names(server.dsn))) as peer:
            if (b"Z", b"I") not in peer.ask("SELECT 1"):
                faults.append("it does not answer")
    except Exception:  # noqa: BLE001 - whatever it is, it is reported
        faults.append(traceback.format_exc())
    return faults + server.faults()


def part(dsn: str, seconds: float | None, quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """The figures, and the bars."""
    seed = secrets.randbits(60)
    chance = random.Random(seed)
    with psycopg.connect(dsn, autocommit=True) as direct:
        direct.execute(TABLES)
    end = time.monotonic() + (seconds or (10.0 if quick else 60.0))
    rows: dict[str, Any] = {name: Counter[str]() for name in WORLDS}
    first: dict[str, int] = {}
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        tls = certificate(Path(folder))
        # A database for each: what backends of it do is this server's doing.
        servers = {}
        for number, (name, world) in enumerate(WORLDS.items()):
            own = _database(dsn, f"fuzz_{number}")
            made = serving(own, world.mode, *world.arguments, pool=world.pool, tls=tls, **PATIENT)
            servers[name] = stack.enter_context(made)
        while time.monotonic() < end and not faults:
            for name, server in servers.items():
                faults += [
                    f"{name}, seed {seed}: {fault}"
                    for fault in burst(server, WORLDS[name], chance, rows[name])
                ]
                rows[name]["bursts"] += 1
                # What it needs once is there after the first bursts: caches of statements, of shapes, of plans.
                held = server.memory() // 1000
                if rows[name]["bursts"] == 3:
                    first[name] = held
                rows[name]["growth, kB"] = held - first.get(name, held)
                rows[name]["beside the pool"] = max(rows[name]["beside the pool"], server.beside_the_pool())
                if faults or time.monotonic() > end:
                    break
    bars = {
        "fuzz: what was not in order": bar(len(faults), 0),
        "fuzz: growth in MB": bar(max(row["growth, kB"] for row in rows.values()) / 1000, BOUND),
        "fuzz: backends beside a pool": bar(max(row["beside the pool"] for row in rows.values()), 4),
    }
    found: dict[str, Any] = {name: dict(row) for name, row in rows.items()}
    if faults:
        found["first fault"] = {"what": faults[0]}
    return found, bars


def _database(dsn: str, name: str) -> str:
    """A new database on the server of *dsn*, with the tables."""
    with psycopg.connect(dsn, autocommit=True) as direct:
        direct.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        direct.execute(f"CREATE DATABASE {name}")
    own = psycopg.conninfo.make_conninfo(dsn, dbname=name)
    with psycopg.connect(own, autocommit=True) as direct:
        direct.execute(TABLES)
    return own
