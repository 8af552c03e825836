"""What tests of LISTEN share."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from heliosproxy.server.protocol import frontend
from tests.server.conftest import Served

Conn = psycopg.Connection[Any]


def heard(conn: Conn, count: int = 1, timeout: float = 10) -> list[tuple[str, str]]:
    """The next *count* notifications, or as many as come in time."""
    return [(n.channel, n.payload) for n in conn.notifies(timeout=timeout, stop_after=count)]


def silent(server: Served, conn: Conn) -> bool:
    """Whether *conn* hears nothing: a last notification on a channel of its own comes first."""
    conn.execute("LISTEN last_of_all")
    server.direct().execute("NOTIFY last_of_all")
    return heard(conn) == [("last_of_all", "")]


class Words:
    """What is said to *conn* unasked: for libpq, an error while nothing is asked is a notice."""

    def __init__(self, conn: Conn) -> None:
        self._conn = conn
        self._told: list[tuple[str | None, str | None]] = []
        conn.add_notice_handler(lambda diag: self._told.append((diag.sqlstate, diag.message_primary)))

    def last(self) -> tuple[str | None, str | None]:
        """With what it is hung up on."""
        with pytest.raises(psycopg.OperationalError):
            for _ in self._conn.notifies(timeout=10):
                pass
        return self._told[-1]


def until(direct: Conn, query: str, *parameters: Any) -> None:
    """Wait, within limits, until *query* says true."""
    for _ in range(1000):
        row = direct.execute(query, parameters).fetchone()
        if row == (True,):
            return
        direct.execute("SELECT pg_sleep(0.01)")
    pytest.fail(f"not within 10 seconds: {query}")


def ask(sock: socket.socket, text: bytes, status: bytes = b"") -> bytes:
    """The answer to a Query."""
    sock.sendall(frontend.query(text))
    answer = b""
    while not answer.endswith(b"Z\0\0\0\5" + (status or answer[-1:])) or answer[-6:-5] != b"Z":
        answer += sock.recv(4096)
    return answer


def notifications(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(data):
        end = at + 1 + int.from_bytes(data[at + 1 : at + 5], "big")
        if data[at] == ord("A"):
            channel, payload, _ = data[at + 9 : end].split(b"\0")
            yield channel, payload
        at = end


OURS = """SELECT count(*) = %s FROM pg_stat_activity WHERE query LIKE 'LISTEN "helios%%'"""


KILL = """SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE query LIKE 'LISTEN "helios%'"""
