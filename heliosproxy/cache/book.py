"""What the cache knows about one database, as one login sees it, and how it learns it.

Nothing is known before the first statement that would need a server; then a control connection reads the
catalogue, and looks for changes made by others every ``poll_interval`` (hazards/cache.md, rows 8, 9, 22).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

import psycopg

from ..effects import Control, Follow, Steps
from ..sql.catalog import Catalog
from ..sql.catalog_load import load, probe
from ..state.settings import Settings
from .doubts import Doubts
from .flight import Flights

if TYPE_CHECKING:
    from .service import CacheService

RETRY = 1.0
"""Seconds until a question that could not be answered is asked again: a server that refused, an open doubt."""

LONGEST_LOOK = 10.0
"""Seconds that a session waits for what another one is just learning."""

# They change neither what a statement returns nor how it looks.
IRRELEVANT = frozenset(
    {
        "application_name",
        "client_min_messages",
        "deadlock_timeout",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
        "lock_timeout",
        "log_duration",
        "log_min_duration_statement",
        "log_statement",
        "maintenance_work_mem",
        "statement_timeout",
        "tcp_keepalives_count",
        "tcp_keepalives_idle",
        "tcp_keepalives_interval",
        "tcp_user_timeout",
        "transaction_timeout",
        "work_mem",
    }
)
_ITEM = re.compile(r"'((?:[^']|'')*)'\s*(,|$)")
_NO_LONG_WAIT = "SET lock_timeout TO '500ms'"
_LOGIN = """
SELECT current_user, current_setting('search_path'), current_setting('default_transaction_isolation')
"""


@dataclass(frozen=True, slots=True)
class Login:
    """What a session has before it sets anything: of ALTER ROLE, ALTER DATABASE and the connection string."""

    user: str
    search_path: str
    isolation: str


@dataclass(frozen=True, slots=True)
class Context:
    """What an answer depends on beside the statement: one number in its key stands for all of it.

    Attributes:
        number: never used again for another context.
        search_path: the schemas names are looked up in; None when nobody can tell.
        barred: why a session in this state may not use the cache; "" when it may.
    """

    number: int
    search_path: tuple[str, ...] | None = None
    barred: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a database.

    Attributes:
        token: the version of the book's slot before the look: DDL of this Proxy and its workers moves it.
    """

    catalog: Catalog
    login: Login
    token: int


