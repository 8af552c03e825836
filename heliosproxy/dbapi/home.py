"""What the connections of one pool share: the pool, and what its first server connection told."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, cast

from psycopg import generators, pq
from psycopg._connection_info import ConnectionInfo as PsycopgInfo
from psycopg._queries import PostgresQuery
from psycopg.abc import PQGen

from ..call import Call
from ..drivers.pgserver import PGServer
from ..pool.pool import Pool
from ..sql.harmless import HARMLESS
from ..sql.statement import Statement
from . import parked

if TYPE_CHECKING:
    from ..proxy import Proxy
    from ..session import Session

# At most 4 MB, of texts and facts that the memo may have forgotten meanwhile.
_SHORT, _MOST_RECENT = 2048, 512
_PLAIN: frozenset[Any] = frozenset({tuple, dict})
_LOGIN = ("host", "hostaddr", "port", "db", "user", "password", "options")


class Known:
    """What is known of a text, kept as long as the text comes again.

    Attributes:
        statement: the facts.
        quiet: it leaves the session's own state alone.
        mark: the cache's: what it thinks of the statement, and what that holds for.
        past: the cache's: the last session that asked went past it, so another need not look first.
    """

    __slots__ = ("mark", "past", "quiet", "statement")

    def __init__(self, statement: Statement, quiet: bool) -> None:
        self.statement = statement
        self.quiet = quiet
        self.mark: Any = None
        self.past = False


class Home:
    """One pool, as the DB-API sees it.

    Attributes:
        proxy: whose pool it is.
        pool: the server connections.
        session_mode: a logical connection keeps its server connection from connect() to close().
        statement_mode: each statement may go elsewhere, so there is no BEGIN.
        on_path: statements take the path; False in session mode without a stage.
        reset: what a server connection runs when session mode gives it back.
        memo: texts to facts, shared by the whole Proxy; None when not `on_path`.
        clock: seconds, monotonic.
        parked: the twins for a session that has set nothing; None until the first login.
        login, parameters: what ``conn.info`` tells of a login, by libpq's names; empty until the first one.
        harmless: names of functions that leave a session alone: PostgreSQL's own, and others written in C.
        cancels: held while a cancel request is under way to a server connection of this pool.
    """

    def __init__(self, proxy: Proxy, pool: Pool[PGServer], conninfo: Any) -> None:
        mode = proxy.config.pool.mode
        self.proxy = proxy
        self.pool = pool
        self.conninfo = conninfo
        self.session_mode = mode == "session"
        self.statement_mode = mode == "statement"
        self.on_path = not self.session_mode or bool(proxy.path)
        self.reset = (proxy.config.pool.reset or "DISCARD ALL").encode()
        self.memo: Any = proxy.memo if self.on_path else None
        self.clock = time.perf_counter
        self.parked: parked.Parked | None = None
        self.login: dict[str, str] = {}
        self.parameters: dict[str, str] = {}
        self.harmless: frozenset[str] = frozenset()
        self._recent: dict[bytes, Known] = {}
        self._texts: dict[str, tuple[Known, PostgresQuery]] = {}
        self.cancels = threading.RLock()

    @property
    def control(self) -> tuple[Any, dict[str, Any]]:
        """What a control connection to the same database is opened with."""
        return self.conninfo.current, self.conninfo.parameters

    def session(self) -> Session | None:
        """A new session; None where nothing needs one."""
        if not self.on_path:
            return None
        from ..session import Session

        pins = frozenset({"session"}) if self.session_mode else frozenset[str]()
        return Session(self.proxy.path, self.pool, pins=pins, harmless=self.harmless)

    def facts(self, text: bytes, encoding: str) -> Known:
        """What is known of *text*.

        Bytes of a statement converted again are the same object, with its hash: half the cost of the memo,
        which is asked for texts that are long, rare, or not UTF-8.
        """
        found = self._recent.get(text) if encoding == "utf-8" else None
        if found is None:
            from ..state.consequences import any_of  # brings the parser, which session mode can do without

            statement = self.memo.get(text.decode(encoding, "surrogateescape"))
            found = Known(statement, not any_of(statement, self.harmless))
            if encoding == "utf-8" and len(text) <= _SHORT:
                if len(self._recent) >= _MOST_RECENT:
                    self._recent.clear()
                self._recent[text] = found
        return found

    def goes_past(self, query: Any) -> bool:
        """Whether it is known of the text *query* that no cache has its answer."""
        found = self._texts.get(query) if query.__class__ is str else None
        return found is not None and found[0].past

    def converted(self, call: Call, encoding: str) -> Known | None:
        """What is known of the text of *call*, whose parameters are then converted; None if psycopg must do it.

        Of a text that comes again only the parameters are new. psycopg remembers that by the encoded text,
        which costs encoding and hashing it each time.
        """
        query, params, cursor = call.query, call.params, call.cursor
        if query.__class__ is not str or encoding != "utf-8":
            return None
        found = self._texts.get(query)
        if found is None:
            return None
        known, like = found
        order = like._order
        if params.__class__ is dict and (order is not None or len(like._parts) == 1):
            try:
                params = [params[name] for name in order or ()]
            except KeyError:
                return None  # psycopg says which there are
        elif params.__class__ is not tuple or order is not None or len(params) != len(like._parts) - 1:
            return None
        if cursor._query_cls is not PostgresQuery:
            return None
        tx = cursor._tx
        bound = call.bound = PostgresQuery(tx)
        bound.query, bound._parts, bound._order = like.query, like._parts, order
        wanted: Any = like._want_formats
        bound._want_formats = wanted
        bound.params = tx.dump_sequence(params, wanted)
        bound.types = tx.types or ()
        bound.formats = tx.formats
        return known

    def remember(self, call: Call, known: Known, encoding: str) -> None:
        """Remember how psycopg converted *call*, if `converted` can do that the next time."""
        query: Any = call.query
        bound: Any = call.bound
        if (
            query.__class__ is str
            and call.params.__class__ in _PLAIN
            and bound.__class__ is PostgresQuery
            and encoding == "utf-8"
            and len(query) <= _SHORT
        ):
            if len(self._texts) >= _MOST_RECENT:
                self._texts.clear()
            like = PostgresQuery(
                cast(Any, None)
            )  # its parameters are not to be kept, nor its cursor's adapters
            like.query, like._parts, like._want_formats = bound.query, bound._parts, bound._want_formats
            like._order = bound._order
            self._texts[query] = known, like

    def learn_gen(self, server: PGServer) -> PQGen[None]:
        """Remember what the login to *server* told, and ask it what else is to be known."""
        if self.on_path:
            server.pgconn.send_query(HARMLESS)
            results = yield from generators.execute(server.pgconn)
            if results[0].status == pq.ExecStatus.TUPLES_OK:
                names = (results[0].get_value(row, 0) or b"" for row in range(results[0].ntuples))
                told = frozenset(name.decode("utf-8", "replace") for name in names)
                if told != self.proxy.harmless:
                    self.proxy.harmless = told
                self.harmless = self.proxy.harmless  # one for all pools that have the same: 300 kB
        self.learn(server)

    def learn(self, server: PGServer) -> None:
        """Remember what the login to *server* told."""
        pgconn: pq.abc.PGconn = server.pgconn
        encoding = pgconn._encoding
        self.login = {name: getattr(pgconn, name).decode(encoding) for name in _LOGIN}
        self.parameters = PsycopgInfo(pgconn).get_parameters()
        self.parked = parked.of(pgconn)
