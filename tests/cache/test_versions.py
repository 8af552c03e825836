"""Versions between processes: valid means that nothing was written, and nothing is being written."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from heliosproxy.cache import rows
from heliosproxy.cache.rows import Rows
from heliosproxy.cache.versions import Versions

SLOTS = 5
some_slots = st.lists(st.integers(0, SLOTS - 1), min_size=1, max_size=3, unique=True).map(tuple)
process = st.integers(0, 3)


class Model(RuleBasedStateMachine):
    """Four processes on one memory of three rows, so that one may find no row; against sets of changes."""

    @initialize(processes=st.integers(1, 3))
    def start(self, processes: int) -> None:
        memory = Rows(3, SLOTS)
        self.processes = [Versions(memory=memory) for _ in range(processes)]
        self.changes: Counter[int] = Counter()
        self.open: list[tuple[int, tuple[int, ...]]] = []
        self.tokens: list[tuple[tuple[int, ...], int, list[int]]] = []

    def pick(self, number: int) -> int:
        return number % len(self.processes)

    def seen(self, slots: tuple[int, ...]) -> list[int]:
        return [self.changes[s] for s in sorted({0, *slots})]

    def in_flux(self, slots: tuple[int, ...]) -> bool:
        return any({0, *slots} & set(written) for _, written in self.open)

    @rule(number=process, slots=some_slots)
    def begin(self, number: int, slots: tuple[int, ...]) -> None:
        number = self.pick(number)
        self.processes[number].begin(slots)
        self.open.append((number, slots))
        self.changes.update(slots)

    @rule(which=st.integers(0, 100))
    def end(self, which: int) -> None:
        if self.open:
            number, slots = self.open.pop(which % len(self.open))
            self.processes[number].end(slots)
            self.changes.update(slots)

    @rule(number=process, slots=some_slots)
    def touch(self, number: int, slots: tuple[int, ...]) -> None:
        self.processes[self.pick(number)].touch(slots)
        self.changes.update(slots)

    @rule(number=process)
    def touch_all(self, number: int) -> None:
        self.processes[self.pick(number)].touch_all()
        self.changes.update((0,))

    @rule(number=process, slots=some_slots)
    def token(self, number: int, slots: tuple[int, ...]) -> None:
        token = self.processes[self.pick(number)].token(slots)
        assert (token is None) == self.in_flux(slots)
        if token is not None:
            self.tokens.append((slots, token, self.seen(slots)))

    @invariant()
    def every_process_judges_every_token_alike(self) -> None:
        for slots, token, seen in getattr(self, "tokens", ()):
            for versions in self.processes:
                assert versions.valid(slots, token) == (self.seen(slots) == seen)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_carry_between_rows() -> None:
    """The low bits of a sum are the writers, however the rows carry into each other."""
    memory = Rows(4, 4)
    writers = [Versions(memory=memory) for _ in range(4)]
    for versions in writers:
        versions.begin((1,))
    for versions in writers[:3]:
        versions.end((1,))
        assert writers[0].token((1,)) is None
    writers[3].end((1,))
    assert writers[0].token((1,)) == 4 * 65_536


def test_slot_is_stable_and_never_everything() -> None:
    versions = Versions()
    assert {versions.slot("db", oid) for oid in range(1, 200_000)} == set(range(512, 8192))
    assert {versions.slot(f"db{number}", 0) for number in range(10_000)} == set(range(1, 512))
    assert versions.slot(("cluster", 5), 16_384) == 3589
    assert versions.slot("a", 1) != versions.slot("b", 1)


def test_relations_made_one_after_the_other_have_slots_of_their_own() -> None:
    versions = Versions()
    assert len({versions.slot("db", oid) for oid in range(16_384, 16_384 + 7_680)}) == 7_680


def test_no_token_is_never_valid() -> None:
    versions = Versions()
    assert not versions.valid((1,), None)
    versions.begin((1,))
    assert not versions.valid((1,), None)


def test_reading_takes_no_row() -> None:
    memory = Rows(1, 4)
    readers = [Versions(memory=memory) for _ in range(3)]
    assert [v.token((1,)) for v in readers] == [0, 0, 0]
    readers[2].touch((2,))
    assert readers[0].shared
    assert not readers[0].valid((2,), 0)


def test_no_free_row_invalidates_and_labels_all() -> None:
    memory = Rows(1, 4)
    first, second = Versions(memory=memory), Versions(memory=memory)
    first.touch((1,))
    token = first.token((2,))
    assert first.shared
    second.touch((3,))
    assert not first.shared
    assert not second.shared
    assert not first.valid((2,), token)
    # Of its own writes it still knows.
    token = second.token((3,))
    second.begin((3,))
    assert not second.valid((3,), token)
    assert second.token((3,)) is None


def test_end_without_begin_invalidates() -> None:
    versions = Versions()
    token = versions.token((1,))
    versions.end((1,))
    assert not versions.valid((1,), token)
    assert versions.token((1,)) is not None


def test_row_given_back_keeps_its_counters() -> None:
    memory = Rows(1, 4)
    first, second, reader = (Versions(memory=memory) for _ in range(3))
    first.touch((1,))
    token = reader.token((1,))
    first.close()
    assert reader.valid((1,), token)
    assert second.valid((1,), token)
    second.touch((2,))
    assert second.shared
    assert reader.valid((1,), token)
    assert second.valid((1,), token)
    assert not reader.valid((2,), 0)


def test_row_given_back_in_flux_is_dead() -> None:
    memory = Rows(2, 4)
    first, second = Versions(memory=memory), Versions(memory=memory)
    first.begin((1, 0))
    first.close()
    assert second.token((2,)) is None
    [dead] = second.dead_rows()
    assert dead == (0, 0, (0, 1))
    assert second.clear(0)
    assert second.token((2,)) == 65_536
    assert second.dead_rows() == []


def test_row_of_the_living_is_not_cleared() -> None:
    memory = Rows(2, 4)
    first, second = Versions(memory=memory), Versions(memory=memory)
    first.begin((1,))
    assert second.dead_rows() == []
    assert not second.clear(0)
    assert second.token((1,)) is None


def test_recycled_pid_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Rows(2, 4)
    first, second = Versions(memory=memory), Versions(memory=memory)
    first.begin((1,))
    state, threads, started = rows._stat(os.getpid()) or ("", 0, 0)
    monkeypatch.setattr(rows, "_stat", lambda pid: (state, threads, started + 1))
    [dead] = second.dead_rows()
    assert dead.pid == os.getpid()


def run(code: str) -> None:
    """In a process of its own: fork must not meet the threads of the test run."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