class Book:
    """The knowledge about the database of one pool.

    Attributes:
        look: the last look; None before the first one. Replaced as a whole, so it is of one piece.
        slot: the slot that every entry of this database has: it changes with the catalogue.
        next_poll: when to look for changes made by others, on the service's clock.
        doubts: writes whose outcome is not known.
    """

    def __init__(self, service: CacheService, pool: Any) -> None:
        self.service = service
        self.pool = pool
        self.look: Look | None = None
        self.slot: int = service.versions.slot((pool.key.node, pool.key.database), 0)
        self.next_poll = 0.0
        self.doubts = Doubts(service.versions)
        self._refused = self._ask = -inf
        self._looks = Flights()
        self._contexts: dict[Any, Context] = {}
        self._lock = threading.Lock()

    @property
    def catalog(self) -> Catalog | None:
        """The catalogue as of the last look."""
        look = self.look
        return None if look is None else look.catalog

    def database(self) -> object:
        """What tells this database from others, for `Versions.slot`."""
        return (self.pool.key.node, self.pool.key.database)

    def slots(self, relations: frozenset[int]) -> tuple[int, ...]:
        """The slots of *relations*, and the catalogue's."""
        database, slot = self.database(), self.service.versions.slot
        return (self.slot, *sorted({slot(database, oid) for oid in relations}))

    def holds(self, look: Look | None) -> bool:
        """Whether *look* is the last one, and still describes the database, as far as our own DDL goes.

        Whoever asks after taking a token of the book's slot, or after raising a flux, learns whether what was
        judged by *look* before is as true as that token.
        """
        return look is not None and look is self.look and self.service.versions.same(self.slot, look.token)

    def due(self) -> bool:
        """Whether there is something to learn that can be learned now."""
        now = self.service.clock()
        if self._refused > now:
            return False
        if self.next_poll <= now:
            return True
        if not self.holds(self.look):
            return self.service.versions.single(self.slot) is not None  # else DDL is under way
        return self._ask <= now and bool(self.doubts)

    def doubt(self) -> None:
        """A doubt has come up, or may be gone: ask at the next occasion."""
        self._ask = -inf

    def refresh(self) -> Steps:
        """Learn, or look whether something changed; what several want at once is done once.

        A server that refuses the control connection leaves everything unknown: that is no error of the
        statement, which may find a connection in the pool.
        """
        flight = self._looks.join("look", 0)
        if not flight.leader:
            yield Follow(flight, LONGEST_LOOK)
            return
        with flight:
            now = self.service.clock()
            if self.holds(self.look):
                self.next_poll = now + self.service.poll_interval  # others need not wait for this
            try:
                look = yield Control(self.pool, self._work)
            except (psycopg.Error, OSError):
                self.next_poll, self._refused = -inf, now + RETRY
                return
            except BaseException:  # who wanted it has gone, or does not want it any more
                self.next_poll = -inf
                raise
            self.next_poll = now + self.service.poll_interval
            self._ask = now + RETRY  # a doubt that stays will stay for a while
            if look is not None:
                self._learned(look)

    def _work(self, conn: Any) -> Look | None:
        """Look, by the control connection *conn*; None while somebody's DDL is in flux."""
        # Reading the definition of a view waits for whoever has locked its tables, perhaps for our own client.
        conn.execute(_NO_LONG_WAIT)
        self.doubts.resolve(conn)
        versions, before = self.service.versions, self.look
        token = versions.single(self.slot)
        if token is None:
            return None
        if before is not None:
            if probe(conn) == before.catalog.fingerprint:
                return Look(before.catalog, before.login, token)
            # Perhaps somebody else's DDL: what was stored under the old catalogue is not to be trusted. The
            # token is taken before loading, so that DDL of ours meanwhile makes this look void.
            versions.touch((self.slot,))
            token = versions.single(self.slot)
            if token is None:
                return None
        row = conn.execute(_LOGIN).fetchone()
        return Look(load(conn, self.service.next_epoch()), Login(*row), token)

    def _learned(self, look: Look) -> None:
        with self._lock:
            if self.look is None or look.catalog is not self.look.catalog:
                self._contexts.clear()
            self.look = look

    def context(self, settings: Settings, look: Look | None) -> Context:
        """The context of a session with *settings*, as of *look*."""
        if look is None:
            return Context(0, barred="catalogue_unknown")
        relevant = tuple(sorted((k, v) for k, v in settings.values.items() if k not in IRRELEVANT))
        context = self._contexts.get((look.catalog.epoch, relevant))
        if context is None:
            context = self._make(look, dict(relevant))
            if len(self._contexts) >= self.service.most_contexts:
                self._contexts.clear()
            self._contexts[look.catalog.epoch, relevant] = context
        return context

    def _make(self, look: Look, settings: dict[str, str]) -> Context:
        number = self.service.next_context()
        isolation = settings.get("default_transaction_isolation", look.login.isolation).strip("' ").lower()
        barred = "" if isolation in ("read committed", "read uncommitted") else "isolation"
        path = search_path(look, settings)
        if path is None:
            return Context(number, barred="setting")
        return Context(number, path, barred)


def search_path(look: Look, settings: Mapping[str, str]) -> tuple[str, ...] | None:
    """The schemas that names are looked up in under *settings*; None when nobody can tell."""
    user = _name(settings.get("session_authorization"), look.login.user)
    role = settings.get("role")
    if role is not None and role.strip("' ").lower() != "none":
        user = _name(role, None)
    path = _path(settings.get("search_path"), look.login.search_path)
    return None if user is None or path is None else look.catalog.search_path(path, user)


def _name(value: str | None, default: str | None) -> str | None:
    """A role's name from its SQL text; None when it is written in a way we do not read."""
    if value is None:
        return default
    items = _items(value)
    return items[0] if items and len(items) == 1 else None


def _path(value: str | None, default: str) -> str | None:
    """search_path as the setting's own text, from its SQL text."""
    if value is None:
        return default
    items = _items(value)
    return None if items is None else ", ".join('"' + item.replace('"', '""') + '"' for item in items)


def _items(value: str) -> list[str] | None:
    items, at = [], 0
    text = value.strip()
    while at < len(text):
        match = _ITEM.match(text, at)
        if match is None:
            return None
        items.append(match[1].replace("''", "'"))
        at = match.end()
        while at < len(text) and text[at] == " ":
            at += 1
    return items
