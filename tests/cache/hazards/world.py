"""The stage the hazards are played on: named connections of every face, and a script language for them.

A script is lines of ``name: SQL``, optionally ``% parameters`` (a Python literal) and ``-> expectation``:

    a: BEGIN                                     proxied connections are named a, b, c; they are in autocommit
    a+: SET TimeZone TO 'Asia/Tokyo'             also on a's twin, an uncached connection with the same state
    n: INSERT …                                  n is not in autocommit
    n: .commit()                                 a method of the connection
    raw: UPDATE …                                a connection that does not pass the proxy
    a: SELECT … % (1,) -> hit                    a read: answered so, and byte for byte as by the twin
    a*: SELECT … -> own_writes                   … as by this very session, uncached: it sees its own writes
    a: SELECT … -> never                         twice, and never a hit
    a: SELECT … -> error 42501                   refused so

Expectations: hit, miss, never, any, ``error SQLSTATE``, or the reason of a bypass.
"""

from __future__ import annotations

import ast
import re
from typing import Any

import psycopg

import heliosproxy
from heliosproxy.dbapi.cursor_base import Helios

_LINE = re.compile(
    r"(?P<name>\w+)(?P<mark>[+*]?):\s*(?P<sql>.*?)(?:\s+%\s+(?P<params>[\[({].*?[\])}]))?"
    r"(?:\s+->\s+(?P<expect>[\w ]+))?$",
    re.DOTALL,
)
_METHOD = re.compile(r"\.(\w+)\((.*)\)$", re.DOTALL)


class World:
    """Connections by name, through one Proxy and one face.

    Attributes:
        proxy: the Proxy under test.
        clock: what its cache takes for the time: the catalogue is polled only when a test says so.
    """

    def __init__(self, dsn: str, proxy: heliosproxy.Proxy, face: Any) -> None:
        self.dsn = dsn
        self.proxy = proxy
        self.face = face
        if not isinstance(proxy.cache.clock, Clock):
            proxy.cache.clock = Clock()
        self.clock = proxy.cache.clock
        self._open: dict[str, Any] = {}
        self._raw: dict[str, psycopg.Connection] = {}

    def conn(self, name: str, **keywords: Any) -> Any:
        """The proxied connection *name*; opened by its first use."""
        if name not in self._open:
            keywords = {"autocommit": name != "n", **keywords}
            self._open[name] = self.face.connect(self.proxy, self.dsn, **keywords)
        return self._open[name]

    def raw(self, name: str = "raw", **keywords: Any) -> psycopg.Connection:
        """The connection *name* past the proxy: the outside, or a twin."""
        if name not in self._raw:
            self._raw[name] = psycopg.connect(self.dsn, autocommit=True, **keywords)
        return self._raw[name]

    def play(self, script: str) -> None:
        """Play *script*, line by line."""
        for line in filter(None, map(str.strip, script.splitlines())):
            try:
                self._line(line)
            except Exception as error:
                error.add_note(f"in the line: {line}")
                raise

    def execute(self, name: str, query: Any, params: Any = None, **keywords: Any) -> Any:
        """The cursor of *query* on the proxied connection *name*."""
        cursor = self.conn(name).cursor(binary=keywords.pop("binary", False))
        return self.face.run(cursor.execute(query, params, **keywords))

    def read(
        self,
        name: str,
        query: Any,
        params: Any = None,
        expect: str = "any",
        own: bool = False,
        **keywords: Any,
    ) -> Any:
        """A read that must be true, and answered as expected; returns the cursor."""
        cursor = self.execute(name, query, params, **keywords)
        given = self.seen(cursor)
        if own:
            truth = self.execute(name, query, params, **{**keywords, "helios": {"cache": False}})
        else:
            keywords.pop("helios", None)
            binary = keywords.pop("binary", False)
            twin = self.raw(name + "'", cursor_factory=getattr(self.face, "twin_class", psycopg.Cursor))
            truth = twin.cursor(binary=binary).execute(query, params, **keywords)
        assert given == self.seen(truth), f"{query}: not what the server says"
        outcome, reason = cursor.helios[:2]
        told = f"{outcome} {reason}: {self.proxy.cache.stats()}"
        if expect in ("hit", "miss"):
            assert outcome == expect, told
        elif expect == "never":
            assert outcome == "bypass", told
        elif expect != "any":
            assert (outcome, reason) == ("bypass", expect), told
        return cursor

    def seen(self, cursor: Any) -> Any:
        """Everything a client can see of a result: names, types, formats, the bytes of each cell."""
        result = cursor.pgresult
        columns = range(result.nfields)
        head = [(result.fname(c), result.ftype(c), result.fformat(c)) for c in columns]
        return head, [[result.get_value(r, c) for c in columns] for r in range(result.ntuples)]

    def close(self) -> None:
        """Close what was opened, and bring back the clock."""
        for conn in self._open.values():
            self.face.run(conn.close())
        for raw in self._raw.values():
            raw.close()
        self._open, self._raw = {}, {}

    def _line(self, line: str) -> None:
        match = _LINE.match(line)
        assert match is not None, f"not a line of a script: {line}"
        name, mark, sql, params, expect = match.group("name", "mark", "sql", "params", "expect")
        values = ast.literal_eval(params) if params else None
        method = _METHOD.match(sql)
        if expect is not None and expect.startswith("error "):
            self._refused(name, sql, values, expect.removeprefix("error "))
        elif expect is not None:
            own = mark == "*"
            self.read(name, sql, values, expect, own)
            if expect == "never":
                self.read(name, sql, values, expect, own)
        elif name == "raw":
            self.raw().execute(sql, values)
        elif method:
            arguments = ast.literal_eval(f"({method[2]},)") if method[2] else ()
            self.face.run(getattr(self.conn(name), method[1])(*arguments))
        else:
            self.execute(name, sql, values)
            if mark == "+":
                self.raw(name + "'").execute(sql, values)

    def _refused(self, name: str, sql: str, values: Any, sqlstate: str) -> None:
        try:
            self.execute(name, sql, values)
        except psycopg.Error as error:
            assert error.sqlstate == sqlstate, error  # noqa: PT017 - there is nothing to raise again
        else:
            raise AssertionError(f"{sql}: the server would have refused with {sqlstate}")


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Blocking:
    """The blocking DB-API."""

    name = "sync"

    def connect(self, proxy: heliosproxy.Proxy, dsn: str, **keywords: Any) -> Any:
        return proxy.connect(dsn, **keywords)

    def run(self, value: Any) -> Any:
        return value

    def close(self) -> None:
        pass