CHILDREN = """
import os, signal
from heliosproxy.cache.versions import Versions

versions = Versions(rows=4)

class Child:
    def __init__(self, *steps):
        self.commands, write = os.pipe()
        read, self.answers = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                for step in steps:
                    os.read(self.commands, 1)
                    step()
                    os.write(self.answers, b".")
                signal.pause()
            except BaseException as error:
                print(repr(error), flush=True)
            finally:
                os._exit(1)
        self.write, self.read = write, read

    def step(self):
        os.write(self.write, b".")
        assert os.read(self.read, 1) == b"."

    def kill(self, reap=True):
        os.kill(self.pid, signal.SIGKILL)
        if reap:
            os.waitpid(self.pid, 0)
        else:
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
"""


def test_fork() -> None:
    run(
        CHILDREN
        + """
versions.touch((1,))
versions.begin((2,))
token = versions.token((1,))

def child_sees_the_parent():
    assert versions.valid((1,), token)
    assert versions.token((2,)) is None

one = Child(child_sees_the_parent, lambda: versions.begin((1,)), lambda: versions.end((1,)))
two = Child(lambda: versions.touch((3,)), lambda: versions.end((2,)))
one.step()
assert versions.valid((1,), token)
one.step()
assert not versions.valid((1,), token)
assert versions.token((1,)) is None
one.step()
assert not versions.valid((1,), token)
assert versions.token((1,)) == token + 65536
third = versions.token((3,))
two.step()
assert not versions.valid((3,), third)
# A child that ends what its parent began must not end the parent's flux.
two.step()
assert versions.token((2,)) is None
versions.end((2,))
assert versions.token((2,)) is not None
assert versions.shared
for child in (one, two):
    child.kill()
"""
    )


@pytest.mark.parametrize("reap", [True, False], ids=["gone", "zombie"])
def test_killed_in_flux(reap: bool) -> None:
    run(
        CHILDREN
        + f"""
child = Child(lambda: versions.begin((5, 6)), lambda: versions.begin((5,)))
child.step()
child.step()
assert versions.dead_rows() == []
child.kill(reap={reap})
[dead] = versions.dead_rows()
assert dead == (0, child.pid, (5, 6)), dead
assert versions.token((5,)) is None
# A row in flux is nobody's to reuse.
versions.touch((7,))
assert versions.token((6,)) is None
assert versions.clear(dead.row)
assert not versions.dead_rows()
assert versions.token((5,)) == 2 * 65536
assert versions.token((6,)) == 65536
"""
    )


def test_rows_of_the_dead_are_reused() -> None:
    run(
        CHILDREN
        + """
for number in range(20):
    child = Child(lambda: versions.touch((1,)))
    child.step()
    child.kill()
assert versions.shared
assert versions.token((1,)) == 20 * 65536
"""
    )


def test_descriptors_closed_by_a_daemon() -> None:
    run(
        CHILDREN
        + """
token = versions.token((1,))

def step():
    os.close(versions.rows._lock_file)
    assert os.open("/dev/null", os.O_RDONLY) == versions.rows._lock_file
    versions.touch((2,))
    assert not versions.shared

child = Child(step)
child.step()
assert not versions.shared
assert not versions.valid((1,), token)
child.kill()
"""
    )
