"""The supervisor with puppets for workers: processes that do nothing, for which the test speaks."""

from __future__ import annotations

import inspect
import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from heliosproxy.config import Config
from heliosproxy.errors import HeliosError, TooManyRequests
from heliosproxy.server.workers import supervisor as room
from heliosproxy.server.workers.child import Child
from heliosproxy.server.workers.lines import Lines, line
from heliosproxy.server.workers.supervisor import Supervisor

SOON = 20.0


class Puppet:
    """One process that stands in for a worker, with the worker's end of its line."""

    def __init__(self, end: socket.socket) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        self.line = end
        self.line.setblocking(False)
        self._lines = Lines()

    def says(self, do: str, *args: object, **more: object) -> None:
        self.line.send(line({"do": do, "args": args, "whom": "supervisor", **more}))

    def asks_all(self, do: str, *args: object) -> None:
        self.line.send(line({"do": do, "args": args, "whom": "all", "id": 1, "within": None}))

    def was_told(self) -> list[tuple[Any, ...]]:
        """What came since the last call."""
        try:
            data = self.line.recv(1 << 16)
        except BlockingIOError:
            return []
        return [(m["do"], *m["args"]) for m in self._lines.feed(data) if "do" in m]

    def end(self) -> None:
        self.process.kill()
        self.line.close()
        assert self.process.stdin is not None
        self.process.stdin.close()


class Stage:
    """A supervisor whose workers are puppets; `config` is what its next RELOAD reads."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, workers: int, **sections: Any) -> None:
        self.puppets: list[Puppet] = []
        self.refuses_to_fork = False
        monkeypatch.setattr(room, "fork", self._fork)
        monkeypatch.setattr(room, "TICK", 0.01)
        self._fixed = {"listen": [str(folder)], "workers": workers}
        self.configure(**sections)
        self.supervisor = Supervisor(self.config, lambda: self.config, lambda _: None)

    def configure(self, server: Any = None, pool: Any = None) -> None:
        self.config = Config.model_validate(
            {
                "node": [{"name": "primary", "dsn": "postgresql://nobody@127.0.0.1:1/nothing"}],
                "server": {**self._fixed, **(server or {})},
                "pool": {"mode": "transaction", **(pool or {})},
            }
        )

    def _fork(self, serve: Callable[[], None]) -> int:
        if self.refuses_to_fork:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        self.puppets.append(Puppet(inspect.getclosurevars(serve).nonlocals["theirs"].dup()))
        return self.puppets[-1].process.pid

    @property
    def children(self) -> list[Child]:
        return list(self.supervisor.children.values())

    def until(self, true: Callable[[], bool]) -> None:
        end = time.monotonic() + SOON
        while not true():
            assert time.monotonic() < end
            self.supervisor._once()

    def play(self, rounds: int = 3) -> None:
        for _ in range(rounds):
            self.supervisor._once()

    def close(self) -> None:
        """End the puppets, and have none replaced."""
        supervisor = self.supervisor
        supervisor.ending = True
        supervisor.succession.due.clear()
        for puppet in self.puppets:
            puppet.end()
        self.until(lambda: not self.children)
        for puppet in self.puppets:
            puppet.process.wait()
        supervisor._selector.close()
        supervisor.listening.close()
        for pair in supervisor._moves:
            for each in pair:
                each.close()

    def starts(self, number: int) -> Puppet:
        """The one with this number, as soon as it is started."""
        self.until(lambda: len(self.puppets) >= number)
        return self.puppets[number - 1]

    def ready(self, number: int) -> Puppet:
        """It serves."""
        puppet = self.starts(number)
        puppet.says("ready")
        self.play()
        return puppet

    def dies(self, number: int) -> None:
        self.puppets[number - 1].process.kill()
        self.until(lambda: number not in self.supervisor.children)

    def leaves(self, number: int) -> None:
        """One that was told to retire does so."""
        assert "retire" in [told[0] for told in self.puppets[number - 1].was_told()]
        self.dies(number)

    def reload(self) -> str:
        return self.supervisor.orders.reload(None)

    def restart(self) -> str:
        return self.supervisor.orders.restart(None)

    def serving(self) -> dict[int, tuple[int, int]]:
        """By place: the worker's number and generation."""
        return {child.slot: (child.serial, child.generation) for child in self.children if child.serving}


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Stage]]:
    """``stage(2, pool={…})``: a supervisor of two workers that serve."""
    made: list[Stage] = []

    def make(workers: int = 1, **sections: Any) -> Stage:
        stage = Stage(tmp_path, monkeypatch, workers, **sections)
        made.append(stage)
        for number in range(1, workers + 1):
            stage.ready(number)
        return stage

    yield make
    for each in made:
        each.close()


