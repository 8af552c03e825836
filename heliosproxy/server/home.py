"""What the clients of one database and user share: the pool of server connections, and what is known of texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from ..pool.pool import Pool
from ..sql.shape import shape, shared
from ..sql.statement import Statement
from ..state import consequences
from ..state.settings import EMPTY, Values
from .client.statements import Prepared

if TYPE_CHECKING:
    from ..proxy import Proxy
    from ..session import Session
    from .upstream.connection import Upstream

# At most 16 MB, of texts and facts that the memo may have forgotten meanwhile.
_SHORT, _MOST_RECENT = 2048, 4096


class Known:
    """What is known of a text.

    Attributes:
        statement: the facts.
        quiet: it leaves the session's own state alone.
    """

    __slots__ = ("quiet", "statement")

    def __init__(self, statement: Statement, quiet: bool) -> None:
        self.statement = statement
        self.quiet = quiet


class Home:
    """One pool, as the wire face sees it.

    Attributes:
        proxy: whose pool it is.
        pool: the server connections.
        database: its name.
        control: what `Proxy.control` needs to reach the same database.
        session_mode, statement_mode: as in ``pool.mode``.
        reported: what the server reports to a session that has set nothing, by name; empty before the first login.
        harmless: names of functions that leave a session alone; None before the first login.
        upstreams: server connections whose sockets are open.
        parses: unnamed Parse messages, with the search_path they were sent under.
        tee: bytes of an answer that the cache takes at most.
        validated: startup settings that a server has accepted, with what it then reported.
    """

    def __init__(self, proxy: Proxy, pool: Pool[Upstream], login: tuple[str, dict[str, Any]]) -> None:
        mode = proxy.config.pool.mode
        self.proxy = proxy
        self.pool = pool
        self.control = login
        self.database: str = login[1]["dbname"]
        self.session_mode = mode == "session"
        self.statement_mode = mode == "statement"
        self.reset = (proxy.config.pool.reset or "DISCARD ALL").encode()
        self.reported: dict[bytes, bytes] = {}
        self.harmless: frozenset[str] | None = None
        self.validated: dict[Any, dict[bytes, bytes]] = {}
        self.tee = proxy.config.cache.query.max_result_size
        self.upstreams: WeakSet[Upstream] = WeakSet()
        self._recent: dict[bytes, Known] = {}
        self.parses: dict[tuple[bytes, str], Prepared] = {}
        self._shapes: dict[bytes, Known] = {}
        self._shapes_hold = not proxy.config.cache.query.exclude_patterns
        self._prepared: dict[tuple[bytes, bytes, str], Prepared] = {}

    def session(self, base: Values = EMPTY) -> Session:
        """A new session, whose settings begin with *base*: the client's startup parameters."""
        from ..session import Session

        pins = frozenset({"session"}) if self.session_mode else frozenset[str]()
        session = Session(self.proxy.path, self.pool, pins=pins, harmless=self.harmless or frozenset())
        session.settings.begin_with(base)
        return session

    def prepared(self, text: bytes, types: bytes, search_path: str, encoding: str) -> Prepared:
        """The statement of *text* with parameter *types*, one object for all who prepare it."""
        key = (text, types, search_path)
        found = self._prepared.get(key)
        if found is None:
            found = Prepared(text, types, search_path, self.known(text, encoding))
            if len(text) <= _SHORT:
                if len(self._prepared) >= _MOST_RECENT:
                    self._prepared.clear()
                self._prepared[key] = found
        return found

    def remember_parse(self, message: bytes, search_path: str, prepared: Prepared) -> None:
        """An unnamed Parse, whole, means *prepared*: the next one need not be taken apart."""
        if len(message) <= _SHORT:
            if len(self.parses) >= _MOST_RECENT:
                self.parses.clear()
            self.parses[message, search_path] = prepared

    def known(self, text: bytes, encoding: str = "utf-8") -> Known:
        """What is known of *text*; raises StatementRejected, or ConfigError for a hint that is not understood."""
        found = self._recent.get(text)
        if found is not None and encoding == "utf-8":
            return found
        form = shape(text) if self._shapes_hold and encoding == "utf-8" else None
        if form is not None and (found := self._shapes.get(form)) is not None:
            return found
        statement = self.proxy.memo.get(text.decode(encoding, "surrogateescape"))
        found = Known(statement, not consequences.any_of(statement, self.harmless or frozenset()))
        if encoding == "utf-8" and len(text) <= _SHORT:
            # The text itself is looked at by patterns of the configuration alone.
            where, key = self._recent, text
            if form is not None and shared(statement):
                where, key = self._shapes, form
            if len(where) >= _MOST_RECENT:
                where.clear()
            where[key] = found
        return found
