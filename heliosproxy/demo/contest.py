"""Both sides under the same load, in turns."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from heliosproxy import Proxy
from heliosproxy.demo import data
from heliosproxy.demo.checker import Book
from heliosproxy.demo.clients import Client, Reader, Writer
from heliosproxy.embedded import Node

DIRECT, HELIOS = "direct psycopg", "heliosproxy"
DATABASES = {DIRECT: "shop_direct", HELIOS: "shop_helios"}
READERS = 8
WRITERS = 2
PACE = 1.0  # writes per second and writer
SERVER_CONNECTIONS = 4  # of heliosproxy; psycopg has one per thread
WARM_UP = 0.25  # of the measured time, before it
_SAMPLE = 0.1  # seconds between two counts of the server connections
_COUNT = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"


@dataclass
class Side:
    """One way to reach the database, with a database of its own.

    Attributes:
        clients: one per thread, each with a connection that stays open.
        elapsed: seconds measured so far.
        peak: most server connections seen at a time, by the server's own account.
    """

    name: str
    book: Book
    clients: list[Client]
    elapsed: float = 0.0
    peak: int = 0
    failures: list[BaseException] = field(default_factory=list)

    def forget(self) -> None:
        """Measure anew."""
        self.elapsed = 0.0
        for client in self.clients:
            client.forget()

    @property
    def statements(self) -> int:
        """Statements answered so far."""
        return sum(client.statements for client in self.clients)

    @property
    def stale(self) -> int:
        """Stale reads so far."""
        return sum(client.checker.stale for client in self.clients)

    @property
    def checked(self) -> int:
        """Reads checked so far."""
        return sum(client.checker.checked for client in self.clients)

    @property
    def examples(self) -> list[str]:
        """What some of the stale reads were."""
        return [example for client in self.clients for example in client.checker.examples]

    def work(self, seconds: float, count: Callable[[], int]) -> None:
        """Let every client work for *seconds*; *count* counts the server connections.

        Raises:
            BaseException: the first error of a client, or KeyboardInterrupt; no thread is left.
        """
        stop = threading.Event()
        threads = [threading.Thread(target=self._run, args=(client, stop)) for client in self.clients]
        start = time.perf_counter()
        try:
            for thread in threads:
                thread.start()
            while (left := start + seconds - time.perf_counter()) > 0 and not stop.wait(min(_SAMPLE, left)):
                self.peak = max(self.peak, count())
        finally:
            stop.set()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
        self.elapsed += time.perf_counter() - start
        if self.failures:
            raise self.failures[0]

    def _run(self, client: Client, stop: threading.Event) -> None:
        try:
            client.run(stop)
        except BaseException as error:  # noqa: BLE001  # raised again in the main thread
            self.failures.append(error)
            stop.set()


@dataclass
class Reread:
    """The comparison at the end, of all that was read through heliosproxy with the database.

    Attributes:
        compared: answers compared.
        hits: how many of them came from the cache.
        different: how many were not what the database says.
    """

    compared: int = 0
    hits: int = 0
    different: int = 0


class Contest:
    """Two sides, their connections, and the blocks they work in."""

    def __init__(self, direct: Side, helios: Side, proxy: Proxy, primary: Node) -> None:
        self.direct = direct
        self.helios = helios
        self.proxy = proxy
        self._primary = primary

    def run(self, seconds: float, progress: Callable[[Side, float], None]) -> None:
        """Measure for *seconds* in all, half of it for each side, in short blocks that take turns.

        The machine may be slower for a while: short blocks share that out. Who begins changes, too. Before, both
        warm up for a quarter of that time.

        Args:
            progress: called after each block with its side and the part of the whole that is done.
        """
        rounds = max(2, min(8, round(seconds / 2)))
        block = seconds / rounds / 2
        turn = [self.direct, self.helios]
        with psycopg.connect(self._primary.dsn, autocommit=True) as conn:
            for side in turn:
                side.work(seconds * WARM_UP / 2, lambda: 0)
                side.forget()
            for number in range(rounds):
                for place, side in enumerate(turn):
                    side.work(block, lambda side=side: _connections(conn, side.name))  # type: ignore[misc]
                    progress(side, (number * 2 + place + 1) / rounds / 2)
                turn.reverse()

    def reread(self) -> Reread:
        """Read all that any client of heliosproxy has read once more, and compare it with the database."""
        found = Reread()
        dsn = data.dsn_of(self._primary, DATABASES[HELIOS])
        keys = sorted(set().union(*(client.keys for client in self.helios.clients)))
        with psycopg.connect(dsn, autocommit=True) as plain, self.proxy.connect(dsn, autocommit=True) as ours:
            cursor: Any = ours.cursor()
            for kind, key in keys:
                parameters = (key,) if kind in data.KEYED else None
                answer = cursor.execute(data.READS[kind], parameters).fetchall()
                truth = plain.execute(data.READS[kind], parameters).fetchall()
                found.compared += 1
                found.hits += cursor.helios.outcome == "hit"
                found.different += answer != truth
        return found


@contextmanager
def contest(primary: Node) -> Iterator[Contest]:
    """Open the connections of both sides to the shops on *primary*; all are closed behind the block."""
    with ExitStack() as stack:
        proxy = stack.enter_context(
            Proxy(helios_mode="transaction", helios_cache=True, helios_server_connections=SERVER_CONNECTIONS)
        )
        direct = _side(DIRECT, primary, psycopg.connect, stack)
        helios = _side(HELIOS, primary, proxy.connect, stack)
        yield Contest(direct, helios, proxy, primary)


def _side(name: str, primary: Node, connect: Callable[..., Any], stack: ExitStack) -> Side:
    book = Book()
    dsn = data.dsn_of(primary, DATABASES[name])

    def connection() -> Any:
        conn = connect(dsn, autocommit=True)
        stack.callback(conn.close)
        return conn

    readers = [Reader(connection(), book, seed) for seed in range(READERS)]
    writers = [
        Writer(connection(), book, 1_000 + number, number=number, count=WRITERS, pace=PACE)
        for number in range(WRITERS)
    ]
    return Side(name, book, [*readers, *writers])


def _connections(conn: psycopg.Connection[Any], side: str) -> int:
    row = conn.execute(_COUNT, (DATABASES[side],)).fetchone()
    return int(row[0]) if row else 0
