"""What the supervisor does when it is asked to: by the console, by way of a worker, or by a signal."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...errors import ConfigError, HeliosError

if TYPE_CHECKING:
    from ...config import Config
    from .child import Child
    from .supervisor import Supervisor


class Orders:
    """Each method's argument is the worker that asks; None = a signal does.

    Args:
        supervisor: who carries them out.
        reload: reads the configuration anew; None = it is from no file.

    Attributes:
        handlers: by the names that workers ask by.
    """

    def __init__(self, supervisor: Supervisor, reload: Callable[[], Config] | None) -> None:
        self._supervisor = supervisor
        self._read = reload
        self.handlers: dict[str, Callable[..., Any]] = {
            "reload": self.reload,
            "restart": self.restart,
            "shutdown": self.shut_down,
            "workers": self.workers,
        }

    def reload(self, _: Child | None) -> str:
        """Let workers with the configuration as it now is take over.

        Raises:
            ConfigError: it cannot be served, or there is no file.
            HeliosError: the server ends.
        """
        if self._read is None:
            raise ConfigError("there is no configuration file: give one with --config")
        self._refuse_in_the_end()
        succession = self._supervisor.succession
        made = succession.made(self._read())
        if made.equals(succession.generation):
            return "nothing has changed"
        succession.replace(made, None)
        return f"{succession.places} workers with the new configuration take over"

    def restart(self, _: Child | None) -> str:
        """Let new workers take over; raises HeliosError when the server ends."""
        self._refuse_in_the_end()
        succession = self._supervisor.succession
        now = succession.generation
        succession.replace(succession.made(now.config), now.server.drain_timeout)
        return f"{succession.places} new workers take over"

    def _refuse_in_the_end(self) -> None:
        if self._supervisor.ending:
            raise HeliosError("the server ends: it starts no new workers", sqlstate="57P01")

    def shut_down(self, _: Child | None, hurry: bool) -> str:
        """End, at once if in a *hurry*: as soon as who asks was answered."""
        self._supervisor.signals.came.append(signal.SIGINT if hurry else signal.SIGTERM)
        return "shutting down"

    def workers(self, _: Child | None) -> list[dict[str, Any]]:
        """A row per worker."""
        now = time.monotonic()
        return [child.numbers(now) for child in self._supervisor.children.values()]