class Wire:
    """Clients of the wire face; what the path thought of their last statement is spied upon.

    Attributes:
        cursor_class: psycopg's, of a kind that speaks one of the two query protocols alone.
    """

    cursor_class: type[psycopg.Cursor[Any]]

    def __init__(self) -> None:
        self._servers: dict[heliosproxy.Proxy, Any] = {}

    def connect(self, proxy: heliosproxy.Proxy, dsn: str, **keywords: Any) -> Any:
        if proxy not in self._servers:
            self._servers[proxy] = heliosproxy.serve(proxy)
        given = psycopg.conninfo.conninfo_to_dict(dsn)
        target = {**psycopg.conninfo.conninfo_to_dict(self._servers[proxy].url), "dbname": given["dbname"]}
        return psycopg.connect(**{**target, **keywords}, cursor_factory=self.cursor_class)

    def run(self, value: Any) -> Any:
        return value

    def close(self) -> None:
        for server in self._servers.values():
            server.close()


class Spy:
    """A stage that remembers what the path thought of the last statement."""

    def __init__(self) -> None:
        self.last: Any = None

    def observe(self, session: Any, call: Any, error: BaseException | None) -> None:
        if call.kind in ("execute", "fetch"):
            self.last = Helios(call.outcome, call.reason)


spy = Spy()


class _Watched(psycopg.Cursor[Any]):
    """`helios` as heliosproxy's own cursors have it; hints travel as comments."""

    def execute(self, query: Any, params: Any = None, *, helios: Any = None, **keywords: Any) -> Any:
        if helios:
            hints = " ".join(f"{name}={'off' if value is False else value}" for name, value in helios.items())
            query = f"/* helios:{hints} */ {query}"
        return super().execute(query, params, **keywords)

    @property
    def helios(self) -> Any:
        return spy.last


class _Simple(_Watched, psycopg.ClientCursor[Any]):
    """Always a Query message, its parameters in the text."""


class _Extended(_Watched):
    """Never a Query message."""

    def _execute_send(self, query: Any, *, force_extended: bool = False, binary: bool | None = None) -> None:
        super()._execute_send(query, force_extended=True, binary=binary)


class SimpleProtocol(Wire):
    """The simple query protocol."""

    name = "simple"
    cursor_class = _Simple
    twin_class = psycopg.ClientCursor  # what is sent as text has no type of its own


class ExtendedProtocol(Wire):
    """The extended query protocol."""

    name = "extended"
    cursor_class = _Extended


class Asyncio:
    """The DB-API of asyncio, one step at a time."""

    name = "async"

    def __init__(self) -> None:
        import asyncio

        self._runner = asyncio.Runner()

    def connect(self, proxy: heliosproxy.Proxy, dsn: str, **keywords: Any) -> Any:
        return self._runner.run(proxy.connect_async(dsn, **keywords))

    def run(self, value: Any) -> Any:
        return self._runner.run(value) if hasattr(value, "__await__") else value

    def close(self) -> None:
        self._runner.close()
