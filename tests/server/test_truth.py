"""Under load no client reads less than it has seen acknowledged, over either query protocol."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.cache.hazards.world import ExtendedProtocol, SimpleProtocol
from tests.server.conftest import Served

COUNTERS = 4
WRITES = 150


@pytest.mark.parametrize("protocol", [SimpleProtocol, ExtendedProtocol])
@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_no_read_is_older_than_what_was_acknowledged(
    served: Callable[..., Served], mode: str, protocol: Any
) -> None:
    server = served(mode, helios_server_connections=12, helios_cache=True)
    with psycopg.connect(server.dsn, autocommit=True) as direct:
        direct.execute("DROP TABLE IF EXISTS counters; CREATE TABLE counters (id int PRIMARY KEY, n int)")
        direct.execute("INSERT INTO counters SELECT i, 0 FROM generate_series(0, %s - 1) AS i", (COUNTERS,))
    acknowledged = [0] * COUNTERS
    stale: list[str] = []
    writing = threading.Event()

    def write(number: int) -> None:
        with psycopg.connect(server.url, cursor_factory=protocol.cursor_class) as conn:
            for turn in range(1, WRITES + 1):
                conn.execute("UPDATE counters SET n = %s WHERE id = %s", (turn, number))
                if turn % 7 == 0:
                    conn.rollback()
                    conn.execute("UPDATE counters SET n = %s WHERE id = %s", (turn, number))
                conn.commit()
                acknowledged[number] = turn

    def read() -> None:
        with psycopg.connect(server.url, autocommit=True, cursor_factory=protocol.cursor_class) as conn:
            seen = [0] * COUNTERS
            while not writing.is_set():
                for number in range(COUNTERS):
                    least = max(acknowledged[number], seen[number])
                    (found,) = conn.execute("SELECT n FROM counters WHERE id = %s", (number,)).fetchone()
                    if found < least:
                        stale.append(f"counter {number}: read {found}, acknowledged {least}")
                    seen[number] = max(found, seen[number])

    readers = [threading.Thread(target=read) for _ in range(4)]
    writers = [threading.Thread(target=write, args=(number,)) for number in range(COUNTERS)]
    for thread in [*readers, *writers]:
        thread.start()
    for thread in writers:
        thread.join()
    writing.set()
    for thread in readers:
        thread.join()
    assert stale == []
    with psycopg.connect(server.url, autocommit=True, cursor_factory=protocol.cursor_class) as conn:
        for _ in range(3):
            rows = conn.execute("SELECT n FROM counters ORDER BY id").fetchall()
            assert rows == [(WRITES,)] * COUNTERS
    assert server.proxy.cache.stats()["hits"] > 0
