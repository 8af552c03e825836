"""What a generation of workers serves: a configuration, and what is made of it before the fork."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ...config.features import Server
from ...errors import ConfigError
from ...proxy import Proxy
from ..checks import refuse_unservable
from ..control import FIXED
from ..service import Service

if TYPE_CHECKING:
    from ...config import Config


class Generation:
    """A configuration with its Proxy and its `Service`, which the workers inherit.

    Attributes:
        number: 1 for the first one.
        cap: server connections of all workers together; None = any number.
    """

    def __init__(self, config: Config, before: Generation | None = None, number: int = 1) -> None:
        """Build it.

        Args:
            number: no other generation's, also none's that could not be served.
            before: the generation whose place it takes; None = it is the first.

        Raises:
            ConfigError: *config* cannot be served, or is too different from the one *before*.
        """
        refuse_unservable(config)
        self.number = number
        self.config = config
        self.server = config.server or Server()
        if before is not None:
            for key in FIXED:
                if _value(config, key) != _value(before.config, key):
                    raise ConfigError(
                        f"{key} cannot change while the server runs: restart it for that", key=key
                    )
        self.proxy: Proxy = Proxy(config, after=None if before is None else before.proxy)
        self.service = Service(self.proxy, self.server)
        self.files = _changed(self.server.tls_cert, self.server.tls_key)
        self.cap = config.pool.server_connections

    def equals(self, other: Generation) -> bool:
        """Whether nothing is different, the files that it names included."""
        return self.config == other.config and self.files == other.files

    def movable(self, before: Generation) -> bool:
        """Whether clients of the generation *before* could be served by this one."""
        return "session" not in (self.config.pool.mode, before.config.pool.mode)


def _value(config: Config, key: str) -> object:
    found: object = config
    for part in key.split("."):
        found = getattr(found, part, None)
    return found


def _changed(*files: str | None) -> list[tuple[int, int]]:
    """What tells whether the files were written since."""
    stats = [os.stat(file) for file in files if file]
    return [(stat.st_mtime_ns, stat.st_ino) for stat in stats]
