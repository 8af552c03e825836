"""Finding stale reads.

A client takes `Book.acked` before it sends a statement. What it then gets must be at least as new: those writes
were acknowledged before it asked. Nor may it ever get older rows than it got before. PostgreSQL itself keeps
both promises, so whatever is found here was done by the cache.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import Any

from heliosproxy.demo.data import ORDERS, PRODUCTS, USERS

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Acked:
    """Versions of which the writer has seen the commit. Never changed, so that one reference is a snapshot.

    Attributes:
        users, orders, products: by id; *orders* by the id of the user.
        placed: how many orders there are.
    """

    users: tuple[int, ...] = (0,) * (USERS + 1)
    orders: tuple[int, ...] = (0,) * (USERS + 1)
    products: tuple[int, ...] = (0,) * (PRODUCTS + 1)
    placed: int = ORDERS


class Book:
    """What has been acknowledged in one database; the writers keep it."""

    def __init__(self) -> None:
        self.acked = Acked()
        self._lock = threading.Lock()

    def user(self, key: int, version: int) -> None:
        """A change of user *key* is committed."""
        with self._lock:
            self.acked = replace(self.acked, users=_raised(self.acked.users, {key: version}))

    def order(self, user: int, version: int, products: dict[int, int], placed: int) -> None:
        """A change of the newest order of *user* is committed, with these versions of products."""
        with self._lock:
            acked = self.acked
            self.acked = replace(
                acked,
                orders=_raised(acked.orders, {user: version}),
                products=_raised(acked.products, products),
                placed=acked.placed + placed,
            )


def _raised(versions: tuple[int, ...], new: dict[int, int]) -> tuple[int, ...]:
    if not new:
        return versions
    changed = list(versions)
    for key, version in new.items():
        # Two writers may be acknowledged in one order and get here in the other.
        changed[key] = max(changed[key], version)
    return tuple(changed)


@dataclass
class Checker:
    """The judge of one client's reads.

    Attributes:
        checked: reads judged.
        stale: reads that were older than what this client knew, or torn.
        examples: what the first stale ones were.
    """

    checked: int = 0
    stale: int = 0
    examples: list[str] = field(default_factory=list)
    _seen: dict[tuple[str, int], int] = field(default_factory=dict)

    def check(self, kind: str, key: int, rows: Rows, acked: Acked) -> None:
        """Judge *rows*, the answer to the read *kind* for *key*; *acked* was taken before it was sent."""
        self.checked += 1
        match kind:
            case "user by id":
                self._least(kind, key, rows[0][4] if rows else -1, acked.users[key])
            case "last orders (join)":
                self._least(kind, key, rows[0][1] if rows else -1, acked.orders[key])
                self._whole(kind, key, rows)
            case "top products":
                if len(rows) != 10:
                    self._found(f"{kind}: {len(rows)} rows, not 10")
                for row in rows:
                    self._least(kind, row[0], row[1], acked.products[row[0]])
            case _:
                self._least(kind, 0, sum(row[1] for row in rows), acked.placed)

    def _least(self, kind: str, key: int, version: int, acked: int) -> None:
        seen = self._seen.get((kind, key), 0)
        if version < acked or version < seen:
            self._found(f"{kind} {key}: version {version}, but {acked} was acknowledged and {seen} seen")
        elif version > seen:
            self._seen[kind, key] = version

    def _whole(self, kind: str, key: int, rows: Rows) -> None:
        # An order and its items are committed together: fewer items mean half of a transaction.
        lines: dict[int, int] = {}
        for row in rows:
            lines[row[0]] = lines.get(row[0], 0) + 1
        for row in rows:
            if lines[row[0]] != row[2]:
                self._found(f"{kind} {key}: order {row[0]} has {lines[row[0]]} of its {row[2]} items")
                return

    def _found(self, what: str) -> None:
        self.stale += 1
        if len(self.examples) < 3:
            self.examples.append(what)
