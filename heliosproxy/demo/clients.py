"""The threads of the shop: readers that ask without a pause, writers that keep a pace."""

from __future__ import annotations

import random
import threading
import time
from array import array
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from heliosproxy.demo import data
from heliosproxy.demo.checker import Book, Checker, Rows

ZIPF = 1.1  # the second most popular user is asked for 1/2**1.1 times as often as the first, and so on
ORDER = "order (transaction)"

_USERS = range(1, data.USERS + 1)
_USER_WEIGHTS = list(accumulate(1 / rank**ZIPF for rank in _USERS))
_MOVES, _PAYS = 0.05, 0.2  # of all that a writer does; the rest are orders
_KIND_WEIGHTS = list(accumulate(data.SHARES.values()))


class Client:
    """One connection and what was measured on it.

    Attributes:
        seconds: per kind, how long each read (execute and fetchall) or transaction took.
        hits: per kind, how many were answered from the cache.
        statements: sent or answered, without BEGIN and COMMIT.
    """

    def __init__(self, conn: Any, book: Book, seed: int) -> None:
        self.conn = conn
        self.book = book
        self.checker = Checker()
        self.forget()
        self.keys: set[tuple[str, int]] = set()
        self.rng = random.Random(seed)  # noqa: S311  # the same keys for both sides, no secret
        self._cursor = conn.cursor()
        # The first statement of a connection is not measured, for either side.
        self._cursor.execute("SELECT 1").fetchall()

    def forget(self) -> None:
        """Measure anew; what is known of versions stays."""
        self.seconds = {kind: array("d") for kind in (*data.READS, ORDER)}
        self.hits = dict.fromkeys(data.READS, 0)
        self.statements = 0

    def read(self, kind: str, key: int) -> Rows:
        """Do one read of the shop, time it, check it."""
        parameters = (key,) if kind in data.KEYED else None
        key = key if parameters else 0
        cursor = self._cursor
        acked = self.book.acked
        start = time.perf_counter()
        cursor.execute(data.READS[kind], parameters)
        rows: Rows = cursor.fetchall()
        self.seconds[kind].append(time.perf_counter() - start)
        self.statements += 1
        self.keys.add((kind, key))
        self.checker.check(kind, key, rows, acked)
        # A plain psycopg cursor has no such attribute.
        helios = getattr(cursor, "helios", None)
        if helios is not None and helios.outcome == "hit":
            self.hits[kind] += 1
        return rows

    def run(self, stop: threading.Event) -> None:
        """Work until *stop* is set; what is under way then is finished."""
        raise NotImplementedError


class Reader(Client):
    """Reads, one statement after the other."""

    def __init__(self, conn: Any, book: Book, seed: int) -> None:
        super().__init__(conn, book, seed)
        self._plan = self._drawn()

    def run(self, stop: threading.Event) -> None:
        """Read until *stop* is set."""
        while not stop.is_set():
            self.read(*next(self._plan))

    def _drawn(self) -> Iterator[tuple[str, int]]:
        kinds = list(data.SHARES)
        while True:
            yield from zip(
                self.rng.choices(kinds, cum_weights=_KIND_WEIGHTS, k=500),
                self.rng.choices(_USERS, cum_weights=_USER_WEIGHTS, k=500),
                strict=True,
            )


class Writer(Client):
    """Places orders, pays them, moves users; then reads what it wrote, as a confirmation page does.

    Writer *number* of *count* owns the users whose id is *number* modulo *count*: the versions of one user's
    orders then come in the order of the commits.
    """

    def __init__(self, conn: Any, book: Book, seed: int, *, number: int, count: int, pace: float) -> None:
        super().__init__(conn, book, seed)
        self._users = [user for user in _USERS if user % count == number]
        self._weights = [1 / user**ZIPF for user in self._users]
        self._pause = 1 / pace
        # Not all writers at the same moment, and something to see in the shortest demonstration.
        self._left = 0.1 * self.rng.random()
        self._versions: dict[int, int] = {}
        self._newest: dict[int, int] = {}

    def run(self, stop: threading.Event) -> None:
        """Write at the given pace until *stop* is set."""
        due = time.monotonic() + self._left
        while not stop.wait(max(0.0, due - time.monotonic())):
            user = self.rng.choices(self._users, self._weights)[0]
            what = self.rng.random()
            if what < _MOVES:
                self._move(user)
            elif what < _MOVES + _PAYS and user in self._newest:
                self._pay(user)
            else:
                self._order(user)
            due = max(due + self._pause, time.monotonic())
        self._left = max(0.0, due - time.monotonic())

    def _order(self, user: int) -> None:
        # In the order of their ids, or two writers may wait for each other.
        products = sorted(self.rng.sample(range(1, data.PRODUCTS + 1), self.rng.randint(1, 3)))
        quantities = [self.rng.randint(1, 4) for _ in products]
        version = self._versions.get(user, 0) + 1
        versions = {}
        start = time.perf_counter()
        with self.conn.transaction():
            order = self.conn.execute(data.NEW_ORDER, (user, len(products), version)).fetchone()[0]
            self.conn.execute(data.NEW_ITEMS, (order, products, quantities))
            for product, quantity in zip(products, quantities, strict=True):
                row = self.conn.execute(data.TAKE_STOCK, (quantity, quantity, product)).fetchone()
                versions[product] = row[0]
        self.seconds[ORDER].append(time.perf_counter() - start)
        self.book.order(user, version, versions, placed=1)
        self._versions[user], self._newest[user] = version, order
        self.statements += 2 + len(products)
        self.read("last orders (join)", user)

    def _pay(self, user: int) -> None:
        version = self._versions[user] + 1
        self.conn.execute(data.PAY, (version, self._newest[user]))
        self.book.order(user, version, {}, placed=0)
        self._versions[user] = version
        self.statements += 1
        self.read("last orders (join)", user)

    def _move(self, user: int) -> None:
        city = f"City {self.rng.randint(0, 99)}"
        version = self.conn.execute(data.MOVE_USER, (city, user)).fetchone()[0]
        self.book.user(user, version)
        self.statements += 1
        self.read("user by id", user)