# -- configurations that cannot be served --------------------------------------------------------------


def test_a_roll_that_fails_leaves_configuration_limits_and_counts_as_they_were(
    stage: Callable[..., Stage],
) -> None:
    made = stage(2, pool={"max_connections": 3})
    worker = made.puppets[0]
    for client in range(2):
        worker.says("arrive", [1, client], "10.0.0.1")
        worker.says("enter", [1, client], "ada", "shop")
    made.play()
    made.configure(pool={"max_connections": 9})
    made.reload()
    made.starts(3)
    made.dies(3)
    made.play()
    assert made.serving() == {0: (1, 1), 1: (2, 1)}
    assert made.supervisor.generation.config.pool.max_connections == 3
    assert len(made.puppets) == 3
    # Two are in, of three: one more may come, and not two.
    register = made.supervisor._register
    register.arrive(made.children[0], [1, 2], "10.0.0.1")
    register.enter(made.children[0], [1, 2], "ada", "shop")
    register.arrive(made.children[0], [1, 3], "10.0.0.1")
    with pytest.raises(TooManyRequests):
        register.enter(made.children[0], [1, 3], "ada", "shop")
    for client in range(4):
        register.free(made.children[0], [1, client])
    assert not made.supervisor.generation.service.limits.overall.count


def test_a_reload_without_a_node_changes_nothing(stage: Callable[..., Stage]) -> None:
    made = stage(1)
    made.config = made.config.model_copy(update={"node": []})
    with pytest.raises(HeliosError, match="no server: give a DSN"):
        made.reload()
    made.play()
    assert made.serving() == {0: (1, 1)}


def test_a_place_that_was_empty_is_filled_when_a_roll_fails(stage: Callable[..., Stage]) -> None:
    made = stage(2)
    made.dies(1)
    made.starts(3)
    made.dies(3)  # the second early death: its successor would come a little later
    made.configure(pool={"timeout": 3})
    made.reload()
    made.starts(4)
    made.dies(4)
    made.ready(5)
    assert made.serving() == {0: (5, 1), 1: (2, 1)}


def test_what_one_worker_serves_is_tried_again_for_the_others(stage: Callable[..., Stage]) -> None:
    made = stage(2)
    made.restart()
    made.ready(3)
    made.leaves(1)
    made.dies(4)
    made.ready(5)
    made.leaves(2)
    assert made.serving() == {0: (3, 2), 1: (5, 2)}


def test_a_worker_that_cannot_start_though_it_could_before_is_not_tried_without_a_pause(
    stage: Callable[..., Stage],
) -> None:
    made = stage(1)
    made.dies(1)
    for number in range(2, 5):
        made.starts(number)
        made.dies(number)
    (due,) = made.supervisor.succession.due.values()
    assert due - time.monotonic() > 1.0


# -- several at once -----------------------------------------------------------------------------------


@pytest.mark.parametrize("first_ready", [3, 4])
def test_two_restarts_in_a_row_replace_every_worker_twice_or_at_once(
    stage: Callable[..., Stage], first_ready: int
) -> None:
    made = stage(2)
    made.restart()
    made.starts(3)
    made.restart()
    made.starts(4)
    made.ready(first_ready)
    made.ready(7 - first_ready)
    made.ready(5)
    assert made.serving() == {0: (4, 3), 1: (5, 3)}
    for number in (1, 2, 3):
        made.leaves(number)
    made.play()
    assert len(made.puppets) == 5


def test_an_outdated_worker_that_dies_while_it_starts_does_not_undo_what_is_newer(
    stage: Callable[..., Stage],
) -> None:
    made = stage(1)
    made.restart()
    made.starts(2)
    made.restart()
    made.starts(3)
    made.dies(2)
    assert made.supervisor.generation.number == 3
    made.ready(3)
    assert made.serving() == {0: (3, 3)}
    made.play()
    assert len(made.puppets) == 3


def test_an_outdated_worker_that_is_ready_after_a_roll_failed_does_not_serve_for_long(
    stage: Callable[..., Stage],
) -> None:
    made = stage(1)
    made.restart()
    made.starts(2)
    made.restart()
    made.starts(3)
    made.dies(3)
    made.ready(2)
    made.leaves(2)
    assert made.serving() == {0: (1, 1)}
    made.restart()
    made.ready(4)
    assert made.serving() == {0: (4, 4)}


def test_a_worker_that_dies_while_its_successor_starts_needs_no_other_one(
    stage: Callable[..., Stage],
) -> None:
    made = stage(1)
    made.restart()
    made.starts(2)
    made.dies(1)
    made.ready(2)
    made.play()
    assert made.serving() == {0: (2, 2)}
    assert len(made.puppets) == 2


