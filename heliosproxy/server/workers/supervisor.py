"""The process that starts workers, heals them, passes their messages on, and rolls them over to a new configuration.

It serves no client and has no event loop of asyncio: only what is safe before a fork runs here.
"""

from __future__ import annotations

import logging
import selectors
import signal
import socket
import time
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any

from ...errors import ConfigError, HeliosError
from .child import Child, fork
from .doors import Register
from .generation import Generation
from .orders import Orders
from .shares import Shares
from .signals import Signals
from .sockets import Listening, moving_line
from .standing import Standing
from .succession import PATIENCE, SETTLED, Succession
from .switchboard import Switchboard

if TYPE_CHECKING:
    from ...config import Config

logger = logging.getLogger("heliosproxy.server")

TICK = 0.25
"""Seconds after which the supervisor looks at quotas, deadlines and workers to be started again."""


class Supervisor:
    """See the head of this file.

    Args:
        config: what to serve.
        reload: reads the configuration anew; None = it is from no file.
        started: called with the addresses once all workers accept clients.

    Raises:
        ConfigError: *config* cannot be served, an address cannot be listened on.

    Attributes:
        listening: the sockets that clients come to.
        children: the workers that run, by their numbers.
        ending: the server is to end, and starts nobody.
        signals: which wait to be acted on.
        orders: what it does when it is asked to.
        succession: who is started, and who retires.
        board: by which workers talk with each other.
    """

    def __init__(
        self,
        config: Config,
        reload: Callable[[], Config] | None = None,
        started: Callable[[list[str]], None] | None = None,
    ) -> None:
        first = Generation(config)
        places = first.server.workers
        self._started = started
        self.listening = Listening(first.server.listen, places)
        self._moves = [moving_line() for _ in range(places)]
        self.children: dict[int, Child] = {}
        self._shares = Shares(self.children, places)
        self._serial = 0
        self.ending = False
        self.signals = Signals()
        self.orders = Orders(self, reload)
        self._standing = Standing()
        self._register = Register(first.service.limits)
        self.succession = Succession(first, self.children, self._shares, self._register)
        self._selector = selectors.DefaultSelector()
        own: dict[str, Callable[..., Any]] = {
            "arrive": self._register.arrive,
            "enter": self._register.enter,
            "free": self._register.free,
            "moved": self._register.moved,
            "moving": self._register.moving,
            "ready": self._ready,
            "report": Child.report,
            **self.orders.handlers,
        }
        self.board = Switchboard(own, self._standing.passing, time.monotonic)

    @property
    def generation(self) -> Generation:
        """What all workers are to serve."""
        return self.succession.generation

    def run(self) -> None:
        """Serve until a signal ends it.

        Raises:
            ConfigError: the workers cannot be started.
        """
        self.signals.catch(self._selector)
        try:
            while self.children or self.succession.due:
                self._once()
        finally:
            self.signals.restore()
            for child in self.children.values():
                child.kill()
            self._selector.close()
            self.listening.close()
            for pair in self._moves:
                for each in pair:
                    each.close()
            self.signals.close()
        if not self.ending:
            raise ConfigError("no worker could be started: see the log", key="server.workers")

    def _once(self) -> None:
        now = time.monotonic()
        for place, at in sorted(self.succession.due.items()):
            if at <= now:
                del self.succession.due[place]
                try:
                    self._start(place)
                except OSError as error:  # no memory, no descriptor, …: who is served is served on
                    logger.error("no worker could be started: %s; tried again in %g s", error, SETTLED)
                    self.succession.due[place] = now + SETTLED
        for key, _ in self._selector.select(TICK):
            if key.data is None:
                self.signals.awake()
            else:
                self._hear(key.data)
        while self.signals.came:
            self._act(self.signals.came.pop(0))
        now = time.monotonic()
        for child in list(self.children.values()):
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

    def _act(self, which: int) -> None:
        if which == signal.SIGHUP:
            try:
                logger.info("SIGHUP: %s", self.orders.reload(None))
            except HeliosError as error:
                logger.error("SIGHUP: nothing was changed: %s", error)
            except Exception:  # whatever is wrong with the files: who is served is served on
                logger.exception("SIGHUP: nothing was changed")
        else:
            self._end(hurry=which == signal.SIGINT or self.ending)

    def _end(self, *, hurry: bool) -> None:
        seconds = 0.0 if hurry else self.generation.server.drain_timeout
        if seconds:
            logger.info("no new clients; waiting for transactions to end, %g s at most", seconds)
        else:
            logger.info("ending at once: no transaction is waited for")
        self.ending = True
        self.succession.stop()
        for child in self.children.values():
            child.finish("drain", seconds, within=seconds + PATIENCE)

    # -- workers -------------------------------------------------------------------------------------

    def _start(self, place: int) -> None:
        from .worker import Worker

        self._serial += 1
        ours, theirs = socket.socketpair()
        foreign = [child.line for child in self.children.values()]
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
        self.children[child.serial] = child
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
        self.succession.ready(child)
        started = {other.slot for other in self.children.values() if other.serving}
        if self._started is not None and len(started) == self.succession.places:
            self._started(self.listening.addresses)
            self._started = None

    def _died(self, child: Child, how: str) -> None:
        del self.children[child.serial]
        self.board.leave(child.serial)
        self._register.died(child)
        if not child.deaf:
            self._selector.unregister(child.line)
        child.line.close()
        if self.ending or child.finishing:
            return
        if not child.serving and self._started is not None:
            logger.error("worker %d could not start: %s", child.number, how)
            self.succession.stop()
            for other in self.children.values():
                other.finish("drain", 0.0, within=PATIENCE)
            return
        self.succession.died(child, how)
