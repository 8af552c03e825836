"""A client that speaks bytes: what it sends and what it is answered, message by message."""

from __future__ import annotations

from typing import Self

from psycopg.conninfo import conninfo_to_dict

from benchmarks.endurance.raw import Messages, Peer, names, sqlstate
from heliosproxy.server.protocol import frontend


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


class Wire(Peer):
    """A connection to *dsn*, which may be the proxy's or the database's own, logged in with *startup*."""

    PATIENCE = 20.0

    def __init__(self, dsn: str, **startup: str) -> None:
        given = conninfo_to_dict(dsn)
        host, port = str(given["host"]), int(given.get("port") or 5432)
        super().__init__(f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port))
        self.send(frontend.startup(names(dsn, **startup)))
        self.greeting = self.ready()

    def send(self, *messages: bytes) -> None:
        super().send(b"".join(messages))

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
        return self.answer()

    def rest(self) -> Messages:
        """All messages up to the end of the connection."""
        return self.until()

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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def kinds(messages: Messages) -> str:
    """The kinds of *messages*, in order."""
    return b"".join(kind for kind, _ in messages).decode()


def errors(messages: Messages) -> list[str]:
    """The SQLSTATEs of the errors among *messages*."""
    return [sqlstate(body) for kind, body in messages if kind == b"E"]
