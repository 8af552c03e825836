"""Writes whose outcome nobody told us: their relations stay in flux until a fresh connection knows better.

a lost connection        until its server process is gone (hazards/cache.md, row 27)
a prepared transaction   until its gid is gone from pg_prepared_xacts (28)
a process that died      until each server process of that time was seen idle, or is gone (26)
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
        self._lost: list[tuple[int, tuple[int, ...], str]] = []
        self._prepared: list[tuple[str, tuple[int, ...]]] = []
        # Per dead row: server processes of that time, without those seen idle or gone since.
        self._dead: dict[tuple[int, int], set[int]] = {}

    def __len__(self) -> int:
        """Questions open, those of dead processes not counted."""
        return len(self._lost) + len(self._prepared)

    def lost(self, pid: int, slots: tuple[int, ...], gid: str = "") -> None:
        """The connection to server process *pid* broke while *slots* were in flux.

        Args:
            gid: under which the transaction was just being prepared; "" when it was not.
        """
        with self._lock:
            self._lost.append((pid, slots, gid))

    def prepared(self, gid: str, slots: tuple[int, ...]) -> None:
        """A transaction that wrote *slots* was prepared as *gid*; anybody may finish it."""
        with self._lock:
            self._prepared.append((gid, slots))

    def resolve(self, conn: Any) -> None:
        """Ask *conn*, a fresh connection, and end the flux of what is settled."""
        # Only what was open before the question is answered by it: what comes meanwhile waits for the next.
        with self._lock:
            lost = list(self._lost)
        if lost:
            pids = _column(conn, "SELECT pid FROM pg_stat_activity")
            self._gone([question for question in lost if question[0] not in pids])
        with self._lock:
            prepared = list(self._prepared)
        if prepared:
            gids = _column(conn, "SELECT gid FROM pg_prepared_xacts")
            self._finished([question for question in prepared if question[0] not in gids])
        self._bury(conn)

    def _gone(self, questions: list[tuple[int, tuple[int, ...], str]]) -> None:
        with self._lock:
            for question in questions:
                if question not in self._lost:
                    continue  # another look answered it
                self._lost.remove(question)
                _, slots, gid = question
                if gid:
                    self._prepared.append((gid, slots))  # perhaps it was prepared before its server died
                else:
                    self._versions.end(slots)

    def _finished(self, questions: list[tuple[str, tuple[int, ...]]]) -> None:
        with self._lock:
            for question in questions:
                if question in self._prepared:
                    self._prepared.remove(question)
                    self._versions.end(question[1])

    def _bury(self, conn: Any) -> None:
        """What dead processes left in flux. Their server processes may still work through what they were sent."""
        dead = self._versions.dead_rows()
        with self._lock:
            self._dead = {(row.row, row.pid): self._dead.get((row.row, row.pid), set()) for row in dead}
        for row in dead:
            suspects = self._dead[row.row, row.pid]
            if not suspects:
                # All of them: one that looks idle may just not have read its last message yet.
                suspects |= _column(conn, _BACKENDS) or {0}
                continue
            # State is hidden from us for other users' backends: these count until they are gone.
            suspects &= _column(conn, _BACKENDS + " AND state IS DISTINCT FROM 'idle'")
            # What they prepared has no server process, and may be committed by anybody.
            if not suspects and not _column(conn, "SELECT gid FROM pg_prepared_xacts"):
                self._versions.clear(row.row)


_BACKENDS = (
    "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
)


def _column(conn: Any, query: str) -> set[Any]:
    return {row[0] for row in conn.execute(query)}