@pytest.mark.parametrize("which", [signal.SIGHUP, None])
def test_nothing_is_replaced_in_a_server_that_ends(
    stage: Callable[..., Stage], caplog: pytest.LogCaptureFixture, which: int | None
) -> None:
    made = stage(1)
    made.supervisor._act(signal.SIGTERM)
    made.configure(pool={"timeout": 3})
    if which is None:
        with pytest.raises(HeliosError, match="the server ends"):
            made.restart()
    else:
        made.supervisor._act(which)
        assert "the server ends" in caplog.text
    made.play()
    assert len(made.puppets) == 1
    made.dies(1)
    assert not made.supervisor.succession.due


WAITS, AT_ONCE = (
    "no new clients; waiting for transactions to end, 7 s at most",
    "ending at once: no transaction is waited for",
)


@pytest.mark.parametrize(
    ("asked", "patience", "told"),
    [
        ([signal.SIGTERM], 7, [WAITS]),
        ([signal.SIGINT], 7, [AT_ONCE]),
        ([signal.SIGTERM, signal.SIGTERM], 7, [WAITS, AT_ONCE]),
        ([signal.SIGTERM], 0, [AT_ONCE]),
        (["WAIT"], 7, [WAITS]),
        (["AT ONCE"], 7, [AT_ONCE]),
    ],
)
def test_the_log_says_whether_the_end_waits_for_transactions(
    stage: Callable[..., Stage],
    caplog: pytest.LogCaptureFixture,
    asked: list[Any],
    patience: int,
    told: list[str],
) -> None:
    made = stage(1, server={"drain_timeout": patience})
    with caplog.at_level(logging.INFO, "heliosproxy.server"):
        for how in asked:
            if isinstance(how, str):
                made.puppets[0].says("shutdown", how == "AT ONCE")
            else:
                made.supervisor.signals.came.append(how)
            made.play()
    assert [record.getMessage() for record in caplog.records] == told


def test_a_worker_that_starts_hears_of_a_pause_too(stage: Callable[..., Stage]) -> None:
    made = stage(1)
    made.restart()
    starting = made.starts(2)
    made.puppets[0].asks_all("pause")
    made.play()
    assert ("pause",) in starting.was_told()


# -- deaf ones -----------------------------------------------------------------------------------------


def test_a_worker_whose_line_is_closed_is_watched_no_more_and_killed_in_the_end(
    stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(room, "PATIENCE", 0.2)
    made = stage(1, server={"drain_timeout": 0})
    (child,) = made.children
    made.puppets[0].line.close()
    made.play()
    assert child.line not in {key.fileobj for key in made.supervisor._selector.get_map().values()}
    with caplog.at_level(logging.WARNING):
        made.ready(2)  # once the other one is gone
    assert "worker 1 does not end: it is killed" in caplog.text
    assert made.serving() == {0: (2, 1)}


def test_a_deaf_worker_has_no_more_time_because_of_a_reload(stage: Callable[..., Stage]) -> None:
    made = stage(1, server={"drain_timeout": 7})
    (child,) = made.children
    made.puppets[0].line.close()
    made.play()
    before = child.deadline
    made.configure(server={"drain_timeout": 7}, pool={"timeout": 3})
    made.reload()
    made.ready(2)
    assert child.deadline <= before
    assert made.serving() == {0: (2, 2)}


def test_nobody_waits_for_the_answer_of_a_deaf_worker(stage: Callable[..., Stage]) -> None:
    made = stage(2)
    made.puppets[0].line.close()
    made.play()
    made.puppets[1].asks_all("pause")
    made.play()
    assert ("pause",) in made.puppets[1].was_told()
    (question,) = made.supervisor.board._questions.values()
    assert [party.number for party in question.open] == [2]


def test_what_a_deaf_worker_holds_is_given_to_nobody(stage: Callable[..., Stage]) -> None:
    made = stage(2, pool={"server_connections": 4})
    made.puppets[0].line.close()
    for _ in range(5):
        made.puppets[1].says("report", 2, 2, 9)
        made.play()
    assert [child.holder.quota for child in made.children if child.holder is not None] == [2, 2]


# -- a system that has nothing left --------------------------------------------------------------------


def test_a_worker_that_cannot_be_forked_is_tried_again(
    stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(room, "SETTLED", 0.05)
    made = stage(1)
    made.refuses_to_fork = True
    made.restart()
    made.play()
    assert "no worker could be started: [Errno 11] Resource temporarily unavailable" in caplog.text
    made.refuses_to_fork = False
    made.until(lambda: len(made.puppets) == 2)
    made.puppets[1].says("ready")
    made.play()
    assert [generation for _, generation in made.serving().values()] == [2]
