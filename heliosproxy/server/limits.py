"""How many clients may be connected: in all, of one user, to one database, from one address. Numbers only, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ..errors import TooManyRequests

if TYPE_CHECKING:
    from ..config.features import Server
    from ..config.identity import User


class Limit:
    """So many clients of each name at a time.

    Attributes:
        key: of the configuration, for people.
        who: what a name is of, for people: ``user``.
        most: for a name that has no number of its own; None = unlimited.
        own: numbers of single names.
        count: clients by name, where the name is limited; names that have none are not in it.
    """

    def __init__(self, key: str, who: str, most: int | None, own: Mapping[str, int] | None = None) -> None:
        self.key = key
        self.who = who
        self.most = most
        self.own = own or {}
        self.count: dict[str, int] = {}

    @property
    def on(self) -> bool:
        """Whether it limits anybody."""
        return self.most is not None or bool(self.own)

    def check(self, name: str) -> bool:
        """Whether *name* is limited at all.

        Raises:
            TooManyRequests: it has as many clients as it may have.
        """
        most = self.own.get(name, self.most)
        if most is None:
            return False
        if self.count.get(name, 0) < most:
            return True
        key = f"max_connections of its [[{self.who}]]" if name in self.own else self.key
        if not self.who:
            raise TooManyRequests(f"{most} clients are connected, and that is {key}")
        raise TooManyRequests(f'{self.who} "{name}" has {most} clients connected, and that is {key}')


class Place:
    """What one client takes up; given back as a whole, once."""

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken: list[tuple[Limit, str]] = []

    def take(self, limit: Limit, name: str) -> None:
        """One more client of *name*; raises TooManyRequests, and takes nothing then."""
        if limit.check(name):
            self.keep(limit, name)

    def keep(self, limit: Limit, name: str) -> None:
        """As `take`, of a client that is there already: more of *name* than the limit allows are counted, too."""
        if limit.own.get(name, limit.most) is not None:
            limit.count[name] = limit.count.get(name, 0) + 1
            self._taken.append((limit, name))

    def free(self) -> None:
        """The client is gone, or was not let in."""
        while self._taken:
            limit, name = self._taken.pop()
            if limit.count[name] > 1:
                limit.count[name] -= 1
            else:
                del limit.count[name]  # anybody can come up with names: none stays in memory


class Limits:
    """All the limits of one process.

    A client takes its place in two steps, and before anything is waited for that comes behind them: by its address
    when it begins to log in, by its name when it has proven that. Else anybody could use up the places of a user.

    Attributes:
        overall, users, databases, addresses: each of them.
        on: whether any limits anybody.
    """

    def __init__(self, server: Server, overall: int | None, users: Iterable[User]) -> None:
        own = {user.name: user.max_connections for user in users if user.max_connections is not None}
        self.overall = Limit("pool.max_connections", "", overall)
        self.users = Limit("server.max_user_connections", "user", server.max_user_connections, own)
        self.databases = Limit("server.max_database_connections", "database", server.max_database_connections)
        self.addresses = Limit("server.max_address_connections", "address", server.max_address_connections)
        limits = (self.overall, self.users, self.databases, self.addresses)
        self.on = any(limit.on for limit in limits)
        self._none = Place()

    def arrive(self, address: str) -> Place:
        """The place of a client that logs in from *address*; "" = a Unix socket.

        Raises:
            TooManyRequests: its address has none left.
        """
        if not self.on:
            return self._none
        place = Place()
        if address:
            place.take(self.addresses, address)
        return place

    def keep(self, address: str, user: str, database: str) -> Place:
        """The place of a client that is there already, whatever the limits were when it came."""
        place = Place()
        if address:
            place.keep(self.addresses, address)
        if user:
            for limit, name in ((self.overall, ""), (self.users, user), (self.databases, database)):
                place.keep(limit, name)
        return place

    def enter(self, place: Place, user: str, database: str) -> None:
        """It is *user*, and wants *database*.

        Raises:
            TooManyRequests: one of them has no place left, or nobody has. *place* is to be freed.
        """
        if self.on:
            place.take(self.overall, "")
            place.take(self.users, user)
            place.take(self.databases, database)
