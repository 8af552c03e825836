"""Who serves in which place, and who comes after whom: when workers die, and when all are to be replaced."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING

from .child import Child
from .generation import Generation

if TYPE_CHECKING:
    from ...config import Config
    from .doors import Register
    from .shares import Shares

logger = logging.getLogger("heliosproxy.server")

HASTE = 0.25
"""Seconds until a worker that died early for the second time is started again; twice as long after each further one."""

SLOWEST = 30.0
SETTLED = 5.0
"""Seconds after which the death of a worker is no early one."""

PATIENCE = 5.0
"""Seconds beyond its deadline until a worker is killed."""


class Succession:
    """Decides who is started, and who retires; the supervisor starts what is `due`.

    Args:
        first: what to serve at first.
        children: the supervisor's workers, by their numbers.
        shares, register: what is told of those that retire, and of other limits.

    Attributes:
        generation: what all workers are to serve.
        places: how many of them serve.
        due: places to be filled, and when, on the monotonic clock.
    """

    def __init__(
        self, first: Generation, children: Mapping[int, Child], shares: Shares, register: Register
    ) -> None:
        self.generation = self._before = first  # and the last one that workers could serve
        self.places = first.server.workers
        self.due = dict.fromkeys(range(self.places), 0.0)
        self._children = children
        self._shares = shares
        self._register = register
        self._generations = 1  # that there were, in all
        self._early = [0] * self.places
        self._rolling: list[int] = []  # places whose worker is to be replaced
        self._linger: float | None = None  # seconds that replaced workers may go on; None = for ever
        self._move = False

    def stop(self) -> None:
        """Nobody is started any more."""
        self.due.clear()
        self._rolling.clear()

    def ready(self, child: Child) -> None:
        """*child* serves: whoever served in its place retires."""
        slot, number = child.slot, self.generation.number
        here = [other for other in self._children.values() if other.slot == slot and other.serving]
        able = [other for other in here if not other.deaf]
        # Of two reloads in a row the first one's worker may come too late: who serves goes on until the second one's.
        fit = [other for other in able if other.generation == number] or [o for o in able if o is not child]
        stays = max(fit or [child], key=lambda other: other.serial)
        for other in here:
            if other is not stays:
                linger = self._linger
                other.finish(
                    "retire", linger, self._move, within=inf if linger is None else linger + PATIENCE
                )
                self._shares.retires(other)
        if stays.generation != number:
            self._rolling += [slot] if slot not in self._rolling else []
        elif slot in self._rolling:
            self._rolling.remove(slot)
        self._roll()

    def died(self, child: Child, how: str) -> None:
        """*child*, which was to stay, died, *how* says of what; its place is filled again."""
        new = child.generation == self.generation.number and self.generation is not self._before
        if new and not child.serving and not self._proven:
            logger.error("worker %d could not start: %s; the workers from before serve on", child.number, how)
            self._go_back()
            return
        if self._filled(child.slot):
            logger.error("worker %d died (%s): another one is there", child.number, how)
            return
        early = time.monotonic() - child.since < SETTLED
        deaths = self._early[child.slot] = self._early[child.slot] + 1 if early else 0
        wait = min(SLOWEST, HASTE * 2.0**deaths) if deaths > 1 else 0.0
        logger.error("worker %d died (%s): another one starts in %g s", child.number, how, wait)
        self.due[child.slot] = time.monotonic() + wait

    @property
    def _proven(self) -> bool:
        """Whether a worker serves what they all are to serve."""
        number = self.generation.number
        return any(child.generation == number and child.serving for child in self._children.values())

    def _filled(self, slot: int) -> bool:
        """Whether a worker is in *slot*, or on its way there, that is to stay."""
        return any(
            child.slot == slot
            and not (child.finishing or child.deaf)
            and (slot not in self._rolling or child.generation == self.generation.number)
            for child in self._children.values()
        )

    def _roll(self) -> None:
        if self._rolling and not self._filled(self._rolling[0]):
            self.due[self._rolling[0]] = 0.0  # one after the other, so that most serve at any time

    def _go_back(self) -> None:
        """Nobody can serve the new generation: the one from before goes on, everywhere."""
        self.generation = self._before
        self._register.change(self.generation.service.limits)
        number = self.generation.number
        served = {c.slot for c in self._children.values() if c.serving and c.generation == number}
        self._rolling = [slot for slot in range(self.places) if slot not in served]
        self._roll()

    def made(self, config: Config) -> Generation:
        """What *config* would be served as, in the place of what is served now; raises ConfigError."""
        self._generations += 1
        return Generation(config, self.generation, self._generations)

    def replace(self, made: Generation, linger: float | None) -> None:
        """Let *made* be served; the workers from before may go on for *linger* seconds, None = for ever."""
        for child in self._children.values():
            if child.finishing and child.deadline == inf:  # of the reload before the last: not for ever
                seconds = made.server.drain_timeout
                child.finish("drain", seconds, within=seconds + PATIENCE)
        self._move = made.movable(self.generation)
        self._linger = linger
        if self._proven:
            self._before = self.generation
        self.generation = made
        self._register.change(made.service.limits)
        self._rolling = list(range(self.places))
        self._roll()
