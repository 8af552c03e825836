"""A client that speaks bytes: what it sends and what it is answered, message by message."""

from __future__ import annotations

import socket
from typing import Self

from psycopg.conninfo import conninfo_to_dict

from heliosproxy.server.protocol import frontend

PATIENCE = 20.0
"""Seconds for an answer: who gets none is stuck."""


def bind(statement: bytes = b"", *parameters: bytes | None, portal: bytes = b"") -> bytes:
    """A Bind of *parameters* as text."""
    values = b"".join(
        b"\xff\xff\xff\xff" if value is None else len(value).to_bytes(4, "big") + value
        for value in parameters
    )
    count = len(parameters).to_bytes(2, "big")
    return frontend.message(b"B", portal + b"\0" + statement + b"\0\0\0" + count + values + b"\0\0")


def execute(portal: bytes = b"", rows: int = 0) -> bytes:
    """An Execute."""
    return frontend.message(b"E", portal + b"\0" + rows.to_bytes(4, "big"))


Messages = list[tuple[bytes, bytes]]


class Wire:
    """A connection to *dsn*, which may be the proxy's or the database's own, logged in with *startup*."""

    def __init__(self, dsn: str, **startup: str) -> None:
        given = conninfo_to_dict(dsn)
        host, port = str(given["host"]), str(given.get("port") or 5432)
        if host.startswith("/"):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(PATIENCE)
            self.sock.connect(f"{host}/.s.PGSQL.{port}")
        else:
            self.sock = socket.create_connection((host, int(port)), PATIENCE)
        self._read = b""
        names = {"user": str(given["user"]), "database": str(given["dbname"]), **startup}
        self.send(frontend.startup({name.encode(): value.encode() for name, value in names.items()}))
        self.greeting = self.ready()

    def send(self, *messages: bytes) -> None:
        self.sock.sendall(b"".join(messages))

    def message(self) -> tuple[bytes, bytes] | None:
        """The next message, kind and body; None where the connection has ended."""
        while len(self._read) < 5 or len(self._read) < 1 + int.from_bytes(self._read[1:5], "big"):
            try:
                data = self.sock.recv(1 << 16)
            except ConnectionError:
                return None
            if not data:
                return None
            self._read += data
        size = 1 + int.from_bytes(self._read[1:5], "big")
        whole, self._read = self._read[:size], self._read[size:]
        return whole[:1], whole[5:]

    def until(self, *kinds: bytes) -> Messages:
        """All messages up to the first of *kinds*, or to the end of the connection."""
        found: Messages = []
        while (message := self.message()) is not None:
            found.append(message)
            if message[0] in kinds:
                break
        return found

    def ready(self) -> Messages:
        """All messages up to a ReadyForQuery."""
        return self.until(b"Z")

    def rest(self) -> Messages:
        """All messages up to the end of the connection."""
        return self.until()

    def ask(self, text: str) -> Messages:
        """The answer to a Query."""
        self.send(frontend.query(text.encode()))
        return self.ready()

    def value(self, text: str) -> str | None:
        """The first value of the answer to a Query; raises its error."""
        answer = self.ask(text)
        for kind, body in answer:
            if kind == b"E":
                raise AssertionError(f"{text}: {body!r}")
        for kind, body in answer:
            if kind == b"D":
                size = int.from_bytes(body[2:6], "big", signed=True)
                return None if size < 0 else body[6 : 6 + size].decode()
        return None

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def kinds(messages: Messages) -> str:
    """The kinds of *messages*, in order."""
    return b"".join(kind for kind, _ in messages).decode()


def errors(messages: Messages) -> list[str]:
    """The SQLSTATEs of the errors among *messages*."""
    found = []
    for kind, body in messages:
        if kind == b"E":
            fields = {part[:1]: part[1:] for part in body.split(b"\0") if part}
            found.append(fields[b"C"].decode())
    return found
