"""Versions of relations, seen by all workers of a Proxy: is what was read still what the database says?

Each process counts its own writes: +1 when one begins, +65,535 when its outcome is known. A finished write
has added 65,536, so of a counter, and of the sum of a slot over all processes, the low 16 bits are the number
of writers in flight as long as these are fewer than 65,536 (each holds a server connection).

What this relies on in memory: an aligned 8-byte store or load through a memoryview of format Q is a memcpy of
constant size, which compilers make one instruction, so no torn value is seen; and a counter is stored before
the system call that sends the write, so whoever learns of the write from outside sees the counter. No order
between two counters is relied on.
"""

from __future__ import annotations

import threading
from zlib import crc32

from . import forking
from .rows import FINISHED, FLUX, DeadRow, Rows

_CATALOGUES = 16  # one slot in so many is a catalogue's


class Versions:
    """The counters of one Proxy, inherited by its forked children. Thread-safe.

    A process owns a row of them from its first write; one that only reads needs none.

    Attributes:
        rows: the shared memory, and who owns which part.
    """

    __slots__ = (
        "__weakref__",
        "_alone",
        "_layout",
        "_lock",
        "_memory",
        "_own",
        "_row",
        "_row_number",
        "rows",
    )

    def __init__(self, rows: int = 64, slots: int = 8192, *, memory: Rows | None = None) -> None:
        """Map new counters, all zero.

        Args:
            rows: writing processes at the same time; with more, `shared` is False for all.
            slots: counters per process. Relations may meet in a slot: one is then invalidated with the other.
            memory: counters to take part in, instead of new ones.
        """
        self.rows = memory or Rows(rows, slots)
        self._memory = self.rows.memory
        self._start()
        forking.register(self)

    def after_fork(self) -> None:
        """In a child: a process that has not written. The row of its parent is another's."""
        self.rows.after_fork()
        self._start()

    def _start(self) -> None:
        # Reentrant: the collector may drop a session anywhere, and that ends its writes.
        self._lock = threading.RLock()
        # Ours once more, as a list: an item of a list costs 10 ns, of a memoryview 75.
        self._own = [0] * self.rows.slots
        self._row: memoryview | None = None
        self._row_number: int | None = None
        # What `high` is while no other process has ever owned a row.
        self._alone = 0
        self._layout: tuple[int, list[int], list[int]] = (-1, self._own, [])

    @property
    def shared(self) -> bool:
        """False when some process found no free row: entries must then be TTL-bounded, and labelled so."""
        return self.rows.high <= self.rows.count

    def slot(self, database: object, relation: int) -> int:
        """The slot of a relation, the same in every process; never 0, which stands for everything.

        Args:
            database: what tells databases apart; its ``repr()`` must not depend on the process.
            relation: OID; 0 is the catalogue of the database.
        """
        base, slots = crc32(repr(database).encode()), self.rows.slots
        # No relation meets a catalogue: with that, every write to it would forget the whole database. Relations
        # made one after the other, as those of one application are, have slots of their own.
        first = slots // _CATALOGUES
        return first + (base + relation) % (slots - first) if relation else 1 + base % (first - 1)

    def token(self, slots: tuple[int, ...]) -> int | None:
        """The version of these slots and of slot 0; None when a write to any of them is in flight.

        One sum tells as much as its terms: they only rise, so the sum is the same only if each is. (A counter
        of 64 bits would wrap after 2**48 writes, nine years at a million a second.)
        """
        counters = self.rows.counters
        _, own, others = self._current_layout()
        total = 0
        for slot in (0, *slots):
            version = own[slot]
            for row in others:
                version += counters[row + slot]
            if version & FLUX:
                return None
            total += version
        return total

    def single(self, slot: int) -> int | None:
        """The version of *slot* by itself, whatever slot 0 says; None when a write to it is in flight."""
        counters = self.rows.counters
        _, own, others = self._current_layout()
        version = own[slot]
        for row in others:
            version += counters[row + slot]
        return None if version & FLUX else version

    def same(self, slot: int, token: int | None) -> bool:
        """Whether no write to *slot* has begun since *token* was taken of it by `single`."""
        if self._memory[0] == self._alone:
            return self._own[slot] == token
        return self.single(slot) == token

    def valid(self, slots: tuple[int, ...], token: int | None) -> bool:
        """Whether no write to *slots* or to everything has begun since *token* was taken of them."""
        # No look at the flux: a token is taken without, so an equal sum has none.
        if self._memory[0] == self._alone:
            own = self._own
            total = own[0]
            for slot in slots:
                total += own[slot]
            return total == token
        counters = self.rows.counters
        _, own, others = self._current_layout()
        total = own[0]
        for row in others:
            total += counters[row]
        for slot in slots:
            total += own[slot]
            for row in others:
                total += counters[row + slot]
        return total == token

    def begin(self, slots: tuple[int, ...]) -> None:
        """A write to *slots* is about to be sent: they are in flux until `end`."""
        self._add(slots, 1)

    def end(self, slots: tuple[int, ...]) -> None:
        """The outcome of a write that this process began with `begin` is known, whichever it is.

        Without such a `begin` (a session of the parent, ended by a forked child) the slots are invalidated.
        """
        with self._lock:
            row = self._claimed()
            own = self._own
            for slot in slots:
                value = own[slot]
                row[slot] = own[slot] = value + (FLUX if value & FLUX else FINISHED)

    def touch(self, slots: tuple[int, ...]) -> None:
        """Invalidate *slots* now: `begin` and `end` in one step."""
        self._add(slots, FINISHED)

    def touch_all(self) -> None:
        """Invalidate everything now."""
        self._add((0,), FINISHED)

    def dead_rows(self) -> list[DeadRow]:
        """What dead processes left in flux. Costs system calls per row: not for the path of a statement."""
        return self.rows.dead()

    def clear(self, row: int) -> bool:
        """End the writes that a dead process left in flight, once none of its server backends is left.

        Only the caller can know that: a backend still works through what its dead client has sent.

        Returns:
            False when the row was not dead, or was cleared by somebody else.
        """
        return self.rows.clear(row)

    def close(self) -> None:
        """Give the row back; what is in flux in it stays so until somebody `clear`\\ s it."""
        with self._lock:
            if self._row_number is not None:
                self.rows.release(self._row_number)
            self._start()

    def _add(self, slots: tuple[int, ...], amount: int) -> None:
        with self._lock:
            row = self._claimed()
            own = self._own
            for slot in slots:
                row[slot] = own[slot] = own[slot] + amount

    def _claimed(self) -> memoryview:
        """The row of this process, claimed at its first write. Under the lock."""
        if self._row is not None:
            return self._row
        number = self.rows.claim()
        if number is None:
            # Nobody else sees what we write: `shared` says so, everywhere.
            self._row = memoryview(bytearray(8 * self.rows.slots)).cast("Q")
        else:
            self._row_number = number
            self._row = self.rows.row(number)
            self._own = self._row.tolist()
        self._layout = self._lay_out()
        # Row 0, if it is alone: any other raised the number of rows above 1. Last, when all is in place.
        self._alone = 1
        return self._row

    def _current_layout(self) -> tuple[int, list[int], list[int]]:
        """Our own counters, and where the rows of others begin; one tuple, as threads come in between."""
        layout = self._layout
        if layout[0] != self._memory[0]:
            layout = self._layout = self._lay_out()
        return layout

    def _lay_out(self) -> tuple[int, list[int], list[int]]:
        high = self.rows.high
        others = [row * self.rows.slots for row in range(high) if row != self._row_number]
        return high, self._own, others
