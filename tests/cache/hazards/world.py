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
            truth = self.raw(name + "'").cursor(binary=binary).execute(query, params, **keywords)
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
