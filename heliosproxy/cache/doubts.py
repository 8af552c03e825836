"""Writes whose outcome nobody told us: their relations stay in flux until a fresh connection knows better.

a lost connection        until its server process is gone (hazards/cache.md, row 27)
a prepared transaction   until its gid is gone from pg_prepared_xacts (28)
a process that died      until no transaction is left that began before we noticed (26)
"""

from __future__ import annotations

import threading
from typing import Any

from .versions import Versions


class Doubts:
    """The open questions of one database. Thread-safe."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self._lock = threading.Lock()
        self._lost: list[tuple[int, tuple[int, ...]]] = []
        self._prepared: list[tuple[str, tuple[int, ...]]] = []
        self._dead: dict[int, str] = {}

    def __len__(self) -> int:
        """Questions open, those of dead processes not counted."""
        return len(self._lost) + len(self._prepared)

    def lost(self, pid: int, slots: tuple[int, ...]) -> None:
        """The connection to server process *pid* broke while *slots* were in flux."""
        with self._lock:
            self._lost.append((pid, slots))

    def prepared(self, gid: str, slots: tuple[int, ...]) -> None:
        """A transaction that wrote *slots* was prepared as *gid*; anybody may finish it."""
        with self._lock:
            self._prepared.append((gid, slots))

    def resolve(self, conn: Any, now: float) -> None:
        """Ask *conn*, a fresh connection, and end the flux of what is settled."""
        if self._lost:
            pids = _column(conn, "SELECT pid FROM pg_stat_activity")
            self._end(self._lost, {pid for pid, _ in self._lost} - pids)
        if self._prepared:
            gids = _column(conn, "SELECT gid FROM pg_prepared_xacts")
            self._end(self._prepared, {gid for gid, _ in self._prepared} - gids)
        self._bury(conn)

    def _end(self, questions: list[Any], settled: set[Any]) -> None:
        with self._lock:
            for question in [q for q in questions if q[0] in settled]:
                questions.remove(question)
                self._versions.end(question[1])

    def _bury(self, conn: Any) -> None:
        """What dead processes left in flux. Their server processes may still work through what they were sent."""
        for row in self._versions.dead_rows():
            noticed = self._dead.get(row.row)
            if noticed is None:
                self._dead[row.row] = str(_column(conn, "SELECT clock_timestamp()::text").pop())
                continue
            query = """
                SELECT count(*) FROM pg_stat_activity
                WHERE backend_type = 'client backend' AND xact_start <= %s::timestamptz
                """
            if _column(conn, query, (noticed,)) == {0}:
                self._versions.clear(row.row)
                del self._dead[row.row]


def _column(conn: Any, query: str, params: tuple[Any, ...] | None = None) -> set[Any]:
    return {row[0] for row in conn.execute(query, params)}
