"""Whatever a client sends, it gets a PostgreSQL error or a closed socket, and leaves nothing behind.

For longer: ``python -m benchmarks.endurance --part fuzz --seconds 1800``.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator

import psycopg
import pytest

from benchmarks.endurance.fuzz import PATIENT, WORLDS, burst
from benchmarks.endurance.model import TABLES
from benchmarks.endurance.mutator import before_login, play, stream
from benchmarks.endurance.raw import Peer, names
from benchmarks.endurance.served import serving
from tests.server.conftest import Served

SEEDS = range(60)


@pytest.fixture(scope="module")
def tables(dsn: str) -> Iterator[None]:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(TABLES)
        yield


def path(server: Served) -> str:
    given = psycopg.conninfo.conninfo_to_dict(server.url)
    return f"{given['host']}/.s.PGSQL.{given['port']}"


@pytest.mark.parametrize("mode", ["session", "transaction", "statement"])
@pytest.mark.usefixtures("tables")
def test_any_bytes_leave_nothing_behind(
    served: Callable[..., Served], mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = served(mode, helios_server_connections=3, helios_cache=True)
    for seed in SEEDS:
        chance = random.Random(seed)
        play(Peer(path(server), names(server.url)), stream(chance), chance)
    assert server.settles(0)
    conn = server.connect()
    for number in range(6):
        assert conn.execute("SELECT %s::int, current_setting('work_mem')", (number,)).fetchone() == (
            number,
            "4MB",
        )
    failures = [record for record in caplog.records if record.exc_info]
    assert not failures, failures[0].getMessage()


def test_any_bytes_before_the_login(served: Callable[..., Served], caplog: pytest.LogCaptureFixture) -> None:
    server = served()
    for seed in SEEDS:
        chance = random.Random(seed)
        play(Peer(path(server)), before_login(chance), chance)
    assert server.connect().execute("SELECT 1").fetchone() == (1,)
    failures = [record for record in caplog.records if record.exc_info]
    assert not failures, failures[0].getMessage()


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.usefixtures("tables")
def test_clients_are_told_what_a_model_says_whatever_others_send(dsn: str, name: str) -> None:
    world = WORLDS[name]
    with serving(dsn, world.mode, *world.arguments, pool=world.pool, **PATIENT) as server:
        for seed in range(2):
            assert burst(server, world, random.Random(seed), Counter()) == []
        assert server.beside_the_pool() <= 4
