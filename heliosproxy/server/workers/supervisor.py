"""The process that starts workers, heals them, passes their messages on, and rolls them over to a new configuration.

It serves no client and has no event loop of asyncio: only what is safe before a fork runs here.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any

from ...errors import ConfigError, HeliosError
from .child import SIGNALS, Child, fork
from .doors import Register
from .generation import Generation
from .shares import Shares
from .sockets import Listening
from .standing import Standing
from .switchboard import Switchboard

if TYPE_CHECKING:
    from ...config import Config

logger = logging.getLogger("heliosproxy.server")

TICK = 0.25
"""Seconds after which the supervisor looks at quotas, deadlines and workers to be started again."""

HASTE = 0.25
"""Seconds until a worker that died early for the second time is started again; twice as long after each further one."""

SLOWEST = 30.0
SETTLED = 5.0
"""Seconds after which the death of a worker is no early one."""

PATIENCE = 5.0
"""Seconds beyond its deadline until a worker is killed."""


class Supervisor:
    """See the head of this file.

    Args:
        config: what to serve.
        reload: reads the configuration anew; None = it is from no file.
        started: called with the addresses once all workers accept clients.

    Raises:
        ConfigError: *config* cannot be served, an address cannot be listened on.
    """

    def __init__(
        self,
        config: Config,
        reload: Callable[[], Config] | None = None,
        started: Callable[[list[str]], None] | None = None,
    ) -> None:
        self.generation = self._before = Generation(config)  # and the last one that workers could serve
        self.workers = self.generation.server.workers
        self._reload, self._started = reload, started
        self.listening = Listening(self.generation.server.listen, self.workers)
        self._moves = [_pair() for _ in range(self.workers)]
        self._children: dict[int, Child] = {}
        self._shares = Shares(self._children, self.workers)
        self._serial = 0
        self._generations = 1  # that there were, in all
        self._due = dict.fromkeys(range(self.workers), 0.0)  # places to be filled, and when
        self._early = [0] * self.workers
        self._rolling: list[int] = []  # places whose worker is to be replaced
        self._linger: float | None = None  # seconds that replaced workers may go on; None = for ever
        self._move = False
        self._ending = False
        self._signals: list[int] = []
        self._standing = Standing()
        self._register = Register(self.generation.service.limits)
        self._selector = selectors.DefaultSelector()
        own: dict[str, Callable[..., Any]] = {
            "arrive": self._register.arrive,
            "enter": self._register.enter,
            "free": self._register.free,
            "moved": self._register.moved,
            "moving": self._register.moving,
            "ready": self._ready,
            "reload": self._reload_now,
            "report": self._reported,
            "restart": self._restart,
            "shutdown": self._shut_down,
            "workers": self._workers,
        }
        self.board = Switchboard(own, self._standing.passing, time.monotonic)

    def run(self) -> None:
        """Serve until a signal ends it.

        Raises:
            ConfigError: the workers cannot be started.
        """
        wake, alarm = os.pipe()
        for end in (wake, alarm):
            os.set_blocking(end, False)
        before = {which: signal.signal(which, self._signalled) for which in SIGNALS}
        for which in (signal.SIGCHLD,):
            before[which] = signal.signal(which, lambda *_: None)
        signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
        self._selector.register(wake, selectors.EVENT_READ, None)
        try:
            while self._children or self._due:
                self._once(wake)
        finally:
            signal.set_wakeup_fd(-1)
            for which, handler in before.items():
                signal.signal(which, handler)
            for child in self._children.values():
                child.kill()
            self._selector.close()
            self.listening.close()
            for pair in self._moves:
                for each in pair:
                    each.close()
            os.close(wake)
            os.close(alarm)
        if not self._ending:
            raise ConfigError("no worker could be started: see the log", key="server.workers")

    def _once(self, wake: int) -> None:
        now = time.monotonic()
        for place, at in sorted(self._due.items()):
            if at <= now:
                del self._due[place]
                try:
                    self._start(place)
                except OSError as error:  # no memory, no descriptor, …: who is served is served on
                    logger.error("no worker could be started: %s; tried again in %g s", error, SETTLED)
                    self._due[place] = now + SETTLED
        for key, _ in self._selector.select(TICK):
            if key.data is None:
                os.read(wake, 4096)
            else:
                self._hear(key.data)
        while self._signals:
            self._act(self._signals.pop(0))
        now = time.monotonic()
        for child in list(self._children.values()):
            if how := child.ended():
                self._died(child, how)
            elif child.deadline <= now:
                logger.warning("worker %d does not end: it is killed", child.number)
                child.deadline = inf
                child.kill()
            else:
                self._watch(child)
        self.board.expire()
        self._shares.balance(self.generation.cap)

    def _signalled(self, which: int, _: Any) -> None:
        self._signals.append(which)

    def _act(self, which: int) -> None:
        if which == signal.SIGHUP:
            try:
                logger.info("SIGHUP: %s", self._reload_now(None))
            except HeliosError as error:
                logger.error("SIGHUP: nothing was changed: %s", error)
            except Exception:  # whatever is wrong with the files: who is served is served on
                logger.exception("SIGHUP: nothing was changed")
        else:
            self._end(hurry=which == signal.SIGINT or self._ending)

    def _end(self, *, hurry: bool) -> None:
        seconds = 0.0 if hurry else self.generation.server.drain_timeout
        if seconds:
            logger.info("no new clients; waiting for transactions to end, %g s at most", seconds)
        else:
            logger.info("ending at once: no transaction is waited for")
        self._ending = True
        self._due.clear()
        self._rolling.clear()
        for child in self._children.values():
            child.finish("drain", seconds, within=seconds + PATIENCE)

    # -- workers -------------------------------------------------------------------------------------

    def _start(self, place: int) -> None:
        from .worker import Worker

        self._serial += 1
        ours, theirs = socket.socketpair()
        foreign = [child.line for child in self._children.values()]
        holder = self._shares.of_new(self.generation.cap, place)
        quota = None if holder is None else holder.quota

        def serve() -> None:
            self._selector.close()
            for each in (ours, *foreign):
                each.close()
            service = self.generation.service
            self._standing.apply(service.control)
            Worker(service, self.listening.of(place), theirs, self._moves[place], quota, self._serial).run()

        try:
            pid = fork(serve)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        child = Child(place, self._serial, pid, self.generation.number, ours, holder)
        self._children[child.serial] = child
        self.board.join(child.serial, child)
        self._selector.register(ours, selectors.EVENT_READ, child)

    def _hear(self, child: Child) -> None:
        messages = child.hear()
        if messages is None:
            # It ends, or is out of its mind: in both cases there is nothing more to be heard.
            self._selector.unregister(child.line)
            self.board.leave(child.serial)
            child.lose(within=self.generation.server.drain_timeout + PATIENCE)
        for message in messages or ():
            self.board.received(child, message)

    def _watch(self, child: Child) -> None:
        if child.deaf:
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if child.unsent else 0)
        child.flush()
        if self._selector.get_key(child.line).events != events:
            self._selector.modify(child.line, events, child)

    def _ready(self, child: Child) -> None:
        if child.finishing:
            return
        child.serving = True
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
        started = {other.slot for other in self._children.values() if other.serving}
        if self._started is not None and len(started) == self.workers:
            self._started(self.listening.addresses)
            self._started = None

    def _died(self, child: Child, how: str) -> None:
        del self._children[child.serial]
        self.board.leave(child.serial)
        self._register.died(child)
        if not child.deaf:
            self._selector.unregister(child.line)
        child.line.close()
        if self._ending or child.finishing:
            return
        if not child.serving and self._started is not None:
            logger.error("worker %d could not start: %s", child.number, how)
            self._due.clear()
            for other in self._children.values():
                other.finish("drain", 0.0, within=PATIENCE)
            self._rolling.clear()
            return
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
        self._due[child.slot] = time.monotonic() + wait

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
            self._due[self._rolling[0]] = 0.0  # one after the other, so that most serve at any time

    def _go_back(self) -> None:
        """Nobody can serve the new generation: the one from before goes on, everywhere."""
        self.generation = self._before
        self._register.change(self.generation.service.limits)
        number = self.generation.number
        served = {c.slot for c in self._children.values() if c.serving and c.generation == number}
        self._rolling = [slot for slot in range(self.workers) if slot not in served]
        self._roll()

    def _reported(self, child: Child, size: int, leased: int, waiting: int) -> None:
        child.heard = time.monotonic()
        if child.holder is not None:
            child.holder.report(size, leased, waiting)

    # -- what workers ask for --------------------------------------------------------------------------

    def _reload_now(self, _: Child | None) -> str:
        if self._reload is None:
            raise ConfigError("there is no configuration file: give one with --config")
        self._refuse_in_the_end()
        made = self._made(self._reload())
        if made.equals(self.generation):
            return "nothing has changed"
        self._replace(made, None)
        return f"{self.workers} workers with the new configuration take over"

    def _restart(self, _: Child | None) -> str:
        self._refuse_in_the_end()
        self._replace(self._made(self.generation.config), self.generation.server.drain_timeout)
        return f"{self.workers} new workers take over"

    def _refuse_in_the_end(self) -> None:
        if self._ending:
            raise HeliosError("the server ends: it starts no new workers", sqlstate="57P01")

    def _made(self, config: Config) -> Generation:
        self._generations += 1
        return Generation(config, self.generation, self._generations)

    def _replace(self, made: Generation, linger: float | None) -> None:
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
        self._rolling = list(range(self.workers))
        self._roll()

    def _shut_down(self, _: Child | None, hurry: bool) -> str:
        self._signals.append(signal.SIGINT if hurry else signal.SIGTERM)
        return "shutting down"

    def _workers(self, _: Child | None) -> list[dict[str, Any]]:
        now = time.monotonic()
        return [
            {
                "number": child.number,
                "pid": child.pid,
                "generation": child.generation,
                "state": _state(child),
                "age": now - child.since,
                "silent": now - child.heard,
                "quota": None if child.holder is None else child.holder.quota,
            }
            for child in self._children.values()
        ]


def _state(child: Child) -> str:
    if child.finishing or child.deaf:
        return "ending"
    return "serving" if child.serving else "starting"


def _pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a line on which clients move; what is sent waits there for whoever reads next."""
    kind = getattr(socket, "SOCK_SEQPACKET", socket.SOCK_DGRAM)
    pair = socket.socketpair(socket.AF_UNIX, kind)
    for each in pair:
        each.setblocking(False)
        with suppress(OSError):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    return pair
