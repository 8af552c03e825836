"""Rows of counters in memory shared by a process and its forked children, and who owns which row.

A row is written by one process only: that is why plain stores are enough. Layout, in bytes:

    0                 the number of rows ever claimed; `Rows.count` + 1 once a process found none free
    8                 per row: pid of the owner (0: nobody), its start time, its pid namespace
    a page boundary   per row: `Rows.slots` counters of 8 bytes; the last row is nobody's, see `Rows.claim`
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple
from weakref import finalize

FLUX = 0xFFFF
"""Bits of a counter that say how many writers are in flight."""

FINISHED = FLUX + 1
"""What a finished write has added to a counter."""


class DeadRow(NamedTuple):
    """A row whose owner is gone while writes of it were in flight.

    Attributes:
        row: number of the row, for `Rows.clear`.
        pid: the process that owned it; 0 when it gave the row up itself (`Rows.release`).
        slots: the slots in flux; 0 among them means everything.
    """

    row: int
    pid: int
    slots: tuple[int, ...]


class Rows:
    """The shared memory: *rows* times *slots* counters, and the register of their owners."""

    def __init__(self, rows: int, slots: int) -> None:
        """Map the memory, all zero.

        Args:
            rows: processes that may own counters at the same time, 1 to 200.
            slots: counters per process, at least 2.

        Raises:
            OSError: no memory or no file descriptor (one is held, for claims).
        """
        if not 1 <= rows <= 200 or slots < 2:
            raise ValueError("1 to 200 rows of at least 2 slots")
        self.count = rows
        self.slots = slots
        start = -(-(8 + rows * 24) // mmap.PAGESIZE) * mmap.PAGESIZE
        self.memory = mmap.mmap(-1, start + (rows + 1) * slots * 8)
        self.counters = memoryview(self.memory)[start:].cast("Q")
        self._owners = memoryview(self.memory)[8 : 8 + rows * 24].cast("Q")
        self._thread_lock = threading.Lock()
        self._lock_file = _unlinked_file()
        self._lock_identity = _identity(self._lock_file)
        finalize(self, _close, self._lock_file, self._lock_identity)

    @property
    def high(self) -> int:
        """Rows to look at: those ever claimed, and the last one once a process found none free."""
        return self.memory[0]

    def after_fork(self) -> None:
        """In a child: another thread of the parent may have held the lock."""
        self._thread_lock = threading.Lock()

    def row(self, number: int) -> memoryview:
        """The counters of one row, as a writable view of u64."""
        return self.counters[number * self.slots : (number + 1) * self.slots]

    def claim(self) -> int | None:
        """Make this process the owner of a free row; its counters keep their values.

        Returns:
            The row; None when all are taken. Then everything stored so far is invalid for everybody and
            `high` exceeds `count`, because this process' writes will be seen by nobody else.
        """
        with self._exclusive() as locked:
            for row in range(self.count if locked else 0):
                if self._free(row):
                    pid = os.getpid()
                    stat = _stat(pid)
                    # The pid last: it alone says that the row is taken.
                    self._owners[row * 3 + 1] = stat[2] if stat else 0
                    self._owners[row * 3 + 2] = _namespace()
                    self._owners[row * 3] = pid
                    # Before any counter of the row moves, so that a reader who sees an effect of a write
                    # also looks at this row.
                    self.memory[0] = max(self.memory[0], row + 1)
                    return row
            self.counters[self.count * self.slots] += FINISHED
            self.memory[0] = self.count + 1
            return None

    def release(self, row: int) -> None:
        """Give a row of this process back; one in flux is `dead` until it is cleared."""
        self._owners[row * 3] = 0

    def dead(self) -> list[DeadRow]:
        """The rows that are in flux for ever, because their owners died or released them so."""
        found = []
        for row in range(min(self.high, self.count)):
            if not self._owned(row):
                slots = self._flux(row)
                if slots:
                    found.append(DeadRow(row, self._owners[row * 3], slots))
        return found

    def clear(self, row: int) -> bool:
        """Count the writes in flight of a dead row as finished: its slots have a new version, and no flux.

        Returns:
            False when the row is not dead (any more), or when this process lost the file of the lock.
        """
        with self._exclusive() as locked:
            if not locked or self._owned(row):
                return False
            counters = self.row(row)
            for slot in self._flux(row):
                counters[slot] += (counters[slot] & FLUX) * FLUX
            self._owners[row * 3] = 0
            return True

    def _free(self, row: int) -> bool:
        return row >= self.high or (not self._owned(row) and not self._flux(row))

    def _owned(self, row: int) -> bool:
        pid, start, namespace = self._owners[row * 3 : row * 3 + 3]
        return pid != 0 and _alive(pid, start, namespace)

    def _flux(self, row: int) -> tuple[int, ...]:
        return tuple(slot for slot, value in enumerate(self.row(row).tolist()) if value & FLUX)

    @contextmanager
    def _exclusive(self) -> Iterator[bool]:
        """Hold off other processes and threads; False when a daemon closed all descriptors, ours too."""
        with self._thread_lock:
            # A POSIX lock: not inherited by children, released by the kernel when its holder is killed.
            try:
                if _identity(self._lock_file) != self._lock_identity:
                    yield False
                    return
                fcntl.lockf(self._lock_file, fcntl.LOCK_EX)
            except OSError:
                yield False
                return
            try:
                yield True
            finally:
                fcntl.lockf(self._lock_file, fcntl.LOCK_UN)


def _unlinked_file() -> int:
    if sys.platform == "linux":  # needs no writable directory, which a container may lack
        file = os.memfd_create("heliosproxy")
    else:
        file, path = tempfile.mkstemp()
        os.unlink(path)
    return file


def _identity(file: int) -> tuple[int, int] | None:
    try:
        stat = os.fstat(file)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _close(file: int, identity: tuple[int, int] | None) -> None:
    if identity is not None and _identity(file) == identity:
        os.close(file)


def _namespace() -> int:
    """Pids mean nothing across pid namespaces; 0 where there are none."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def _stat(pid: int) -> tuple[str, int, int] | None:
    """State, threads and start time (ticks since boot) of a process; None without /proc."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name of the command comes before, in parentheses, and may hold anything.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return fields[0].decode(), int(fields[17]), int(fields[19])


def _alive(pid: int, start: int, namespace: int) -> bool:
    """Whether the process may still write; when in doubt it may."""
    if namespace != _namespace():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    stat = _stat(pid)
    if stat is None:
        return True
    state, threads, started = stat
    if state in "ZX" and threads <= 1:  # a zombie; with threads, only its main thread has ended
        return False
    return start in (0, started)
