"""Which server a pool connects to, and as whom."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from ..login.answers import Answers


@dataclass(frozen=True, slots=True)
class Target:
    """One server, and a login there.

    Attributes:
        host, port: of a TCP connection.
        path: of a Unix socket; "" = TCP.
        startup: the startup packet's parameters.
        password: what proves the login; "" = nothing.
        connect_timeout: seconds; None = as long as it takes.
    """

    host: str
    port: int
    path: str
    startup: dict[bytes, bytes]
    password: str = field(default="", repr=False)
    connect_timeout: float | None = None

    @classmethod
    def of(cls, conninfo: str, **parameters: Any) -> Target:
        """The target of a libpq *conninfo*."""
        given = {name: str(value) for name, value in conninfo_to_dict(conninfo, **parameters).items()}
        for option in psycopg.pq.Conninfo.get_defaults():
            if option.val is not None:
                given.setdefault(option.keyword.decode(), option.val.decode())
        host = given.get("host") or "/var/run/postgresql"
        port = int(given.get("port") or 5432)
        user = given.get("user", "")
        startup = {b"user": user.encode(), b"database": (given.get("dbname") or user).encode()}
        for name, parameter in (("options", b"options"), ("application_name", b"application_name")):
            if given.get(name):
                startup[parameter] = given[name].encode()
        timeout = float(given.get("connect_timeout") or 0)
        return cls(
            given.get("hostaddr") or host,
            port,
            f"{host}/.s.PGSQL.{port}" if host.startswith("/") else "",
            startup,
            given.get("password", ""),
            timeout or None,
        )

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection by itself: for a cancel request."""
        if self.path:
            return await asyncio.open_unix_connection(self.path)
        return await asyncio.open_connection(self.host, self.port)

    def login(self, binding: bytes | None = None) -> Answers:
        """What answers the server's questions while logging in.

        Args:
            binding: hash of the server's certificate; None = the line is not encrypted.
        """
        return Answers(self.startup[b"user"].decode(), self.password, binding)

    def __str__(self) -> str:
        return self.path or f"{self.host}, port {self.port}"
