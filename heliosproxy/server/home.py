"""What the clients of one database and user share: the pool of server connections, and what is known of texts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from psycopg.conninfo import conninfo_to_dict

from ..pool.key import PoolKey
from ..pool.pool import Pool
from ..sql.shape import shape, shared
from ..sql.statement import Kind, Statement
from ..state import consequences
from ..state.settings import EMPTY, Values
from .client.statements import Prepared
from .listen.listener import Listener
from .upstream.outage import Outage

if TYPE_CHECKING:
    from ..proxy import Proxy
    from ..session import Session
    from .upstream.connection import Upstream

PATIENCE = 5.0
"""Seconds in the queue after which a client is told that it waits."""

SELDOM = 0.1
"""Seconds between two looks at those who wait."""

_PASSING = frozenset({Kind.SELECT, Kind.INSERT, Kind.UPDATE, Kind.DELETE, Kind.MERGE})

# At most 16 MB, of texts and facts that the memo may have forgotten meanwhile.
_SHORT, _MOST_RECENT = 2048, 4096


class Known:
    """What is known of a text.

    Attributes:
        statement: the facts.
        quiet: it leaves the session's own state alone.
        reads: it is a SELECT, of which an answer may be kept.
        passing: it may go the short way, as far as that depends on the text alone.
        mark, past: the cache's: what it thinks of the text, and that it has nothing to do with it.
    """

    __slots__ = ("mark", "passing", "past", "quiet", "reads", "statement")

    def __init__(self, statement: Statement, quiet: bool) -> None:
        self.statement = statement
        self.quiet = quiet
        self.reads = statement.kind is Kind.SELECT
        self.passing = quiet and statement.kind in _PASSING and not statement.parts
        self.mark: Any = None
        self.past = False


def whereabouts(key: PoolKey) -> dict[str, Any]:
    """What the console says of where the connections of a pool with this *key* lead."""
    given = conninfo_to_dict(key.conninfo)
    return {
        "node": key.node,
        "database": key.database,
        "user": key.user,
        "host": given.get("host") or "",
        "port": int(str(given.get("port") or "5432").partition(",")[0]),
    }


class Home:
    """One pool, as the wire face sees it.

    Attributes:
        proxy: whose pool it is.
        pool: the server connections.
        control: what `Proxy.control` needs to reach the same database.
        session_mode, statement_mode: as in ``pool.mode``.
        reported: what the server reports to a session that has set nothing, by name; empty before the first login.
        harmless: names of functions that leave a session alone; None before the first login.
        listener: what listens for the clients of this pool.
        upstreams: server connections whose sockets are open.
        outage: what the log says of servers that cannot be connected to.
        recent: what is known of texts.
        short_way, plain, passing, peek: whether statements may take the short way, and the hooks that say so.
        parses: unnamed Parse messages, with the settings they are read by.
        tee: bytes of an answer that the cache takes at most.
        validated: startup settings that a server has accepted, with what it then reported.
        queries, hits: statements, and those of them that the cache answered.
        received, sent: bytes from clients that have gone, and to all.
        paused: statements wait, for an operator to say otherwise.
        held: who waits for that although it has a server connection, in the order of coming.
    """

    def __init__(self, proxy: Proxy, pool: Pool[Upstream], login: tuple[str, dict[str, Any]]) -> None:
        mode = proxy.config.pool.mode
        self.proxy = proxy
        self.pool = pool
        self.control = login
        self.session_mode = mode == "session"
        self.statement_mode = mode == "statement"
        self.reset = (proxy.config.pool.reset or "DISCARD ALL").encode()
        self.reported: dict[bytes, bytes] = {}
        self.harmless: frozenset[str] | None = None
        self.validated: dict[Any, dict[bytes, bytes]] = {}
        self.tee = proxy.config.cache.query.max_result_size
        self.listener = Listener(lambda: pool.connect_async(pool))
        self._watching: asyncio.TimerHandle | None = None  # for those who wait
        self.queries = self.hits = self.received = self.sent = 0
        self.paused = False
        self.held: dict[Callable[[], None], None] = {}
        self.upstreams: set[Upstream] = set()
        self.outage = Outage(pool.name)
        path = proxy.path
        # Who observes every statement sees those of the long way.
        self.short_way = path.short == ()
        self.plain, self.passing = path.plain, path.passing
        self.peek = path.peek[0] if len(path.peek) == 1 and self.short_way else None
        self.recent: dict[bytes, Known] = {}
        self.parses: dict[tuple[bytes, str], Prepared] = {}
        self._shapes: dict[bytes, Known] = {}
        self._shapes_hold = not proxy.config.cache.query.exclude_patterns
        self._prepared: dict[tuple[bytes, bytes, str], Prepared] = {}

    def pause(self) -> None:
        """Let statements wait; see `heliosproxy.server.control.Control.pause`."""
        self.paused = True
        self.pool.pause()

    def resume(self) -> None:
        """Serve again."""
        self.paused = False
        held, self.held = self.held, {}
        for go_on in held:
            go_on()
        self.pool.resume()

    def watch(self) -> None:
        """Somebody waits for a server connection: look from time to time whether it is for too long."""
        if self._watching is None:
            timeout = self.pool.options.timeout
            self._watching = asyncio.get_running_loop().call_later(min(SELDOM, timeout / 10), self._look)

    def _look(self) -> None:
        self._watching = None
        patience = self.pool.options.timeout
        for waiter, waited in self.pool.waiting(min(patience, PATIENCE)):
            if waited >= patience:
                waiter.wake()
            elif waiter.direct and not waiter.told:
                waiter.told = True
                waiter.owner.still_waiting()
        if self.pool.stock.queue:
            self.watch()

    def numbers(self, now: float) -> dict[str, Any]:
        """What the console says of the pool, *now* being the pool's clock."""
        stats = self.pool.stats()
        eldest = next(iter(self.pool.stock.queue), None)
        return {
            "name": self.pool.name,
            **whereabouts(self.pool.key),
            "mode": self.proxy.config.pool.mode,
            "paused": self.paused,
            "longest_wait": 0.0 if eldest is None else now - eldest.since,
            "queries": self.queries,
            "hits": self.hits,
            "sent": self.sent,
            "connecting": self.pool.stock.connecting,
            **stats,
        }

    def close(self) -> None:
        """Hang up on the servers, if only on those that are idle."""
        self.listener.close()
        self.pool.close()

    def session(self, base: Values = EMPTY) -> Session:
        """A new session, whose settings begin with *base*: the client's startup parameters."""
        from ..session import Session

        pins = frozenset({"session"}) if self.session_mode else frozenset[str]()
        session = Session(self.proxy.path, self.pool, pins=pins, harmless=self.harmless or frozenset())
        session.settings.begin_with(base)
        return session

    def prepared(self, text: bytes, types: bytes, reading: str, encoding: str) -> Prepared:
        """The statement of *text* with parameter *types*, one object for all who prepare it and read it alike."""
        key = (text, types, reading)
        found = self._prepared.get(key)
        if found is None:
            found = Prepared(text, types, reading, self.known(text, encoding))
            if len(text) <= _SHORT:
                if len(self._prepared) >= _MOST_RECENT:
                    self._prepared.clear()
                self._prepared[key] = found
        return found

    def remember_parse(self, message: bytes, reading: str, prepared: Prepared) -> None:
        """An unnamed Parse, whole, means *prepared*: the next one need not be taken apart."""
        if len(message) <= _SHORT:
            if len(self.parses) >= _MOST_RECENT:
                self.parses.clear()
            self.parses[message, reading] = prepared

    def of_shape(self, text: bytes) -> Known | None:
        """What is known of texts that differ from *text* in integers alone; None = nothing."""
        form = shape(text) if self._shapes_hold else None
        return None if form is None else self._shapes.get(form)

    def known(self, text: bytes, encoding: str = "utf-8") -> Known:
        """What is known of *text*; raises StatementRejected, or ConfigError for a hint that is not understood."""
        found = self.recent.get(text)
        if found is not None and encoding == "utf-8":
            return found
        form = shape(text) if self._shapes_hold and encoding == "utf-8" else None
        if form is not None and (found := self._shapes.get(form)) is not None:
            return found
        statement = self.proxy.memo.get(text.decode(encoding, "surrogateescape"))
        found = Known(statement, not consequences.any_of(statement, self.harmless or frozenset()))
        if encoding == "utf-8" and len(text) <= _SHORT:
            # The text itself is looked at by patterns of the configuration alone.
            where, key = self.recent, text
            if form is not None and shared(statement):
                where, key = self._shapes, form
            if len(where) >= _MOST_RECENT:
                where.clear()
            where[key] = found
        return found
