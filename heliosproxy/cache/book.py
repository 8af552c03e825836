"""What the cache knows about one database, as one login sees it, and how it learns it.

Nothing is known before the first statement that would need a server; then a control connection reads the
catalogue, and looks for changes made by others every ``poll_interval`` (hazards/cache.md, rows 8, 9, 22).
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..effects import Control, Steps
from ..sql.catalog import Catalog
from ..sql.catalog_load import load, probe
from ..state.settings import Settings
from .doubts import Doubts

if TYPE_CHECKING:
    from .service import CacheService

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


class Book:
    """The knowledge about the database of one pool.

    Attributes:
        catalog: the snapshot; None before the first look, and after DDL until the next one.
        token: the version of `slot` when the snapshot was begun: DDL of this Proxy and its workers moves it.
        slot: the slot that every entry of this database has: it changes with the catalogue.
        next_poll: when to look for changes made by others, on the service's clock.
        doubts: writes whose outcome is not known.
    """

    def __init__(self, service: CacheService, pool: Any) -> None:
        self.service = service
        self.pool = pool
        self.catalog: Catalog | None = None
        self.login: Login | None = None
        self.token: int | None = None
        self.slot: int = service.versions.slot((pool.key.node, pool.key.database), 0)
        self.next_poll = 0.0
        self.doubts = Doubts(service.versions)
        self._contexts: dict[Any, Context] = {}
        self._lock = threading.Lock()

    def database(self) -> object:
        """What tells this database from others, for `Versions.slot`."""
        return (self.pool.key.node, self.pool.key.database)

    def slots(self, relations: frozenset[int]) -> tuple[int, ...]:
        """The slots of *relations*, and the catalogue's."""
        database, slot = self.database(), self.service.versions.slot
        return (self.slot, *sorted({slot(database, oid) for oid in relations}))

    @property
    def known(self) -> bool:
        """Whether the snapshot still describes the database, as far as this Proxy's own DDL goes."""
        return self.catalog is not None and self.service.versions.valid((self.slot,), self.token)

    def refresh(self) -> Steps:
        """Learn, or look whether something changed. Raises what the control connection raises."""
        now = self.service.clock()
        self.next_poll = now + self.service.poll_interval
        versions = self.service.versions
        token = versions.token((self.slot,))
        known = self.known
        before = self.catalog

        def work(conn: Any) -> tuple[Catalog | None, Login | None]:
            self.doubts.resolve(conn, now)
            if known and before is not None and probe(conn) == before.fingerprint:
                return None, None
            row = conn.execute(_LOGIN).fetchone()
            return load(conn, self.service.next_epoch()), Login(*row)

        catalog, login = yield Control(self.pool, work)
        if catalog is None:
            return
        with self._lock:
            if known and before is not None:
                # Somebody else changed it: what was stored under the old one is not to be trusted.
                versions.touch((self.slot,))
                token = versions.token((self.slot,))
            self.catalog, self.login, self.token = catalog, login, token
            self._contexts.clear()

    def context(self, settings: Settings) -> Context:
        """The context of a session with *settings*."""
        catalog, login = self.catalog, self.login
        if catalog is None or login is None:
            return Context(0, barred="catalogue_unknown")
        relevant = tuple(sorted((k, v) for k, v in settings.values.items() if k not in IRRELEVANT))
        context = self._contexts.get((catalog.epoch, relevant))
        if context is None:
            context = self._make(catalog, login, dict(relevant))
            if len(self._contexts) >= self.service.most_contexts:
                self._contexts.clear()
            self._contexts[catalog.epoch, relevant] = context
        return context

    def _make(self, catalog: Catalog, login: Login, settings: dict[str, str]) -> Context:
        number = self.service.next_context()
        isolation = settings.get("default_transaction_isolation", login.isolation).strip("' ").lower()
        barred = "" if isolation in ("read committed", "read uncommitted") else "isolation"
        user = _name(settings.get("session_authorization"), login.user)
        role = settings.get("role")
        if role is not None and role.strip("' ").lower() != "none":
            user = _name(role, None)
        path = _path(settings.get("search_path"), login.search_path)
        if user is None or path is None:
            return Context(number, barred="setting")
        return Context(number, catalog.search_path(path, user), barred)


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
